"""The real line over a labelled dataset: what it said of each image, and what it would have said at other thresholds."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Inspection, Layout
from edge_agent.commands.replay import frame_map, run_folder
from edge_agent.dataset import MASK_ABOVE, Labelled, Loaded, load
from edge_agent.errors import ConfigurationError, EdgeAgentError
from edge_agent.inference.prepare import RegionPlan
from edge_agent.judgement.judge import Judge
from edge_agent.measured import Measured, merge
from edge_agent.measurement.threshold import LEVELS, level_of
from edge_agent.qualification.classes import alone, rules_of_several
from edge_agent.qualification.pixels import Table, confusion
from edge_agent.qualification.thresholds import Candidate
from edge_agent.recipe import Recipe
from edge_agent.records import FAULT, NG, PASS, Judgement, Pixels
from edge_agent.wire import Verdict

_WORST = 6  # of defective and of good images each


@dataclass(frozen=True, slots=True)
class Seen:
    """What the line showed of one image on the way: the highest probability per class, is it NG at each candidate (candidates,),
    is it by each class alone (candidates, classes), without a class where that cannot be told, and, where there is a mask, the
    pixels by truth and call and the defect's area in frame pixels."""

    peaks: dict[str, float]
    is_ng_at: NDArray[np.bool_]
    is_ng_of: NDArray[np.bool_]
    table: Table | None
    truth_area_px: float | None

    @property
    def score(self) -> float:
        return max(self.peaks.values())


@dataclass(frozen=True, slots=True)
class Judged:
    """One image, its verdict, and what was seen; `seen` is None for a FAULT."""

    labelled: Labelled
    verdict: Verdict
    seen: Seen | None

    @property
    def is_slip(self) -> bool:
        return self.labelled.is_defective and self.verdict.outcome == PASS

    @property
    def is_false_reject(self) -> bool:
        return not self.labelled.is_defective and self.verdict.outcome == NG

    @property
    def called(self) -> str:
        """The class with the most NG pixels; without a blob, that of the highest probability; PASS or FAULT as they are."""
        if self.verdict.outcome != NG or self.seen is None:
            return self.verdict.outcome
        areas: dict[str, float] = {}
        for blob in self.verdict.blobs:
            areas[blob.class_name] = areas.get(blob.class_name, 0.0) + blob.area_px
        found = areas or self.seen.peaks
        return max(found, key=lambda name: found[name])


@dataclass(order=True)
class Picture:
    """An image kept for the gallery, the worst ones longest."""

    badness: float
    index: int
    frame: Pixels = field(compare=False)
    probability: Pixels = field(compare=False)
    mask: Pixels | None = field(compare=False)


