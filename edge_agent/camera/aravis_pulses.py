"""Triggers against pictures: what is lost by now, and what was given up and is still owed, so that it is no other part's.

Pure: times are given, seconds on the station's monotonic clock unless they say otherwise.
"""

from __future__ import annotations

from collections import deque

_MOST_TWICE, _OF = 8, 1000  # so many told in so many that the counter did not count: it counts something else
Between = tuple[int, int]  # ns
NEARLY_S = 0.005  # how well a trigger's time is known


class Pulses:
    """The counter's readings against the triggers told. A pulse is told once: by its picture, as one that failed, or by time."""

    def __init__(self, timeout_s: float) -> None:
        self.told = 0
        self._timeout_s = timeout_s
        self._readings: deque[tuple[float, float, int]] = deque()  # asked, answered, pulses
        self._last = 0
        self._given_up_s = 0.0  # every pulse up to here has been told
        self._asked_s = 0.0  # when that reading was asked for
        self._since_s = 0.0  # and the one before it that was looked at
        self._came_s: deque[float] = deque()  # when the pulses of the last pictures came, at the earliest
        self._twice, self._twice_from = 0, 0
        self.owed = 0  # triggers given up since the last picture: what still comes of them is no news

    def read(self, asked_s: float, now_s: float, pulses: int) -> bool:
        """Note what the counter stands at, asked and answered then; False where it went back, so that the camera has begun anew."""
        if pulses < self._last:
            return False
        self._last = pulses
        self._readings.append((asked_s, now_s, pulses))
        return True

    def came(self, pulse_s: float) -> None:
        """A picture is told whose pulse came no earlier than this."""
        self._came_s.append(pulse_s)

    def overdue(self, now_s: float) -> int:
        """How many pulses are lost by now: those counted longer ago than a picture may take, without a word of them so far.
        Pictures of pulses that surely came after a reading say nothing of what it counted."""
        lost, self._since_s = 0, self._asked_s
        while self._readings and now_s - self._readings[0][1] > self._timeout_s:
            self._asked_s, self._given_up_s, pulses = self._readings.popleft()
            while self._came_s and self._came_s[0] <= self._given_up_s:
                self._came_s.popleft()
            told_later = sum(pulse_s > self._given_up_s for pulse_s in self._came_s)
            lost = max(lost, pulses - (self.told - told_later))
        self.give_up(lost)
        return lost

    def give_up(self, count: int) -> None:
        """So many triggers have been told as lost: their pictures may come yet."""
        self.owed += count

    def pay(self) -> None:
        """A picture came that is none any more."""
        self.owed = max(0, self.owed - 1)

    @property
    def given_up_ns(self) -> Between:
        """Between which times the pulses came that were given up last."""
        return int(self._since_s * 1e9), int(self._given_up_s * 1e9)

    def seen_ns(self, number: int) -> Between:
        """Between which times the pulse of this number came: two readings. (0, 0) where none has counted it."""
        since_s = self._asked_s
        for asked_s, at_s, pulses in self._readings:
            if pulses >= number:
                return int(since_s * 1e9), int(at_s * 1e9)
            since_s = asked_s
        return 0, 0

    def rest(self) -> int:
        """How many pulses were counted that there has been no word of: lost, where the camera is lost."""
        return max(0, self._last - self.told)

    def take_back(self, told: int) -> int:
        """Of `told` triggers, told before the counter was asked, return how many it did not count: losses told twice. They are
        taken back, so that none of them hides a loss to come."""
        twice = max(0, told - self._last)
        self.told -= twice
        if self.told - self._twice_from > _OF:
            self._twice, self._twice_from = 0, self.told
        self._twice += twice
        return twice

    @property
    def counts_something_else(self) -> bool:
        """True where the counter did not count what there was word of, again and again."""
        return self._twice > _MOST_TWICE

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
