"""What the steps of `prove_gpu.py` stand on: what they are asked, what they answer, pictures, inferences in numbers, and memory."""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.camera.texture import draw_part
from edge_agent.errors import EngineError
from edge_agent.inference import tensorrt
from edge_agent.inference.base import Segmenter, TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.tensorrt import open_tensorrt
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.records import Pixels
from edge_agent.settings import TensorRtEngine

TOOLS = Path(__file__).parent
ROOT = TOOLS.parents[1]
WAIT_S = 60.0
Settings = dict[str, Any]  # of a TensorRtEngine, what is not as by itself


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a step is asked. `seconds` is what it may take; it is killed at their end."""

    model: str
    engines: str  # folder
    images: int = 200
    inferences: int = 100_000
    candidates: str = ""
    seconds: float = 600.0


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the report."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a step."""

    state: Literal["proved", "skipped", "NOT PROVED"]
    told: str
    sheets: list[Sheet] = []


class Skipped(Exception):
    """A step that cannot be tried on this machine, and why."""


@dataclass
class Task:
    """An order on its way: what steps read, and the sheets that they fill."""

    order: Order
    sheets: list[Sheet] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model: Model = load_model(Path(self.order.model))
        self.engines = Path(self.order.engines)
        self.until = time.monotonic() + self.order.seconds

    @property
    def is_stand_in(self) -> bool:
        return load_library().version.endswith("stand-in")

    def sheet(self, title: str, *columns: str) -> list[list[str]]:
        """Begin a table; return its rows, to be added to."""
        self.sheets.append(Sheet(title=title, columns=list(columns), rows=[]))
        return self.sheets[-1].rows

    def size(self) -> tuple[int, int]:
        return self.model.papers.input.rows, self.model.papers.input.cols


def require(*modules: str) -> None:
    """Raise Skipped where one of them is not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise Skipped(f"{name} is not here")


# --- engines ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def opened(task: Task, model: Model | None = None, **settings: Any) -> Iterator[TensorRtSegmenter]:
    """The engine as a station opens it: from its file, or built. Idle it does nothing, unless `settings` say otherwise."""
    engine = open_tensorrt(TensorRtEngine(**{"keep_warm_ms": 0, **settings}), model or task.model, task.engines)
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def opened_on(gpu: Gpu, task: Task, **settings: Any) -> Iterator[TensorRtSegmenter]:
    """As `opened`, on a Gpu that looks at what is asked of it."""
    with opened(task) as built:  # its file is there now, and a Jetson has chosen its memory
        memory = built.memory
    wishes = TensorRtEngine(**{"keep_warm_ms": 0, "memory": memory, **settings})
    usual = tensorrt.Gpu  # type: ignore[attr-defined]
    tensorrt.Gpu = lambda _: gpu  # type: ignore[attr-defined, assignment, misc]
    try:
        engine = open_tensorrt(wishes, task.model, task.engines)
    finally:
        tensorrt.Gpu = usual  # type: ignore[attr-defined]
    try:
        yield engine
    finally:
        engine.close()


# --- pictures and inferences ------------------------------------------------------------------------------------------
def pictures(rows: int, cols: int, count: int) -> list[Pixels]:
    """In turns a drawn part, every second with a defect, and noise from flat to wild, dark to bright."""
    rng = np.random.default_rng(7)
    drawn = [draw_part(7, index, rows, cols, defect_share=0.5, empty_share=0).pixels for index in range(-(-count // 2))]
    noise = [
        np.clip(rng.normal(40 + 37 * index % 180, 23 * index % 60, (rows, cols)), 0, 255).astype(np.uint8)
        for index in range(count // 2)
    ]
    return [(drawn if index % 2 == 0 else noise)[index // 2] for index in range(count)]


def infer(engine: Segmenter, source: Pixels | None = None, done: Callable[[TensorSlot], None] | None = None) -> TensorSlot:
    """One inference, of the slot's own tensor where there is no `source`; `done` is called first, on the engine's thread.

    The slot is still leased. Raises EngineError, queue.Empty."""
    finished: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()

    def finish(slot: TensorSlot) -> None:
        try:
            if done is not None:
                done(slot)
        finally:
            finished.put(slot)

    slot = engine.lease()
    assert slot is not None, "no slot is free"
    slot.ticket = time.monotonic_ns()
    engine.submit(slot, slot.tensor if source is None else source, finish)
    finished.get(timeout=WAIT_S)
    if slot.failure:
        raise EngineError(slot.failure)
    return slot


def maps_of(engine: Segmenter, frames: Sequence[Pixels]) -> Pixels:
    """(pictures, classes, rows, cols) uint8. Raises EngineError for a map that cannot be believed."""
    maps = []
    for frame in frames:
        slot = infer(engine, frame)
        require_believable(slot, int(slot.maps.max()))
        maps.append(slot.maps.copy())
        engine.release(slot)
    return np.stack(maps)


@dataclass(frozen=True, slots=True)
class Rate:
    """All slots kept busy: images/s, and one inference's ms from submit to answer."""

    images_per_s: float
    p50_ms: float
    p99_ms: float


def run_many(engine: Segmenter, count: int, sources: Sequence[Pixels] = (), seconds: float = float("inf")) -> Rate:
    """Run until `count` are done or the time is over; pictures from `sources` in turn, or what lies in the slots.

    Raises EngineError."""
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    times = np.empty(count)
    taken = submitted = 0
    began = time.perf_counter()
    while taken < count:
        while submitted < count and (slot := engine.lease()) is not None:
            slot.ticket = time.monotonic_ns()
            engine.submit(slot, sources[submitted % len(sources)] if sources else slot.tensor, done.put)
            submitted += 1
        slot = done.get(timeout=WAIT_S)
        if slot.failure:
            raise EngineError(slot.failure)
        times[taken] = (slot.done_ns - slot.ticket) / 1e6
        taken += 1
        engine.release(slot)
        if time.perf_counter() - began > seconds:
            count = submitted
    lasted = time.perf_counter() - began
    p50, p99 = np.quantile(times[:taken], (0.5, 0.99))
    return Rate(taken / lasted, float(p50), float(p99))


def quantiles(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    p50, p99 = np.quantile(values, (0.5, 0.99))
    return f"p50 {p50:.4f} ms, p99 {p99:.4f} ms"


# --- memory -----------------------------------------------------------------------------------------------------------
def host_mb() -> float:
    """Memory that is this process's alone, resident now."""
    status = Path("/proc/self/status").read_text()
    return next(float(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1024


def device_mb(gpu: Gpu) -> float:
    """Of the GPU, in use by whomever, as the driver tells; on a thread that has its context."""
    import pycuda.driver as driver

    with gpu.translated("asking for free memory"):
        free, whole = driver.mem_get_info()
    return float(whole - free) / (1 << 20)
