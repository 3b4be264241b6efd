"""Triggers against pictures: what is lost by now, and what was given up and is still owed, so that it is no other part's.

Pure: times are given, seconds on the station's monotonic clock unless they say otherwise.
"""

from __future__ import annotations

from collections import deque

_MOST_TWICE = 8  # a loss may be told by a buffer and by a gap in the ids; the counter then tells one less
NEARLY_S = 0.005  # how well a trigger's time is known


class Pulses:
    """The counter's readings against the triggers told. A pulse is told once: by its picture, as one that failed, or by time."""

    def __init__(self, timeout_s: float) -> None:
        self.told = 0
        self._timeout_s = timeout_s
        self._readings: deque[tuple[float, int]] = deque()
        self._last = 0
        self._given_up_s = 0.0  # every pulse up to here has been told
        self.owed = 0  # triggers given up since the last picture: what still comes of them is no news

    def read(self, now_s: float, pulses: int) -> bool:
        """Note what the counter stands at; False where it went back, so that the camera has begun anew."""
        if pulses < self._last:
            return False
        self._last = pulses
        self._readings.append((now_s, pulses))
        return True

    def overdue(self, now_s: float) -> int:
        """How many pulses are lost by now: those counted longer ago than a picture may take, without a word of them so far."""
        lost = 0
        while self._readings and now_s - self._readings[0][0] > self._timeout_s:
            self._given_up_s, pulses = self._readings.popleft()
            lost = max(lost, pulses - self.told)
        self.give_up(lost)
        return lost

    def give_up(self, count: int) -> None:
        """So many triggers have been told as lost: their pictures may come yet."""
        self.owed += count

    def pay(self) -> None:
        """A picture came that is none any more."""
        self.owed = max(0, self.owed - 1)

    @property
    def given_up_ns(self) -> int:
        """When the last pulse that was given up had been counted, ns: a little after it came."""
        return int(self._given_up_s * 1e9)

    def seen_ns(self, number: int) -> int:
        """When the pulse of this number was counted first, ns: a little after it came. 0 where it has not been."""
        return next((int(at_s * 1e9) for at_s, pulses in self._readings if pulses >= number), 0)

    def rest(self) -> int:
        """How many pulses were counted that there has been no word of: lost, where the camera is lost."""
        return max(0, self._last - self.told)

    def is_too_few(self, told: int) -> bool:
        """True where there was word of many more pulses, `told`, than were counted after: the counter counts something else."""
        return told > self._last + _MOST_TWICE

    def is_given_up(self, triggered_s: float) -> bool:
        """True for the trigger of a picture that comes too late: it has been told as lost."""
        if self._given_up_s and triggered_s <= self._given_up_s + NEARLY_S:
            self.pay()
            return True
        return False

    def news(self, count: int) -> int:
        """How many of `count` pictures that never came whole have not been given up before. Counting tells, should it err."""
        known = min(count, self.owed)
        self.owed -= known
        return count - known

    def has_shown(self) -> None:
        """A picture came in time: what was given up lies before it."""
        self.owed = 0
