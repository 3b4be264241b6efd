"""Choosing a threshold by what is asked of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.qualification.rates import Counts

_ASKED = re.compile(r"\s*(precision|recall|slip|false_reject)\s*(>=|<=)\s*([0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?)\s*(%?)\s*")
_SIDES = {"precision": ">=", "recall": ">=", "slip": "<=", "false_reject": "<="}
_CLOSE = 1e-12


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of a threshold, such as precision >= 0.9925."""

    what: str
    side: str
    limit: float

    def __str__(self) -> str:
        return f"{self.what} {self.side} {self.limit:g}"

    def value(self, counts: Counts) -> float | None:
        return counts.fp_rate if self.what == "false_reject" else getattr(counts, self.what)

    def holds(self, counts: Counts) -> bool:
        """A share of nothing (precision where nothing is called defective) holds no condition."""
        value = self.value(counts)
        if value is None:
            return False
        return value >= self.limit - _CLOSE if self.side == ">=" else value <= self.limit + _CLOSE


def read_condition(text: str) -> Condition:
    """Read `precision>=0.99`, `recall>=0.95`, `slip<=0.05` or `false_reject<=0.1%`. Raises UsageError."""
    match = _ASKED.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--pick {text!r} is no condition. Say one of precision>=P, recall>=P, slip<=P, false_reject<=P, where P is a share "
            "such as 0.9925 or 99.25%."
        )
    what, side, number, percent = match.groups()
    if side != _SIDES[what]:
        raise UsageError(f"--pick {text!r}: {what} can be asked for with {_SIDES[what]} only.")
    limit = float(number) / (100 if percent else 1)
    if limit > 1:
        raise UsageError(f"--pick {text!r}: {number}{percent} is above 1. Give a share from 0 to 1, or a percentage: {number}%.")
    return Condition(what, side, limit)


def pick(condition: Condition, thresholds: Sequence[float], counts: Sequence[Counts]) -> int:
    """Return the index of the threshold that fulfils the condition best.

    Of all that fulfil it: the fewest slips, then the fewest false rejects; where slips (or recall) are what is limited, the other
    way round. Of neighbours that are equally good the middle one: it has the most room on both sides. Raises EdgeAgentError, with
    the best that can be had, where none does.
    """
    index = middle_of_best(condition, counts)
    if index is None:
        raise EdgeAgentError(_unreachable(condition, thresholds, counts))
    return index


def middle_of_best(condition: Condition, counts: Sequence[Counts]) -> int | None:
    """The index that `pick` returns; None where none fulfils the condition."""
    fit = [index for index, each in enumerate(counts) if condition.holds(each)]
    if not fit:
        return None
    errors = {index: errors_of(condition, counts[index]) for index in fit}
    least = min(errors.values())
    run = max(_runs([index for index in fit if errors[index] == least]), key=len)
    return run[len(run) // 2]


def errors_of(condition: Condition, counts: Counts) -> tuple[int, int]:
    """Both kinds of errors, first the one that the condition leaves free: of what fulfils it, the least of these is the best."""
    return (counts.fp, counts.fn) if condition.what in ("slip", "recall") else (counts.fn, counts.fp)


def _runs(indices: list[int]) -> list[list[int]]:
    """Neighbouring indices together."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _unreachable(condition: Condition, thresholds: Sequence[float], counts: Sequence[Counts]) -> str:
    sign = 1 if condition.side == ">=" else -1
    known = [(sign * value, -each.fn, index) for index, each in enumerate(counts) if (value := condition.value(each)) is not None]
    asked = f"no threshold from {thresholds[0]:g} to {thresholds[-1]:g} reaches {condition}"
    if not known:
        return f"{asked}: these images have nothing to measure it on. Give images of good and of defective parts."
    best, _, index = max(known)
    slips, rejects = counts[index].fn, counts[index].fp
    return (
        f"{asked}. The best that can be had is {condition.what} {sign * best:.4f}, at the threshold {thresholds[index]:g}, with "
        f"{slips} of {counts[index].tp + slips} defective images passed and {rejects} of {counts[index].tn + rejects} good ones "
        "rejected. Ask for less, mend the rules, or train a better model."
    )
