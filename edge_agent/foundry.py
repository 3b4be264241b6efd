"""Builds bundles from the names of recipes, aside from the parts that run, and keeps the engines that lines share."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec

from edge_agent.activation import MEND_ENGINE, ForeignChoice, read_choice, require_engine
from edge_agent.bundle import Bundle
from edge_agent.errors import ConfigurationError, EngineError, EngineLost
from edge_agent.events import say
from edge_agent.fit import require_fit, require_time
from edge_agent.inference import kept_engine, open_segmenter
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.inference.base import Segmenter
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.prepare import least_tensors
from edge_agent.notify import Building
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.records import Identity
from edge_agent.settings import AutoEngine, Station

_KEPT_ENGINES = 4  # loaded though no line judges by them: going back to a product of before is quick
_IDLE_S = 600.0  # longer than any part waits for its picture


class Foundry:
    """Builds bundles from names; engines of the same model are shared by the lines that use it."""

    def __init__(
        self,
        station: Station,
        model: Path | None = None,
        deadline_ms: float | None = None,
        keeps_maps: bool = False,
        building: Building | None = None,
    ) -> None:
        self._station = station
        self._building = building or Building()
        self._keeps_maps = keeps_maps
        self._model = model
        self._deadline_ms = deadline_ms
        self._segmenters: dict[bytes, tuple[Segmenter, float]] = {}  # with the latency of one inference in ms
        self._idle_since_s: dict[bytes, float] = {}  # of these, the ones that no line judges by

    def forge(
        self, recipe_name: str, generation: int, guard_ms: float, *, may_wait: bool = False, kept: Recipe | None = None
    ) -> Bundle:
        """Read recipe and model, open and warm up the engine. With `may_wait` a missing engine makes a bundle that is not ready.
        `kept` is the recipe as it was read before, in the place of its file.

        Raises ConfigurationError, EngineError."""
        settings = self._station.settings
        file = self._station.path(settings.recipes) / f"{recipe_name}.yaml"
        if file.parent != self._station.path(settings.recipes):
            raise ConfigurationError(f"recipe {recipe_name!r} is no name of a file in {self._station.path(settings.recipes)}.")
        recipe = kept or load_recipe(file)
        model = load_model(self._model or self._station.path(settings.models) / recipe.model.name)
        require_fit(recipe, model, str(file))
        if self._deadline_ms is None:
            require_time(recipe, guard_ms, str(file))
        segmenter, latency_ms, engine_id = self._open(recipe, model, may_wait)
        identity = Identity(
            recipe.name,
            recipe.hash,
            model.hash,
            engine_id,
            self._deadline_ms or recipe.deadline_ms,
            generation,
        )
        refusal = self._too_slow(recipe, segmenter, latency_ms, identity.deadline_ms - guard_ms)
        if self._deadline_ms is not None:  # recorded images come in no order that a run of NG could tell anything by
            recipe = msgspec.structs.replace(recipe, alarm_after_ng=0)
        return Bundle(recipe, segmenter, identity, self._keeps_maps, refusal)

    def _engine(self, model: Model, may_wait: bool) -> tuple[Segmenter, float]:
        """The model's engine, opened at its first recipe, and the latency of one inference in ms."""
        opened = self._segmenters.get(model.papers.interface)
        if opened is not None:
            return opened
        station, what = self._station, f"the engine of {model.papers.name}"
        progress = partial(self._building.tell, what)
        try:
            segmenter = open_segmenter(station.settings.engine, model, station.base, station.path(station.settings.state), progress)
            opened = self._segmenters[model.papers.interface] = (segmenter, segmenter.warm_up())
        except EngineLost:
            raise
        except EngineError as error:
            if not may_wait:
                raise
            return AbsentSegmenter(model, str(error)), 0.0
        finally:
            self._building.end()
        return opened

    def _too_slow(self, recipe: Recipe, segmenter: Segmenter, latency_ms: float, budget_ms: float) -> str:
        """Why parts of this bundle would be FAULT not_ready; '' where it may judge them."""
        if isinstance(segmenter, AbsentSegmenter):
            return segmenter.why
        is_one_by_one = isinstance(segmenter, CpuSegmenter)  # on a GPU a part's inferences overlap
        tensors = least_tensors(recipe.regions, segmenter.rows, segmenter.cols) if is_one_by_one else 1
        if isinstance(self._station.settings.engine, AutoEngine) and tensors * latency_ms >= budget_ms:
            parts = f"{latency_ms:.1f} ms" if tensors == 1 else f"{latency_ms:.1f} ms, a part has {tensors} of them at least"
            return (
                f"one inference on {segmenter.engine_id} takes {parts}, the recipe's deadline less the guard leaves "
                f"{budget_ms:g} ms. Mend the GPU (docs/gpu.md), raise the deadline, or set engine: {{kind: cpu}}."
            )
        return ""

    def _open(self, recipe: Recipe, model: Model, may_wait: bool) -> tuple[Segmenter, float, str]:
        """The engine that judges by this recipe, its latency and its id: the calibrated one's where the station chose one."""
        try:
            chosen = self._chosen(recipe, model)
        except EngineLost:
            raise
        except (ForeignChoice, ConfigurationError, EngineError) as error:
            remedy = error.remedy if isinstance(error, ForeignChoice) else MEND_ENGINE
            say("engine.choice_refused", recipe=recipe.name, model=model.papers.name, why=str(error), remedy=remedy)
            chosen = None
        if chosen is not None:
            return chosen
        segmenter, latency_ms = self._engine(model, may_wait)
        return segmenter, latency_ms, segmenter.engine_id

    def _chosen(self, recipe: Recipe, model: Model) -> tuple[Segmenter, float, str] | None:
        """None where a model is given in place of the recipe's: then it is that file which is looked at."""
        state = self._station.path(self._station.settings.state)
        found = None if self._model else read_choice(state, recipe, model)
        if found is None:
            return None
        choice, calibrated = found
        if calibrated.papers.interface not in self._segmenters:
            kept = kept_engine(self._station.settings.engine, calibrated, state)
            if kept is not None:  # before another is built for minutes, which no gate has seen
                require_engine(choice, kept)
        segmenter, latency_ms = self._engine(calibrated, may_wait=False)
        require_engine(choice, segmenter.engine_id)
        say("engine.choice_used", recipe=recipe.name, model=model.papers.name, candidate=choice.label, speedup=choice.speedup)
        return segmenter, latency_ms, f"{segmenter.engine_id}/{choice.label}"

    def release(self, in_use: Iterable[Segmenter]) -> None:
        """Unload engines that no line has judged by for long, but for those used last. Called before each change."""
        now_s, busy = time.monotonic(), {id(segmenter) for segmenter in in_use}
        for key, (segmenter, _) in self._segmenters.items():
            if id(segmenter) in busy:
                self._idle_since_s.pop(key, None)
            else:
                self._idle_since_s.setdefault(key, now_s)
        idle = sorted(self._idle_since_s, key=self._idle_since_s.__getitem__)
        for key in idle[: max(0, len(idle) - _KEPT_ENGINES)]:
            if now_s - self._idle_since_s[key] > _IDLE_S:
                del self._idle_since_s[key]
                self._segmenters.pop(key)[0].close()

    def close(self) -> None:
        for segmenter, _ in self._segmenters.values():
            segmenter.close()
