"""Latencies in a fixed space: bins of 2 % from 1 microsecond to 100 seconds, so that a year of parts takes no more than a day."""

from __future__ import annotations

import array
import math

_STEP = math.log(1.02)
_FIRST_MS, _LAST_MS = 0.001, 100_000.0
_BINS = int(math.log(_LAST_MS / _FIRST_MS) / _STEP) + 2


class Latencies:
    """Counts latencies; quantiles are right to within 2 %."""

    def __init__(self) -> None:
        self.count = 0
        self._bins = array.array("Q", bytes(8 * _BINS))

    def add(self, ms: float) -> None:
        index = int(math.log(ms / _FIRST_MS) / _STEP) + 1 if ms > _FIRST_MS else 0
        self._bins[min(index, _BINS - 1)] += 1
        self.count += 1

    def quantile_ms(self, share: float) -> float | None:
        """The latency that `share` of all parts stayed below; None without parts."""
        if not self.count:
            return None
        wanted, so_far = share * self.count, 0
        for index, count in enumerate(self._bins):
            so_far += count
            if so_far >= wanted:
                return float(round(_FIRST_MS * math.exp(index * _STEP), 3))
        return _LAST_MS
