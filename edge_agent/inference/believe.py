"""A map is untrusted until its float maximum agrees with it: NaN cast to uint8 looks like a clean part."""

from __future__ import annotations

import math

from edge_agent.errors import EngineError, UnbelievableMap
from edge_agent.inference.base import TensorSlot

_ROUNDING = 2  # map levels: the graph rounds once, the device's exponential is not ours
MOST_LOGIT = 80.0  # exp beyond this leaves float32's useful range


def require_believable(slot: TensorSlot, peak_level: int) -> None:
    """Raise EngineError where the engine failed, UnbelievableMap where the peak logit is not finite or contradicts the map's
    highest level.

    With one class the two must agree. With several, a softmax head's largest log-odds belong to the class with the largest
    probability too, so the same holds.
    """
    if slot.failure:
        raise EngineError(slot.failure)
    peak = float(slot.peak.item(0))
    if not math.isfinite(peak):
        raise UnbelievableMap(f"the engine's peak logit is {peak}; a weight, an input or the device is damaged")
    expected = 255 / (1 + math.exp(-max(-MOST_LOGIT, min(MOST_LOGIT, peak))))
    if abs(expected - peak_level) > _ROUNDING:
        raise UnbelievableMap(f"the map's highest level is {peak_level}, but its peak logit {peak:.3f} means {expected:.0f}")


def logit_of(level: int) -> float:
    """The logit whose probability a map level stands for; the ends of the scale are finite."""
    share = min(max(level / 255, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))
