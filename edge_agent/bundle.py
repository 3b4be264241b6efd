"""What judges a part: recipe, model, engine and all that is made from them. Immutable; a line swaps the whole bundle.

`Inspection` is one part's way through a bundle, on the line's inspect thread. `foundry.py` builds bundles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from edge_agent.clock import to_ms
from edge_agent.events import say
from edge_agent.inference.base import Network, Segmenter, TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.prepare import RegionError, RegionPlan, plan_region
from edge_agent.judgement.judge import Judge
from edge_agent.judgement.quality import QualityGate
from edge_agent.measured import Measured, merge
from edge_agent.measurement.region import RegionMeasurer
from edge_agent.measurement.scale import Transform
from edge_agent.recipe import Recipe, Zone
from edge_agent.records import FAULT, Finding, Frame, Identity, Judgement, Part, Pixels

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

    def refused(self, why: str) -> Bundle:
        """The same, which cannot be Ready for this reason."""
        return Bundle(self.recipe, self.segmenter, self.identity, self.keeps_maps, why)

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
        yield from ((plan, worst_of(maps)) for plan, maps in self.class_maps())

    def class_maps(self) -> Iterator[tuple[RegionPlan, Pixels]]:
        """Yield each region's plan and its maps (classes, rows, cols) uint8. Valid until the part is concluded."""
        if self._layout is not None and self._maps:
            yield from ((plan, maps) for plan, maps in zip(self._layout.plans, self._maps, strict=True) if maps.size)


def worst_of(maps: Pixels) -> Pixels:
    """The map of any defect (rows, cols) of a region's maps (classes, rows, cols); of more than one class in memory of its own."""
    worst: Pixels = maps[0] if len(maps) == 1 else np.max(maps, axis=0)
    return worst
