"""Is what was built the network? Maps of a few pictures, held against the same ONNX on the CPU.

Builders have miscompiled networks silently; a wrong engine looks well until it passes a bad part.
"""

from __future__ import annotations

import importlib.util
import queue
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import EngineError
from edge_agent.events import say
from edge_agent.inference.base import Segmenter, infer
from edge_agent.inference.believe import require_believable
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.model import Model
from edge_agent.inference.probe import pictures
from edge_agent.inference.tensorrt.store import write_whole
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

# Two right engines differ by rounding, a fraction of a map level; a miscompiled one by far more.
MOST_LEVELS = 1.5
MOST_FLIPS_PPM = 5000.0
_WAIT_S = 60
_HALF = 128


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two sets of maps are apart: mean absolute map levels, and pixels on another side of one half, in ppm."""

    levels: float
    flips_ppm: float

    @property
    def holds(self) -> bool:
        return self.levels <= MOST_LEVELS and self.flips_ppm <= MOST_FLIPS_PPM

    def __str__(self) -> str:
        return f"{self.levels:.3f} map levels, {self.flips_ppm:.0f} ppm of the pixels"


class Differs(EngineError):
    """The engine was built, but is not the network. The same builder would most likely build the same again."""


def shown(rows: int, cols: int) -> list[Pixels]:
    """The pictures: flat ones and noise, and one with an edge, a ramp and spots such as a camera sees."""
    down, across = np.mgrid[0:rows, 0:cols]
    scene = 60 + 120 * across / max(1, cols - 1) + 30 * (down > rows // 2)
    for place in range(1, 6):
        near = (down - rows * place // 6) ** 2 + (across - cols * (place * 3 % 6) // 6) ** 2
        scene[near < (2 + 2 * place) ** 2] = 250 if place % 2 else 5
    return [*(picture for _, picture in pictures(rows, cols)), scene.astype(np.uint8)]


def maps_of(segmenter: Segmenter) -> Pixels:
    """Return (pictures, classes, rows, cols) uint8. Raises EngineError for an engine that fails or gives no answer, Differs for a
    map that cannot be believed."""
    found = []
    for picture in shown(segmenter.rows, segmenter.cols):
        try:
            slot = infer(segmenter, picture, _WAIT_S)
        except queue.Empty:
            raise EngineError(f"{segmenter.engine_id} gave no answer within {_WAIT_S} s. Look at `nvidia-smi`.") from None
        if slot.failure:
            raise EngineError(slot.failure)
        try:
            require_believable(slot, int(slot.maps.max()))
        except EngineError as error:
            raise Differs(str(error)) from None
        found.append(slot.maps.copy())
        segmenter.release(slot)
    return np.stack(found)


def compare(expected: Pixels, found: Pixels) -> Parity:
    """Both (pictures, classes, rows, cols) uint8."""
    difference = np.abs(expected.astype(np.int16) - found.astype(np.int16))
    flips = np.count_nonzero((expected >= _HALF) != (found >= _HALF))
    return Parity(float(difference.mean()), 1e6 * flips / expected.size)


def reference_of(model: Model, file: Path) -> Pixels | None:
    """The CPU's maps, stored beside the engines at the first time where the disk takes them; None without OpenVINO.

    Raises ConfigurationError for a network whose answers nobody could believe."""
    stored = _stored(file)
    if stored is not None:
        return stored
    if importlib.util.find_spec("openvino") is None:
        return None
    segmenter, _ = open_cpu(CpuEngine(hint="latency", requests=1), model, is_reference=True)
    try:
        maps = maps_of(segmenter)
    finally:
        segmenter.close()
    try:
        write_whole(file, _HEAD + np.array(maps.shape, np.int32).tobytes() + maps.tobytes())
    except OSError as error:
        say("engine.not_stored", model=model.papers.name, why=f"{file}: {error.strerror}")
    return maps


_HEAD = b"edge-agent maps 1\n"


def _stored(file: Path) -> Pixels | None:
    """Maps written before; None for anything else."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    start = len(_HEAD) + 16
    if not data.startswith(_HEAD) or len(data) < start:
        return None
    shape = tuple(int(size) for size in np.frombuffer(data[len(_HEAD) : start], np.int32))
    if min(shape) < 1 or int(np.prod(shape, dtype=np.int64)) != len(data) - start:
        return None
    return np.frombuffer(data[start:], np.uint8).reshape(shape)


def require_parity(segmenter: Segmenter, model: Model, file: Path) -> str:
    """Return how near the engine is to its reference; '' where this machine has no CPU engine to tell.

    Raises Differs, EngineError."""
    expected = reference_of(model, file)
    if expected is None:
        return ""
    found = maps_of(segmenter)
    if found.shape != expected.shape:
        raise Differs(f"the engine's maps are {found.shape}, the reference's {expected.shape}")
    parity = compare(expected, found)
    if not parity.holds:
        raise Differs(
            f"the engine was built, but its maps differ from the CPU's by {parity}; at most {MOST_LEVELS:g} levels and "
            f"{MOST_FLIPS_PPM:g} ppm are rounding. It is not used. Try another engine.optimization, another TensorRT, or cpu."
        )
    return str(parity)
