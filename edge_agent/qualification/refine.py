"""Choosing the threshold of each of several classes: a search along one class at a time, the others held.

Exact counts of the images given, not an estimate; of the combinations it sees only those that single moves lead to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.qualification.pick import Condition, errors_of, middle_of_best
from edge_agent.qualification.rates import Counts, count

Places = tuple[int, ...]  # of each class, which of its thresholds


class Calls:
    """What each class calls each image at each of its thresholds: `is_ng_of` (images, thresholds, classes), beside the truth
    `is_defective` (images,). An image is called defective where any class calls it so."""

    def __init__(self, is_defective: NDArray[np.bool_], is_ng_of: NDArray[np.bool_]) -> None:
        self.is_defective = is_defective
        self._is_ng_of = is_ng_of
        self.thresholds, self.classes = is_ng_of.shape[1:]

    def counts(self, places: Sequence[int]) -> Counts:
        """The counts with each class at its place."""
        calls = self._is_ng_of[:, list(places), range(self.classes)]
        return count(self.is_defective, np.asarray(calls.any(axis=1)))

    def counts_along(self, of: int, places: Sequence[int]) -> list[Counts]:
        """The counts at every threshold of one class, the others at their places."""
        others = [each for each in range(self.classes) if each != of]
        held = self._is_ng_of[:, [places[each] for each in others], others].any(axis=1, keepdims=True)
        calls = self._is_ng_of[:, :, of] | held
        tp, fp = calls[self.is_defective].sum(axis=0).tolist(), calls[~self.is_defective].sum(axis=0).tolist()
        bad = int(self.is_defective.sum())
        good = len(self.is_defective) - bad
        return [Counts(t, good - f, f, bad - t) for t, f in zip(tp, fp, strict=True)]


def refine(condition: Condition, calls: Calls, common: int | None) -> Places | None:
    """Return each class's place that fulfils the condition best, by the order that `pick` has; None where the search finds none.

    `common` is the place that `pick` chose for all of them, None where none would do: a class stays there unless its own threshold
    saves an error. Started from every common place in turn, so that a class may be moved which only then lets another one gain.
    """
    starts = sorted(range(calls.thresholds), key=lambda place: abs(place - common) if common is not None else place)
    ends = [end for start in starts if (end := _descended(condition, calls, (start,) * calls.classes)) is not None]
    end = min(ends, key=lambda end: errors_of(condition, calls.counts(end)), default=None)
    while end is not None:
        settled = _settled(condition, calls, end, common)
        end = _descended(condition, calls, settled)  # an equally good place may let another class save an error
        if end is None or end == settled:
            return settled
    return None


def _descended(condition: Condition, calls: Calls, start: Places) -> Places | None:
    """Where moves of single classes lead to from there, until none saves an error."""
    places = list(start)
    now = calls.counts(places)
    least = errors_of(condition, now) if condition.holds(now) else None
    is_better = True
    while is_better:
        is_better = False
        for of in range(calls.classes):
            along = calls.counts_along(of, places)
            place = middle_of_best(condition, along)
            if place is not None and (least is None or errors_of(condition, along[place]) < least):
                places[of], least, is_better = place, errors_of(condition, along[place]), True
    return tuple(places) if least is not None else None


def _settled(condition: Condition, calls: Calls, places: Places, common: int | None) -> Places:
    """Equally good places: back at the common one where that costs nothing, else in the middle of what is as good."""
    settled = list(places)
    least = errors_of(condition, calls.counts(places))
    for of in range(calls.classes):
        along = calls.counts_along(of, settled)
        if common is not None and condition.holds(along[common]) and errors_of(condition, along[common]) == least:
            settled[of] = common
        else:
            settled[of] = middle if (middle := middle_of_best(condition, along)) is not None else settled[of]
    return tuple(settled)
