"""How well peaks tell defective frames from good ones: the AUC, and what each threshold would have called, kind by kind.

The arithmetic is that of edge_agent/qualification, so that a card and `edge-agent evaluate` count alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from edge_agent.qualification.rates import by_group, count_at, reaches, roc_auc

THRESHOLDS = tuple(t / 10 for t in range(1, 10))
COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True, slots=True)
class Called:
    """Frames by truth and call at one threshold; positive means defective, so `fn` are slips and `fp` false rejects.

    `slip_groups` and `reject_groups`: of the groups with a defective, with a good frame, how many have one called wrong, and how
    many there are; both empty where every frame is its own group.
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int
    slip_groups: tuple[int, ...] = ()
    reject_groups: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        groups = {name: list(getattr(self, name)) for name in ("slip_groups", "reject_groups") if getattr(self, name)}
        return {"threshold": self.threshold, **{name: getattr(self, name) for name in COUNTS}, **groups}


@dataclass(frozen=True, slots=True)
class Kind:
    """How many of the `frames` frames of one kind, good or defective, were called defective at each of THRESHOLDS."""

    name: str
    defective: bool
    frames: int
    groups: int
    called: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a network did on `frames` frames. `auc` is NaN where there are only good ones, or only defective ones."""

    frames: int
    auc: float
    at: tuple[Called, ...]
    kinds: tuple[Kind, ...]
    highest_good: float  # probability; NaN without good frames
    lowest_bad: float

    @property
    def gap(self) -> float:
        """From the highest good frame to the lowest defective one: above 0, every threshold between them makes no error."""
        return self.lowest_bad - self.highest_good

    @property
    def errors(self) -> int:
        """Slips and false rejects at threshold 0.5."""
        half = min(self.at, key=lambda called: abs(called.threshold - 0.5))
        return half.fp + half.fn

    def as_dict(self) -> dict[str, object]:
        """Plain numbers and lists, for YAML."""
        kinds = [asdict(kind) | {"called": list(kind.called)} for kind in self.kinds]
        ends = {"highest_good": round(self.highest_good, 5), "lowest_bad": round(self.lowest_bad, 5)}
        return {"frames": self.frames, "auc": self.auc, **ends, "at": [called.as_dict() for called in self.at], "kinds": kinds}

    def in_words(self) -> str:
        """For a line of the log."""
        if not self.frames:
            return "nothing is held out"
        ends = f"good frames up to {self.highest_good:.3f}, defective ones from {self.lowest_bad:.3f}"
        return f"AUC {self.auc}, errors at 0.5: {self.errors}, {ends}"


def score(
    peaks: NDArray[np.float64], is_defective: NDArray[np.bool_], kinds: NDArray[np.str_], groups: Sequence[str] = ()
) -> Scores:
    """Scores of one probability per frame, (n,), against its truth, kind and group, (n,); defective from the threshold up."""
    bad, good = peaks[is_defective], peaks[~is_defective]
    at = tuple(_called(threshold, peaks, is_defective, groups) for threshold in THRESHOLDS)
    names = np.array(groups or range(peaks.size), dtype=object)
    told = tuple(_kind(kind, peaks[kinds == kind], is_defective[kinds == kind], names[kinds == kind]) for kind in np.unique(kinds))
    ends = float(good.max()) if good.size else math.nan, float(bad.min()) if bad.size else math.nan
    auc = roc_auc(is_defective, peaks)
    return Scores(int(peaks.size), math.nan if auc is None else round(auc, 5), at, told, *ends)


def _called(threshold: float, peaks: NDArray[np.float64], is_defective: NDArray[np.bool_], groups: Sequence[str]) -> Called:
    counts = count_at(is_defective, peaks, threshold)
    slips: tuple[int, ...] = ()
    rejects: tuple[int, ...] = ()
    if len(set(groups)) < len(groups):
        is_called = reaches(peaks, threshold)
        found = by_group(groups, is_defective, ~is_called), by_group(groups, ~is_defective, is_called)
        slips, rejects = ((each.count, each.of) for each in found)
    return Called(threshold, counts.tp, counts.fp, counts.fn, counts.tn, slips, rejects)


def _kind(name: str, peaks: NDArray[np.float64], is_defective: NDArray[np.bool_], groups: NDArray[np.object_]) -> Kind:
    """One kind's frames."""
    called = tuple(int(reaches(peaks, threshold).sum()) for threshold in THRESHOLDS)
    return Kind(str(name), bool(is_defective.any()), int(peaks.size), len(set(groups)), called)


def pooled(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of several folds, as `as_dict` gives them, as those of one set: counts added, the ends the worst of any.

    Peaks of different networks do not compare, so the AUC is the folds' mean. A group is in one fold alone.
    """
    at = [_sum(called) for called in zip(*(fold["at"] for fold in folds), strict=True)]
    names = sorted({(kind["name"], kind["defective"]) for fold in folds for kind in fold["kinds"]})
    kinds = []
    for name, defective in names:
        same = [kind for fold in folds for kind in fold["kinds"] if (kind["name"], kind["defective"]) == (name, defective)]
        called = [sum(counts) for counts in zip(*(kind["called"] for kind in same), strict=True)]
        sizes = {key: sum(kind[key] for kind in same) for key in ("frames", "groups")}
        kinds.append({"name": name, "defective": defective, **sizes, "called": called})
    ends = {"highest_good": max(fold["highest_good"] for fold in folds), "lowest_bad": min(fold["lowest_bad"] for fold in folds)}
    auc = round(sum(fold["auc"] for fold in folds) / len(folds), 5)
    return {"frames": sum(fold["frames"] for fold in folds), "auc": auc, **ends, "at": at, "kinds": kinds}


def _sum(called: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One threshold's counts of several folds; the groups only where every fold has them."""
    counts = {name: sum(each[name] for each in called) for name in COUNTS}
    grouped = [name for name in ("slip_groups", "reject_groups") if all(name in each for each in called)]
    groups = {name: [sum(pair) for pair in zip(*(each[name] for each in called), strict=True)] for name in grouped}
    return {"threshold": called[0]["threshold"], **counts, **groups}


def table_of(scores: Scores, title: str) -> Table:
    """The scores as a table to print."""
    table = Table("threshold", "TP", "FP", "FN", "TN", title=f"{title}: {scores.frames} frames, AUC {scores.auc}")
    for called in scores.at:
        table.add_row(str(called.threshold), *(str(getattr(called, name)) for name in COUNTS))
    return table
