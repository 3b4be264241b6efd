"""Time as an object, so that a test can hold it still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time for deadlines, wall time for records."""

    def monotonic_ns(self) -> int: ...

    def wall_us(self) -> int: ...


class SystemClock:
    """The machine's clocks. Wall time is UTC microseconds since 1970, which fits a double; of one set to before 1970, which no
    record could hold, it is 0."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_us(self) -> int:
        return max(0, time.time_ns() // 1000)


class HeldClock:
    """A clock that moves only when told to."""

    def __init__(self, monotonic_ns: int = 1_000_000_000, wall_us: int = 1_700_000_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_us = wall_us

    def advance_ms(self, ms: float) -> None:
        self._monotonic_ns += int(ms * 1e6)
        self._wall_us += int(ms * 1e3)

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_us(self) -> int:
        return self._wall_us


def to_ms(ns: int) -> float:
    """Nanoseconds as milliseconds, cut to whole microseconds."""
    return ns // 1000 / 1000
