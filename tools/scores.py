"""How well peaks tell defective frames from good ones: the AUC, and what each threshold would have called, kind by kind."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

THRESHOLDS = tuple(t / 10 for t in range(1, 10))


@dataclass(frozen=True, slots=True)
class Called:
    """Frames by truth and call at one threshold; positive means defective, so `fn` are slips and `fp` false rejects."""

    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How many of the `frames` frames of one kind, good or defective, were called defective at each of THRESHOLDS."""

    name: str
    defective: bool
    frames: int
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
        return {"frames": self.frames, "auc": self.auc, **ends, "at": [asdict(called) for called in self.at], "kinds": kinds}

    def in_words(self) -> str:
        """For a line of the log."""
        ends = f"good frames up to {self.highest_good:.3f}, defective ones from {self.lowest_bad:.3f}"
        return f"AUC {self.auc}, errors at 0.5: {self.errors}, {ends}"


def score(peaks: NDArray[np.float64], is_defective: NDArray[np.bool_], kinds: NDArray[np.str_]) -> Scores:
    """Scores of one probability per frame, (n,), against its truth and its kind, (n,); called defective from the threshold up."""
    bad, good = peaks[is_defective], peaks[~is_defective]
    at = []
    for threshold in THRESHOLDS:
        tp, fp = int((bad >= threshold).sum()), int((good >= threshold).sum())
        at.append(Called(threshold, tp, fp, bad.size - tp, good.size - fp))
    told = tuple(kind_of(name, peaks[kinds == name], bool(is_defective[kinds == name].any())) for name in np.unique(kinds))
    ends = float(good.max()) if good.size else math.nan, float(bad.min()) if bad.size else math.nan
    return Scores(int(peaks.size), round(auc_of(bad, good), 5), tuple(at), told, *ends)


def pooled(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of several folds, as `as_dict` gives them, as those of one set: counts added, the ends the worst of any.

    Peaks of different networks do not compare, so the AUC is the folds' mean.
    """
    at = [
        {"threshold": called[0]["threshold"]} | {name: sum(each[name] for each in called) for name in ("tp", "fp", "fn", "tn")}
        for called in zip(*(fold["at"] for fold in folds), strict=True)
    ]
    names = sorted({(kind["name"], kind["defective"]) for fold in folds for kind in fold["kinds"]})
    kinds = []
    for name, defective in names:
        same = [kind for fold in folds for kind in fold["kinds"] if (kind["name"], kind["defective"]) == (name, defective)]
        called = [sum(counts) for counts in zip(*(kind["called"] for kind in same), strict=True)]
        kinds.append({"name": name, "defective": defective, "frames": sum(kind["frames"] for kind in same), "called": called})
    ends = {"highest_good": max(fold["highest_good"] for fold in folds), "lowest_bad": min(fold["lowest_bad"] for fold in folds)}
    auc = round(sum(fold["auc"] for fold in folds) / len(folds), 5)
    return {"frames": sum(fold["frames"] for fold in folds), "auc": auc, **ends, "at": at, "kinds": kinds, "folds": len(folds)}


def kind_of(name: str, peaks: NDArray[np.float64], defective: bool) -> Kind:
    """How often the frames of one kind, with these peaks, are called defective."""
    return Kind(str(name), defective, int(peaks.size), tuple(int((peaks >= threshold).sum()) for threshold in THRESHOLDS))


def auc_of(bad: NDArray[np.float64], good: NDArray[np.float64]) -> float:
    """The chance that a defective frame peaks higher than a good one; a tie counts half."""
    if not bad.size or not good.size:
        return math.nan
    return float((bad[:, None] > good).mean() + (bad[:, None] == good).mean() / 2)


def table_of(scores: Scores, title: str) -> Table:
    """The scores as a table to print."""
    table = Table("threshold", "TP", "FP", "FN", "TN", title=f"{title}: {scores.frames} frames, AUC {scores.auc}")
    for called in scores.at:
        table.add_row(*(str(value) for value in asdict(called).values()))
    return table
