"""What was judged, in figures: everything that evaluation.json holds, from the images in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.commands.evaluation.line import Judged
from edge_agent.qualification.pixels import Table, overlap, pixel_scores, size_bins
from edge_agent.qualification.rates import Counts, by_group, count, count_at, rate, reaches, roc_auc
from edge_agent.qualification.refine import Calls
from edge_agent.qualification.thresholds import Candidate
from edge_agent.records import FAULT, NG, PASS

THRESHOLDS = tuple(step / 10 for step in range(1, 10))  # the table's
FINE = tuple(step / 100 for step in range(1, 100))  # the plots'


class Figures:
    """Arrays over the images that got PASS or NG; a FAULT says nothing of the part and is counted apart."""

    def __init__(self, judged: Sequence[Judged], classes: Sequence[str], candidates: Sequence[Candidate]) -> None:
        self.all = judged
        self.classes = classes
        self.candidates = candidates
        self.rows = [each for each in judged if each.seen is not None and each.verdict.outcome != FAULT]
        self.seen = [each.seen for each in self.rows if each.seen is not None]
        self.is_defective = np.array([each.labelled.is_defective for each in self.rows], np.bool_)
        self.is_ng = np.array([each.verdict.outcome == NG for each in self.rows], np.bool_)
        self.scores = np.array([seen.score for seen in self.seen], np.float64)
        self.groups = [each.labelled.group for each in self.rows]

    @property
    def group_count(self) -> int:
        return len(set(self.groups))

    @property
    def has_groups(self) -> bool:
        """True where some group has several images: then images are not independent of one another."""
        return self.group_count < len(self.rows)

    def at(self, threshold: float) -> Counts:
        """Images whose highest probability reaches the threshold are called defective."""
        return count_at(self.is_defective, self.scores, threshold)

    def of_candidate(self, index: int) -> Counts:
        """The recipe's own verdicts, were its thresholds the candidate's."""
        return count(self.is_defective, np.array([seen.is_ng_at[index] for seen in self.seen], np.bool_))

    @property
    def calls(self) -> Calls | None:
        """What each class alone calls each image at each candidate; None of one class, and where classes cannot be told apart."""
        is_ng_of = np.array([seen.is_ng_of for seen in self.seen], np.bool_)
        return Calls(self.is_defective, is_ng_of) if is_ng_of.ndim == 3 and is_ng_of.shape[2] else None

    def with_errors(self, is_called: NDArray[np.bool_]) -> dict[str, Any]:
        """Counts and rates of one way to call images; by group, too, where groups have several."""
        result = count(self.is_defective, is_called).as_dict()
        if self.has_groups:
            result["slip_by_group"] = by_group(self.groups, self.is_defective, ~is_called).as_dict()
            result["false_reject_by_group"] = by_group(self.groups, ~self.is_defective, is_called).as_dict()
        return result

    def summary(self) -> dict[str, Any]:
        """Everything but what identifies the run."""
        return {
            "images": len(self.all),
            "defective": sum(each.labelled.is_defective for each in self.all),
            "groups": len({each.labelled.group for each in self.all}),
            "not_judged": self._not_judged(),
            "not_judged_images": [each.labelled.name for each in self._faults()],
            "auc": roc_auc(self.is_defective, self.scores),
            "as_it_stands": self.with_errors(self.is_ng),
            "thresholds": [{"threshold": t, **self.with_errors(reaches(self.scores, t))} for t in THRESHOLDS],
            "recipe_at": [
                {"threshold": each.threshold, "thresholds": each.thresholds, **self.of_candidate(n).as_dict()}
                for n, each in enumerate(self.candidates)
            ],
            "kinds": self._kinds(),
            "sizes": self._sizes(),
            "pixels": self._pixels(),
            "confusion": self._confusion(),
        }

    def _faults(self) -> list[Judged]:
        return [each for each in self.all if each.seen is None or each.verdict.outcome == FAULT]

    def _not_judged(self) -> dict[str, Any]:
        faults = self._faults()
        reasons: dict[str, int] = {}
        for each in faults:
            for reason in each.verdict.reasons:
                reasons[reason] = reasons.get(reason, 0) + 1
        return {"images": len(faults), "defective": sum(each.labelled.is_defective for each in faults), "reasons": reasons}

    def _kinds(self) -> list[dict[str, Any]]:
        """Of each kind of defect the slips, then of each kind of good part the false rejects, by the recipe and by threshold."""
        found = []
        kinds = {(each.labelled.is_defective, each.labelled.kind) for each in self.rows}
        for is_defective, kind in sorted(kinds, key=lambda each: (not each[0], each[1])):
            of_kind = np.array([each.labelled.kind == kind for each in self.rows], np.bool_) & (self.is_defective == is_defective)
            is_wrong = self.is_ng != is_defective
            entry = {
                "kind": kind,
                "is_defective": is_defective,
                "wrong": rate(int((of_kind & is_wrong).sum()), int(of_kind.sum())).as_dict(),
                "ng_at": [int((of_kind & reaches(self.scores, t)).sum()) for t in THRESHOLDS],
            }
            if self.has_groups:
                entry["wrong_by_group"] = by_group(self.groups, of_kind, is_wrong).as_dict()
            found.append(entry)
        return found

    def _sizes(self) -> list[dict[str, Any]]:
        """Slips by the area of the defect, in frame pixels of the mask."""
        pairs = [
            (s.truth_area_px, each.is_slip) for each, s in zip(self.rows, self.seen, strict=True) if s.truth_area_px is not None
        ]
        areas = np.array([area for area, _ in pairs], np.float64)
        slips = np.array([slip for _, slip in pairs], np.bool_)
        found = []
        for low, high in size_bins(areas):
            inside = (areas >= low) & (areas < high)
            found.append({**_between(low, high), "slip": rate(int((inside & slips).sum()), int(inside.sum())).as_dict()})
        return found

    def _pixels(self) -> dict[str, Any] | None:
        """Pooled over all pixels of all images with a mask, the same by kind and by the defect's size, and the mean of each
        defective image's own Dice and IoU."""
        with_mask = [(each.labelled, s.table) for each, s in zip(self.rows, self.seen, strict=True) if s.table is not None]
        if not any(labelled.is_defective for labelled, _ in with_mask):
            return None
        own = [
            overlap(int(t[1:, 1:].sum()), int(t[1:].sum()), int(t[:, 1:].sum()))
            for labelled, t in with_mask
            if labelled.is_defective
        ]
        known = [(dice, iou) for dice, iou in own if dice is not None and iou is not None]
        means = [sum(values) / len(known) for values in zip(*known, strict=True)] if known else [None, None]
        by_kind = {kind: [t for labelled, t in with_mask if labelled.kind == kind] for kind in self._kinds_of_defects()}
        return {
            **self._pooled([table for _, table in with_mask]),
            "mean_dice": means[0],
            "mean_iou": means[1],
            "kinds": [{"kind": kind, **self._pooled(tables)} for kind, tables in by_kind.items() if tables],
            "sizes": [{**between, **self._of_size(tables)} for between, tables in self._tables_by_size()],
        }

    def _kinds_of_defects(self) -> list[str]:
        return sorted({each.labelled.kind for each in self.rows if each.labelled.is_defective})

    def _of_size(self, tables: Sequence[Table]) -> dict[str, Any]:
        """The scores of some images, and of each class in how many of them it is."""
        scores = self._pooled(tables)
        for index, each in enumerate(scores["classes"].values(), 1):
            each["images"] = sum(bool(table[index].any()) for table in tables)
        return scores

    def _tables_by_size(self) -> list[tuple[dict[str, Any], list[Table]]]:
        """The tables of the defective images, by the area of the defect: in the same bins as its slips."""
        pairs = [(s.truth_area_px, s.table) for s in self.seen if s.truth_area_px is not None and s.table is not None]
        bins = size_bins(np.array([area for area, _ in pairs], np.float64))
        return [(_between(low, high), [table for area, table in pairs if low <= area < high]) for low, high in bins]

    def _pooled(self, tables: Sequence[Table]) -> dict[str, Any]:
        return {"images": len(tables), **pixel_scores(np.sum(tables, axis=0), self.classes)}

    def _confusion(self) -> dict[str, dict[str, int]] | None:
        """For several classes: images by the truth's kind and what they were called."""
        if len(self.classes) == 1:
            return None
        table: dict[str, dict[str, int]] = {}
        for each in sorted(self.all, key=lambda each: (not each.labelled.is_defective, each.labelled.kind)):
            row = table.setdefault(each.labelled.kind, dict.fromkeys((*self.classes, PASS, FAULT), 0))
            row[each.called] += 1
        return table


def _between(low: float, high: float) -> dict[str, Any]:
    """A bin of areas; the last has no upper end."""
    return {"from_px": low, "to_px": None if np.isinf(high) else high}
