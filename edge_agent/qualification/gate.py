"""A candidate against its reference, image by image, in verdicts: what changed, how sure that is, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_agent.qualification.rates import Rate, rate
from edge_agent.records import FAULT, NG, PASS


@dataclass(frozen=True, slots=True)
class Case:
    """What a line said of one image. `margin` is the distance of the highest probability to its threshold, in log-odds, positive
    beyond it; None where nothing was judged. `is_defective` is None without a label; `defect_px` None without a mask."""

    name: str
    outcome: str
    margin: float | None
    is_defective: bool | None = None
    defect_px: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep. `flips` and `false_rejects` are shares; a slip more than the reference's is one too many."""

    flips: float = 0.001
    slips: int = 0
    false_rejects: float = 0.001
    speedup: float = 1.05
    images: int = 30


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts over the same images, each with its exact bounds, of those that one side judged at least. A slip is new where the
    reference called the part NG; a defect is small where its area is among the smaller third of those labelled."""

    images: int
    judged: int
    reference_ng: int
    flips: Rate
    to_pass: Rate
    to_ng: Rate
    to_fault: int
    flipped: tuple[int, ...]
    slips: tuple[Rate, Rate]
    new_slips: Rate
    mended_slips: Rate
    false_rejects: tuple[Rate, Rate]
    new_false_rejects: Rate
    mended_false_rejects: Rate
    small_recall: tuple[Rate, Rate]
    shift_median: float | None
    shift_worst: float | None
    least_margin: tuple[float | None, float | None]

    def as_dict(self) -> dict[str, Any]:
        return {key: _plain(getattr(self, key)) for key in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Rate):
        return value.as_dict()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def compare(reference: Sequence[Case], candidate: Sequence[Case]) -> Comparison:
    """Both in the order of the images."""
    pairs = list(zip(reference, candidate, strict=True))
    assert all(old.name == new.name for old, new in pairs), "the images of both sides are the same"
    # What neither judged would only dilute the shares.
    told = [pair for pair in pairs if any(case.outcome != FAULT for case in pair)]
    bad = [(old.outcome, new.outcome) for old, new in told if old.is_defective is True]
    good = [(old.outcome, new.outcome) for old, new in told if old.is_defective is False]
    small = [(old.outcome, new.outcome) for old, new in _small(told)]
    shifts = [abs(new.margin - old.margin) for old, new in pairs if old.margin is not None and new.margin is not None]
    flipped = tuple(index for index, (old, new) in enumerate(pairs) if old.outcome != new.outcome)
    was_ng = sum(old.outcome == NG for old, _ in pairs)
    return Comparison(
        images=len(pairs),
        judged=sum(old.outcome != FAULT for old, _ in pairs),
        reference_ng=was_ng,
        flips=rate(len(flipped), len(told)),
        to_pass=rate(sum(old.outcome != PASS and new.outcome == PASS for old, new in told), len(told)),
        to_ng=rate(sum(old.outcome == PASS and new.outcome == NG for old, new in told), len(told)),
        to_fault=sum(old.outcome != FAULT and new.outcome == FAULT for old, new in pairs),
        flipped=flipped,
        slips=_both(bad, PASS),
        new_slips=rate(sum(old != PASS and new == PASS for old, new in bad), len(bad)),
        mended_slips=rate(sum(old == PASS and new != PASS for old, new in bad), len(bad)),
        false_rejects=_both(good, NG),
        new_false_rejects=rate(sum(old != NG and new == NG for old, new in good), len(good)),
        mended_false_rejects=rate(sum(old == NG and new != NG for old, new in good), len(good)),
        small_recall=_both(small, NG),
        shift_median=float(np.median(shifts)) if shifts else None,
        shift_worst=max(shifts, default=None),
        least_margin=(_least(reference), _least(candidate)),
    )


def _both(outcomes: Sequence[tuple[str, str]], outcome: str) -> tuple[Rate, Rate]:
    """How often the reference and the candidate said this."""
    old, new = (sum(pair[side] == outcome for pair in outcomes) for side in (0, 1))
    return rate(old, len(outcomes)), rate(new, len(outcomes))


def _small(pairs: Sequence[tuple[Case, Case]]) -> list[tuple[Case, Case]]:
    """The third of the labelled defects with the smallest areas, and those as large as its largest: their order says nothing."""
    known = [(pair[0].defect_px, pair) for pair in pairs if pair[0].is_defective and pair[0].defect_px]
    areas = sorted(area for area, _ in known)
    return [pair for area, pair in known if area <= areas[-(-len(known) // 3) - 1]]


def _least(cases: Sequence[Case]) -> float | None:
    """How near the nearest image comes to its threshold, from either side."""
    return min((abs(each.margin) for each in cases if each.margin is not None), default=None)


def refusals(found: Comparison, speedup: float, limits: Limits) -> list[str]:
    """What speaks against the candidate, each in one sentence; nothing where it passes."""
    least = f"at least {limits.images} are needed"
    checks = (
        (found.judged < limits.images, f"only {found.judged} images were judged: {least} to say anything"),
        (not found.reference_ng, "FP32 calls none of the images NG: they cannot show that defects are still seen"),
        (_above(found.flips, limits.flips), f"{_of(found.flips)} verdicts flipped: {_allowed(limits.flips)}"),
        (not found.slips[0].of and bool(found.to_pass.count), f"{found.to_pass.count} parts that did not pass before pass now"),
        (found.to_fault > 0, f"{found.to_fault} parts become FAULT"),
        (
            found.new_slips.count > limits.slips,
            f"{_of(found.new_slips)} defective parts slip that FP32 rejects: {limits.slips} allowed",
        ),
        (
            _above(found.new_false_rejects, limits.false_rejects),
            f"{_of(found.new_false_rejects)} good parts are rejected that FP32 passes: {_allowed(limits.false_rejects)}",
        ),
        (
            found.small_recall[1].count < found.small_recall[0].count,
            f"of the smallest defects {_of(found.small_recall[1])} are found, by FP32 {found.small_recall[0].count}",
        ),
        (speedup < limits.speedup, f"it runs at {speedup:.2f} times FP32's speed: at least {limits.speedup:g} is asked"),
    )
    return [sentence for is_broken, sentence in checks if is_broken]


def _above(found: Rate, limit: float) -> bool:
    return found.share is not None and found.share > limit


def _of(found: Rate) -> str:
    return f"{found.count} of {found.of}"


def _allowed(share: float) -> str:
    return f"{100 * share:g} % allowed"


def fastest(passed: dict[str, float]) -> str | None:
    """The name with the largest speed-up of those that passed."""
    return max(passed, key=lambda name: passed[name], default=None)


def limits_as_dict(limits: Limits) -> dict[str, float]:
    return asdict(limits)
