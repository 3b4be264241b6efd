"""Counts at image level, and rates with exact bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import EdgeAgentError

CONFIDENCE = 0.95
_CLOSE = 1e-9  # a map has 255 levels: a score this close below a threshold reaches it, as in the line


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `of`, with the exact two-sided binomial bounds (Clopper and Pearson). `share` is None where there was none."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        return self.count / self.of if self.of else None

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.of, "share": self.share, "low": self.low, "high": self.high}


def rate(count: int, of: int) -> Rate:
    """The rate with its 95 % bounds; of nothing nothing is known: 0 to 1."""
    if not of:
        return Rate(count, of, 0.0, 1.0)
    try:
        from scipy.special import betaincinv  # not scipy.stats, which takes a second to import
    except ImportError:
        raise EdgeAgentError("bounds need SciPy. Install it: pip install 'edge-agent[evaluate]'") from None
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return Rate(count, of, low, high)


@dataclass(frozen=True, slots=True)
class Counts:
    """Images by truth and call. A share of nothing is None."""

    tp: int
    tn: int
    fp: int
    fn: int

    @property
    def fp_rate(self) -> float | None:
        return _share(self.fp, self.fp + self.tn)

    @property
    def precision(self) -> float | None:
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        return _share(self.tp, self.tp + self.fn)

    @property
    def slip(self) -> float | None:
        return _share(self.fn, self.tp + self.fn)

    def as_dict(self) -> dict[str, Any]:
        """Counts, shares, and both kinds of errors with bounds."""
        return {
            **{key: getattr(self, key) for key in ("tp", "tn", "fp", "fn", "fp_rate", "precision", "recall")},
            "slip": rate(self.fn, self.tp + self.fn).as_dict(),
            "false_reject": rate(self.fp, self.fp + self.tn).as_dict(),
        }


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def count(is_defective: NDArray[np.bool_], is_called: NDArray[np.bool_]) -> Counts:
    """Both (images,): the truth, and what is called defective."""
    return Counts(
        tp=int((is_defective & is_called).sum()),
        tn=int((~is_defective & ~is_called).sum()),
        fp=int((~is_defective & is_called).sum()),
        fn=int((is_defective & ~is_called).sum()),
    )


def count_at(is_defective: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Counts:
    """An image is called defective where its score reaches the threshold."""
    return count(is_defective, reaches(scores, threshold))


def reaches(scores: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which scores (images,) reach a threshold, as the line compares them."""
    return np.asarray(scores >= threshold - _CLOSE)


def by_group(groups: Sequence[str], is_concerned: NDArray[np.bool_], is_wrong: NDArray[np.bool_]) -> Rate:
    """A group counts once where any of its images is concerned, and is wrong where any of those is wrong."""
    names = np.asarray(groups, dtype=object)
    wrong = set(names[is_concerned & is_wrong])
    return rate(len(wrong), len(set(names[is_concerned])))


def roc_auc(is_defective: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """The chance that a defective image scores above a good one, ties counted half; None where one kind is missing."""
    bad, good = scores[is_defective], np.sort(scores[~is_defective])
    if not bad.size or not good.size:
        return None
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.sum() / (2 * bad.size * good.size))
