"""What judges a part: recipe, model, engine and all that is made from them. Immutable; a line swaps the whole bundle.

`Foundry` builds bundles aside; `Inspection` is one part's way through one of them, on the line's inspect thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from edge_agent.activation import MEND_ENGINE, ForeignChoice, read_choice, require_engine
from edge_agent.clock import to_ms
from edge_agent.errors import ConfigurationError, EngineError, EngineLost
from edge_agent.events import say
from edge_agent.fit import require_fit, require_time
from edge_agent.inference import kept_engine, open_segmenter
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.inference.base import Network, Segmenter, TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.prepare import RegionError, RegionPlan, least_tensors, plan_region
from edge_agent.judgement.judge import Judge
from edge_agent.judgement.quality import QualityGate
from edge_agent.measured import Measured, merge
from edge_agent.measurement.region import RegionMeasurer
from edge_agent.measurement.scale import Transform
from edge_agent.notify import Building
from edge_agent.recipe import Recipe, Zone, load_recipe
from edge_agent.records import FAULT, Finding, Frame, Identity, Judgement, Part, Pixels
from edge_agent.settings import AutoEngine, Station

_KEPT_ENGINES = 4  # loaded though no line judges by them: going back to a product of before is quick
_IDLE_S = 600.0  # longer than any part waits for its picture
_MOST_SHAPES = 64  # frame shapes whose plans are kept; live cameras have one


class Layout:
    """Plans and measurers of every region for frames of one shape, with a canvas for each region of several tiles."""

    def __init__(self, recipe: Recipe, segmenter: Network, rows: int, cols: int) -> None:
        self.plans: list[RegionPlan] = []
        self.measurers: list[RegionMeasurer] = []
        self.canvases: list[Pixels | None] = []
        for region in recipe.regions:
            plan = plan_region(region, rows, cols, segmenter.rows, segmenter.cols)
            transform = Transform(plan.box.x, plan.box.y, plan.scale_x, plan.scale_y)
            self.plans.append(plan)
            self.measurers.append(RegionMeasurer(recipe, segmenter.classes, plan.canvas_rows, plan.canvas_cols, transform))
            shape = (len(segmenter.classes), plan.canvas_rows, plan.canvas_cols)
            self.canvases.append(np.zeros(shape, np.uint8) if len(plan.tiles) > 1 else None)
        self._require_sight(recipe, rows, cols)
        self.jobs = [(region, tile) for region, plan in enumerate(self.plans) for tile in range(len(plan.tiles))]
        self.is_stitched = len(self.jobs) > len(self.plans)

    def _require_sight(self, recipe: Recipe, rows: int, cols: int) -> None:
        """Raise RegionError for a zone nobody looks into and for a region of which nothing is left: they would pass everything."""
        for rule in recipe.rules:
            if isinstance(rule, Zone) and not any(measurer.sees(rule.name) for measurer in self.measurers):
                raise RegionError(
                    f"zone {rule.name} lies in no region of a frame of {cols}x{rows} pixels, or exclusions cover all of it there. "
                    "Mend its polygon, the regions or the exclusions."
                )
        for plan, measurer in zip(self.plans, self.measurers, strict=True):
            if not measurer.inspected_px:
                raise RegionError(f"the exclusions leave nothing of region {plan.region.name} to inspect. Mend their polygons.")


class Bundle:
    """Recipe, model and engine of one generation. Used by one line's inspect thread. `refusal` says why it cannot be Ready."""

    def __init__(self, recipe: Recipe, segmenter: Segmenter, identity: Identity, keeps_maps: bool, refusal: str = "") -> None:
        self.recipe = recipe
        self.refusal = refusal
        self.keeps_maps = keeps_maps or recipe.evidence.probability_map != "never"
        self.segmenter = segmenter
        self.identity = identity
        self.judge = Judge(recipe)
        self.gate = QualityGate(recipe.quality, recipe.presence)
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._unfit: dict[tuple[int, ...], str] = {}  # shapes of frames that the recipe does not fit, and why

    def begin(self, part: Part, frame: Frame) -> Inspection:
        return Inspection(self, part, frame)

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Return the layout for frames of `shape`, made at the first of them. Raises RegionError where it does not fit."""
        layout = self._layouts.get(shape)
        if layout is None:
            if shape in self._unfit:
                raise RegionError(self._unfit[shape])
            if len(self._layouts) + len(self._unfit) >= _MOST_SHAPES:
                self._layouts.clear()
                self._unfit.clear()
            try:
                layout = self._layouts[shape] = Layout(self.recipe, self.segmenter, *shape)
            except RegionError as error:
                self._unfit[shape] = str(error)
                say("line.recipe_unfit", recipe=self.recipe.name, rows=shape[0], cols=shape[1], why=str(error))
                raise
        return layout


class Inspection:
    """One part between its picture and its judgement."""

    __slots__ = (
        "_began_ns",
        "_layout",
        "_left",
        "_maps",
        "_measured",
        "_next",
        "_quality",
        "_submitted_ns",
        "all_submitted",
        "bundle",
        "frame",
        "is_concluded",
        "is_stitched",
        "part",
    )

    def __init__(self, bundle: Bundle, part: Part, frame: Frame) -> None:
        self.bundle = bundle
        self.part = part
        self.frame = frame
        self.is_concluded = False
        self.all_submitted = False
        self.is_stitched = False  # True where regions are put together on canvases, which serve one part at a time
        self._began_ns = time.monotonic_ns()
        self._submitted_ns = 0
        self._quality: list[Finding] = []
        self._measured: list[Measured | None] = []
        self._left: list[int] = []
        self._next = 0
        self._maps: list[Pixels] = []
        self._layout: Layout | None = None

    def look(self) -> Judgement | None:
        """Check the picture and lay out its tensors; return a FAULT where it cannot be judged. Raises RegionError."""
        layout = self._layout = self.bundle.layout(self.frame.pixels.shape)
        self.is_stitched = layout.is_stitched
        box = layout.plans[0].box
        self._quality, reason = self.bundle.gate.look(box.cut(self.frame.pixels), self.frame.is_live)
        if reason:
            return Judgement(FAULT, (reason,), findings=tuple(self._quality))
        self._left = [len(plan.tiles) for plan in layout.plans]
        self._measured = [None] * len(layout.plans)
        self._maps = [np.empty((0, 0, 0), np.uint8)] * len(layout.plans)
        return None

    @property
    def is_untouched(self) -> bool:
        """True while no tensor of the part went to the engine."""
        return self._next == 0

    def submit(self, slot: TensorSlot, done: Callable[[TensorSlot], None]) -> None:
        """Give the next tensor to the engine. Raises EngineError."""
        assert self._layout is not None
        region, tile = self._layout.jobs[self._next]
        self._next += 1
        self.all_submitted = self._next == len(self._layout.jobs)
        slot.ticket = (self, region, tile)
        self._submitted_ns = self._submitted_ns or time.monotonic_ns()
        source = self._layout.plans[region].tensor(tile, self.frame.pixels, slot.tensor)
        self.bundle.segmenter.submit(slot, source, done)

    def take_map(self, slot: TensorSlot) -> Judgement | None:
        """Take a finished map; return the judgement when it was the last. Raises EngineError for one not to be believed."""
        assert self._layout is not None
        _, region, tile = slot.ticket
        levels = [int(each.max()) for each in slot.maps]
        require_believable(slot, max(levels))
        maps = slot.maps
        canvas = self._layout.canvases[region]
        if canvas is not None:
            if self._left[region] == len(self._layout.plans[region].tiles):
                canvas.fill(0)
            self._layout.plans[region].stitch(tile, maps, canvas)
            maps, levels = canvas, []
        self._left[region] -= 1
        if self._left[region]:
            return None
        return self._measure(region, maps, levels, slot.done_ns)

    def _measure(self, region: int, maps: Pixels, levels: list[int], map_ns: int) -> Judgement | None:
        assert self._layout is not None
        self._measured[region] = self._layout.measurers[region].measure(maps, levels)
        if self.bundle.keeps_maps:
            self._maps[region] = maps if len(self._measured) == 1 else maps.copy()  # the slot serves the next region
        measured = [each for each in self._measured if each is not None]
        if len(measured) < len(self._measured):
            return None
        judgement = self.bundle.judge.judge(merge(measured), self._quality)
        return msgspec.structs.replace(judgement, stages_ms=self._stages(map_ns), map_ns=map_ns)

    def _stages(self, map_ns: int) -> dict[str, float]:
        """Where the time went, in ms: waiting and camera, picture checks and waiting for the engine, inference, judging."""
        return {
            "capture": to_ms(self._began_ns - self.part.trigger_ns),
            "prepare": to_ms(self._submitted_ns - self._began_ns),
            "infer": to_ms(map_ns - self._submitted_ns),
            "judge": to_ms(time.monotonic_ns() - map_ns),
        }

    def maps(self) -> Iterator[tuple[RegionPlan, Pixels]]:
        """Yield each region's plan and its map of any defect (rows, cols) uint8. Valid until the part is concluded."""
        yield from ((plan, maps[0] if len(maps) == 1 else maps.max(axis=0)) for plan, maps in self.class_maps())

    def class_maps(self) -> Iterator[tuple[RegionPlan, Pixels]]:
        """Yield each region's plan and its maps (classes, rows, cols) uint8. Valid until the part is concluded."""
        if self._layout is not None and self._maps:
            yield from ((plan, maps) for plan, maps in zip(self._layout.plans, self._maps, strict=True) if maps.size)


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

    def forge(self, recipe_name: str, generation: int, guard_ms: float, *, may_wait: bool = False) -> Bundle:
        """Read recipe and model, open and warm up the engine. With `may_wait` a missing engine makes a bundle that is not ready.

        Raises ConfigurationError, EngineError."""
        settings = self._station.settings
        file = self._station.path(settings.recipes) / f"{recipe_name}.yaml"
        if file.parent != self._station.path(settings.recipes):
            raise ConfigurationError(f"recipe {recipe_name!r} is no name of a file in {self._station.path(settings.recipes)}.")
        recipe = load_recipe(file)
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
