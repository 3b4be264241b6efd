"""Looks at what will judge: for each recipe the model as it is or the station's calibrated choice, and whether its TensorRT engine
is built. Builds nothing and changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_agent.activation import FOLDER, Choice, ForeignChoice, read_choice, require_engine
from edge_agent.commands.doctor.looks import Look, note, problem, well
from edge_agent.commands.doctor.machine import is_closed
from edge_agent.errors import ConfigurationError, EngineError, EngineUnavailable, remedy_of
from edge_agent.inference import ENGINES, kept_engine
from edge_agent.inference.cpu import cpu_engine_id
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.tensorrt import find_engine
from edge_agent.inference.tensorrt.store import Refused
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.settings import AutoEngine, CpuEngine, Station, TensorRtEngine

_AREA = "engine"
_SEE_TABLE = "mend what it says (docs/gpu.md has a table of causes and remedies), or set engine: {kind: cpu}"


@dataclass(frozen=True, slots=True)
class _Judge:
    """Of one recipe: the model that is to judge, calibrated or not, and its choice."""

    station: Station
    recipe: str
    model: Model
    choice: Choice | None

    @property
    def told(self) -> str:
        if self.choice is None:
            return f"recipe {self.recipe}: the model {self.model.papers.name} as it is"
        each = self.choice
        gate = f"{each.flips} of {each.images} verdicts flipped, {each.speedup:.2f} times FP32's speed, {each.made_at}"
        return f"recipe {self.recipe}: calibrated {each.label} ({gate})"


def of_engines(station: Station, asked: Iterable[str] = ()) -> Iterator[Look]:
    """What judges by each recipe of the settings, and by those asked for instead; of files that cannot be read the files' part
    tells, of a state folder that this user may not look into its own look."""
    settings = station.settings
    if is_closed(station.path(settings.state)):
        return
    for name in dict.fromkeys((*(view.recipe for line in settings.lines for view in line.each_view), *asked)):
        try:
            recipe = load_recipe(station.path(settings.recipes) / f"{name}.yaml")
            model = load_model(station.path(settings.models) / recipe.model.name)
        except ConfigurationError:
            continue
        yield from _of_recipe(station, recipe, model)


def _of_recipe(station: Station, recipe: Recipe, model: Model) -> Iterator[Look]:
    state = station.path(station.settings.state)
    try:
        found = read_choice(state, recipe, model)
        if found is not None:
            _require_kept(station, *found)
    except (ForeignChoice, OSError) as error:
        yield _foreign(recipe.name, error, state)
        found = None
    choice, judging = found if found is not None else (None, model)
    judge = _Judge(station, recipe.name, judging, choice)
    match station.settings.engine:
        case CpuEngine() as settings:
            yield _of_processor(judge, settings)
        case TensorRtEngine() as settings:
            yield _of_gpu(judge, settings, falls_back=False)
        case AutoEngine():
            yield _of_gpu(judge, TensorRtEngine(), falls_back=True)
        case _:
            yield well(_AREA, judge.told)


def _require_kept(station: Station, choice: Choice, calibrated: Model) -> None:
    """Raise ForeignChoice where the built engine that passed the gate is gone. That there is no GPU is told with the engine."""
    settings = station.settings.engine
    with contextlib.suppress(EngineError, ConfigurationError, PackageNotFoundError):
        kept = kept_engine(settings, calibrated, station.path(station.settings.state))
        if kept is None and isinstance(settings, AutoEngine):
            kept = cpu_engine_id(CpuEngine().hint, version("openvino"))
        if kept is not None:
            require_engine(choice, kept)


def _foreign(recipe: str, error: ForeignChoice | OSError, state: Path) -> Look:
    remedy = error.remedy if isinstance(error, ForeignChoice) else remedy_of(error)
    told = f"recipe {recipe}: the calibrated choice is not used, the model judges as it is: {error}"
    return note(_AREA, told, f"{remedy}; or delete {state / FOLDER / recipe}.json")


def _of_processor(judge: _Judge, settings: CpuEngine) -> Look:
    try:
        engine_id = cpu_engine_id(settings.hint, version("openvino"))
    except PackageNotFoundError:
        return well(_AREA, judge.told)  # that it is missing is said with the libraries
    return _held(judge, engine_id, f"{judge.told}, by {engine_id}")


def _held(judge: _Judge, engine_id: str, told: str) -> Look:
    """Well, unless the choice was made with another engine."""
    try:
        if judge.choice is not None:
            require_engine(judge.choice, engine_id)
    except ForeignChoice as error:
        return _foreign(judge.recipe, error, judge.station.path(judge.station.settings.state))
    return well(_AREA, told)


def _of_gpu(judge: _Judge, settings: TensorRtEngine, *, falls_back: bool) -> Look:
    """Is the engine built, for this very GPU, driver and TensorRT?"""
    folder = judge.station.path(judge.station.settings.state) / ENGINES
    ahead = f"build it ahead: edge-agent build-engine --config {judge.station.file}"
    try:
        found = find_engine(settings, judge.model, folder)
    except Refused as error:
        return note(_AREA, f"{judge.told}: it would be built anew at the start, for minutes: {error}", ahead)
    except EngineUnavailable as error:
        if falls_back:
            return note(_AREA, f"{judge.told}, by the CPU: {error}", "mend that for the GPU, or set engine: {kind: cpu}")
        return problem(_AREA, f"{judge.told}: {error}", _SEE_TABLE)
    except (EngineError, ConfigurationError) as error:
        return problem(_AREA, f"{judge.told}: {error}", _SEE_TABLE)
    if found.manifest is None:
        return note(_AREA, f"{judge.told}: its engine {found.file} would be built at the start, for minutes", ahead)
    parity = found.manifest.parity or "not held against the CPU"
    return _held(judge, found.engine_id, f"{judge.told}, by {found.engine_id}, built {found.manifest.built} ({parity})")
