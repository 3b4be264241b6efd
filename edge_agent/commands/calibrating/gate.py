"""A candidate on this station: the very same line over the golden images, and its speed beside FP32's in the same minutes."""

from __future__ import annotations

import math
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import yaml

from edge_agent.bundle import Inspection
from edge_agent.commands.calibrating.images import Golden
from edge_agent.commands.replay import run_folder
from edge_agent.errors import EdgeAgentError, EngineError
from edge_agent.inference.base import Segmenter, TensorSlot
from edge_agent.inference.model import Model
from edge_agent.measured import merge
from edge_agent.qualification.gate import Case
from edge_agent.recipe import ClassLimits, ModelReference, Recipe
from edge_agent.records import FAULT, Judgement, Pixels
from edge_agent.settings import EngineSettings
from edge_agent.wire import Verdict

_EDGE = 0.5 / 255  # a map has 255 levels: nothing is known beyond half a level from 0 and 1
_ROUNDS = 9
_LEAST_FRAMES = 4  # in each round
_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Judged:
    """One side's run over the golden images, in their order."""

    verdicts: list[Verdict]
    cases: list[Case]


def judge(
    model: Model,
    recipe: Recipe,
    engine: EngineSettings,
    images: Sequence[Golden],
    advance: Callable[[], None],
    engines: Path | None = None,
) -> Judged:
    """Run every image through the line with this model's file, on its engine from the folder `engines` where one is built.

    Raises EdgeAgentError where not all come out."""
    verdicts: dict[int, Verdict] = {}
    margins: dict[int, float] = {}
    limits = {name: recipe.classes.get(name, ClassLimits()).threshold for name in model.papers.classes}

    def note(verdict: Verdict) -> None:
        verdicts[verdict.seq] = verdict
        advance()

    def observe(inspection: Inspection, judgement: Judgement) -> None:
        if judgement.outcome != FAULT:
            margins[inspection.part.seq] = _margin(inspection, limits)

    with tempfile.TemporaryDirectory(prefix="edge-agent-gate-") as text:
        folder = Path(text)
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            (folder / "images" / f"{number:08d}{image.file.suffix}").symlink_to(image.file.resolve())
        rules = _recipe_for_all(recipe, folder / f"{recipe.name}.yaml")
        run_folder(_folder_of(model, folder / "model"), rules, folder / "images", observe, note, engine, engines)
    if len(verdicts) != len(images):
        raise EdgeAgentError(f"only {len(verdicts)} of {len(images)} images were judged before the station stopped. Run it again.")
    cases = [
        Case(image.name, verdicts[n].outcome, margins.get(n), image.is_defective, image.defect_px)
        for n, image in enumerate(images, 1)
    ]
    return Judged([verdicts[n] for n in range(1, len(images) + 1)], cases)


def _margin(inspection: Inspection, limits: Mapping[str, float]) -> float:
    """The distance of the highest probability to its class's threshold, in log-odds; of several classes the largest."""
    layout = inspection.bundle.layout(inspection.frame.pixels.shape)
    maps = [each for _, each in inspection.class_maps()]
    peaks = merge([measurer.measure(each) for measurer, each in zip(layout.measurers, maps, strict=True)]).peak
    return max(log_odds(peak) - log_odds(limits[name]) for name, peak in peaks.items())


def log_odds(share: float) -> float:
    kept = min(max(share, _EDGE), 1 - _EDGE)
    return math.log(kept / (1 - kept))


def _folder_of(model: Model, folder: Path) -> Path:
    """A model folder with this model's papers and file, as the line wants one."""
    folder.mkdir()
    (folder / model.papers.onnx.file).symlink_to(model.onnx.resolve())
    (folder / "model.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(model.papers)))
    return folder


def _recipe_for_all(recipe: Recipe, file: Path) -> Path:
    """The recipe without the hash of one file, since each side has its own."""
    rules = msgspec.structs.replace(recipe, model=ModelReference(name=recipe.model.name))
    file.write_text(yaml.safe_dump(msgspec.to_builtins(rules)))
    return file


@dataclass(frozen=True, slots=True)
class Speed:
    """Flat out with every slot in flight. `ratio` is the median over rounds of the speed by FP32's in the same round."""

    images_per_s: float
    latency_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def measure_speeds(engines: Mapping[str, Segmenter], reference: str, frames: Sequence[Pixels], seconds: float) -> dict[str, Speed]:
    """Run every engine in turn, round by round, `seconds` each in all, so that what disturbs one disturbs all."""
    latency = {name: _latency_ms(engine, frames) for name, engine in engines.items()}
    count = {name: max(_LEAST_FRAMES, round(seconds / _ROUNDS / latency[name] * 1000)) for name in engines}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    names = list(engines)
    for turn in range(_ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(_images_per_s(engines[name], frames, count[name]))
    speeds = {}
    for name in engines:
        ratios = sorted(own / other for own, other in zip(rates[name], rates[reference], strict=True))
        ends = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        speeds[name] = Speed(statistics.median(rates[name]), latency[name], statistics.median(ratios), *ends)
    return speeds


def _latency_ms(engine: Segmenter, frames: Sequence[Pixels]) -> float:
    """Median of one image at a time."""
    return statistics.median(1000 / _images_per_s(engine, frames[:1], 1) for _ in range(_LEAST_FRAMES + 1))


def _images_per_s(engine: Segmenter, frames: Sequence[Pixels], count: int) -> float:
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    running = started = 0
    began = time.perf_counter()
    while started < count or running:
        slot = engine.lease() if started < count else None
        if slot is not None:
            np.copyto(slot.tensor, frames[started % len(frames)])
            engine.submit(slot, slot.tensor, done.put)
            started, running = started + 1, running + 1
            continue
        slot = done.get(timeout=_WAIT_S)
        engine.release(slot)
        running -= 1
        if slot.failure:
            raise EngineError(slot.failure)
    return count / (time.perf_counter() - began)