class Observer:
    """Looks at each inspected part on the inspect thread, beside its truth. `failure` is what kept it from that."""

    def __init__(self, images: Sequence[Labelled], classes: Sequence[str], candidates: Sequence[Candidate]) -> None:
        self.seen: list[Seen | None] = [None] * len(images)
        self.worst: dict[bool, list[Picture]] = {True: [], False: []}  # by: is it defective
        self.failure: Exception | None = None
        self.empty_masks: dict[str, int] = {}  # of defective images: name, highest value
        self._images = images
        self._classes = [name.casefold() for name in classes]
        self._candidates = candidates
        self._judges = _judges_of(candidates[0].recipe, classes) if candidates else []  # the candidates have the same rules

    def observe(self, inspection: Inspection, judgement: Judgement) -> None:
        if judgement.outcome == FAULT or self.failure is not None:
            return
        try:
            self._look(inspection, judgement)
        except ConfigurationError as error:
            self.failure = error  # of the labels, not of the line: it logs no traceback
        except Exception as error:
            self.failure = error  # told by the command: here it would only be a line in the log
            raise

    def _look(self, inspection: Inspection, judgement: Judgement) -> None:
        index = inspection.part.seq - 1
        labelled = self._images[index]
        loaded = load(labelled)
        maps = list(inspection.class_maps())
        layout = inspection.bundle.layout(inspection.frame.pixels.shape)
        measured = merge([measurer.measure(each) for measurer, (_, each) in zip(layout.measurers, maps, strict=True)])
        is_ng = self._is_ng_at(inspection, maps, measured)
        table, area_px = self._against_mask(labelled, loaded, layout, maps)
        self.seen[index] = seen = Seen(dict(measured.peak), np.asarray(is_ng[:, :1].any(axis=1)), is_ng[:, 1:], table, area_px)
        is_wrong = (judgement.outcome == NG) != labelled.is_defective
        badness = is_wrong + (1 - seen.score if labelled.is_defective else seen.score)
        kept = self.worst[labelled.is_defective]
        if len(kept) < _WORST or badness > kept[0].badness:
            picture = Picture(badness, index, inspection.frame.pixels.copy(), frame_map(inspection), loaded.mask)
            heapq.heappushpop(kept, picture) if len(kept) == _WORST else heapq.heappush(kept, picture)

    def _is_ng_at(self, inspection: Inspection, maps: list[tuple[RegionPlan, Pixels]], measured: Measured) -> NDArray[np.bool_]:
        """Is the part NG at each candidate, by each of the judges (candidates, judges). Where no pixel reaches a threshold, a
        candidate's recipe sees what any other of these sees, so that one of them is asked for all; of most good parts these are
        most."""
        is_ng_at = np.zeros((len(self._candidates), len(self._judges)), np.bool_)
        is_blank = np.array([not _is_reached(each, measured) for each in self._candidates], np.bool_)
        for number in np.flatnonzero(~is_blank):
            is_ng_at[number] = self._is_ng(int(number), inspection, maps)
        if is_blank.any():
            is_ng_at[is_blank] = self._is_ng(int(is_blank.argmax()), inspection, maps)
        return is_ng_at

    def _is_ng(self, number: int, inspection: Inspection, maps: list[tuple[RegionPlan, Pixels]]) -> list[bool]:
        """Judge the maps by a candidate's recipe, with the line's own measuring and rules: one answer of each judge."""
        layout = Layout(self._candidates[number].recipe, inspection.bundle.segmenter, *inspection.frame.pixels.shape)
        measured = merge([measurer.measure(each) for measurer, (_, each) in zip(layout.measurers, maps, strict=True)])
        return [judge.judge(measured, []).outcome == NG for judge in self._judges]

    def _against_mask(
        self, labelled: Labelled, loaded: Loaded, layout: Layout, maps: list[tuple[RegionPlan, Pixels]]
    ) -> tuple[Table | None, float | None]:
        """The pixels by truth and call, and the defect's area; None where there is no mask to compare with."""
        mask, truth = loaded.mask, self.class_of(labelled)
        if mask is not None and labelled.is_defective and not (mask > MASK_ABOVE).any():
            self.empty_masks[labelled.name] = int(mask.max())
        if mask is None or truth is None or labelled.is_defective != bool((mask > MASK_ABOVE).any()):
            return None, None
        size = len(self._classes)
        table = np.zeros((size + 1, size + 1), np.int64)
        for measurer, (plan, each) in zip(layout.measurers, maps, strict=True):
            counting = measurer.counting(each)
            called = np.where(counting.any(axis=0), np.where(counting, each, 0).argmax(axis=0) + 1, 0)
            wanted = (fitted(plan, mask) > MASK_ABOVE) * np.uint8(truth)
            inspected = measurer.inspected_mask()
            table += confusion(wanted[inspected], called[inspected].astype(np.uint8), size)
        return table, float(np.count_nonzero(mask > MASK_ABOVE)) if labelled.is_defective else None

    def class_of(self, labelled: Labelled) -> int | None:
        """Which of the model's classes, from 1, a defect is: the only one, or that of the same name; None where there is none."""
        if len(self._classes) == 1 or not labelled.is_defective:
            return 1
        kind = labelled.kind.casefold()
        return self._classes.index(kind) + 1 if kind in self._classes else None


def _judges_of(recipe: Recipe, classes: Sequence[str]) -> list[Judge]:
    """The recipe's own judge, then, where classes can be told apart, one for each class alone."""
    is_apart = len(classes) > 1 and not rules_of_several(recipe)
    return [Judge(recipe), *(Judge(alone(recipe, name)) for name in classes if is_apart)]


def _is_reached(candidate: Candidate, measured: Measured) -> bool:
    """Does any pixel of a class reach its threshold."""
    return any(round(measured.peak[name] * LEVELS) >= level_of(each) for name, each in candidate.thresholds.items())


def fitted(plan: RegionPlan, mask: Pixels) -> Pixels:
    """The mask in the geometry of the region's map: the very cut and scaling that the frame goes through."""
    if plan.region.prepare == "tile":
        return plan.box.cut(mask)
    return plan.tensor(0, mask, np.empty((plan.canvas_rows, plan.canvas_cols), np.uint8))


def _link_name(number: int, image: Path) -> str:
    """Sorted by the number; with the end of the image's name, by which the log calls it. A name has at most 255 bytes."""
    return os.fsdecode(f"{number:08d}-".encode() + os.fsencode(image.name)[-200:])


def run_line(
    model: Path, recipe: Path, images: Sequence[Labelled], observer: Observer, advance: Callable[[], None]
) -> list[Judged]:
    """Run every image through the line; return what came out, in their order. Raises what the observer failed by."""
    verdicts: dict[int, Verdict] = {}

    def note(verdict: Verdict) -> None:
        verdicts[verdict.seq] = verdict
        advance()

    with tempfile.TemporaryDirectory(prefix="edge-agent-evaluate-") as folder:
        for number, labelled in enumerate(images):
            (Path(folder) / _link_name(number, labelled.image)).symlink_to(labelled.image.resolve())
        run_folder(model, recipe, Path(folder), observer.observe, note)
    if observer.failure is not None:
        raise observer.failure
    judged = [Judged(each, verdicts[n], observer.seen[n - 1]) for n, each in enumerate(images, 1) if n in verdicts]
    if len(judged) != len(images):
        raise EdgeAgentError(
            f"only {len(judged)} of {len(images)} images were judged: evaluate was told to stop (SIGTERM, Ctrl-C), or its "
            "line ended by itself, which the log tells. There is no report. Run it again."
        )
    return judged
