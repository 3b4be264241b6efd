"""What a hardware-triggered camera's own counter and clock tell: pulses that get no picture, and pictures that come too late.

Pure: times are given, seconds on the station's monotonic clock unless they say otherwise.
"""

from __future__ import annotations

from collections import deque

_DRIFT = 2e-4  # a camera's clock may run so much slower than ours
_LATE_NS, _ALL_LATE = 50_000_000, 30
_NEARLY_S = 0.005  # how well a trigger's time is known


class Pulses:
    """The counter's readings against the triggers told. A pulse is told once: by its picture, as one that failed, or by time."""

    def __init__(self, timeout_s: float) -> None:
        self.told = 0
        self._timeout_s = timeout_s
        self._readings: deque[tuple[float, int]] = deque()
        self._last = 0
        self._given_up_s = 0.0  # every pulse up to here has been told
        self._owed = 0  # pulses given up since the last picture: what still comes of them is no news

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
        self._owed += lost
        return lost

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

    def is_given_up(self, triggered_s: float) -> bool:
        """True for the trigger of a picture that comes too late: it has been told as lost."""
        if self._given_up_s and triggered_s <= self._given_up_s + _NEARLY_S:
            self._owed = max(0, self._owed - 1)
            return True
        return False

    def news(self, count: int) -> int:
        """How many of `count` pictures that never came whole have not been given up before. Counting tells, should it err."""
        known = min(count, self._owed)
        self._owed -= known
        return count - known

    def has_shown(self) -> None:
        """A picture came in time: what was given up lies before it."""
        self._owed = 0


class Delay:
    """How much later than the quickest a picture was sent, by the camera's clock against ours. Zero without a camera's clock.

    Pictures that all seem late tell of a clock that was set, not of pictures: it begins anew."""

    def __init__(self) -> None:
        self._offset_ns = 0.0
        self._at_ns = 0
        self._late = 0

    def ns(self, camera_ns: int, here_ns: int) -> int:
        if not camera_ns:
            return 0
        offset = here_ns - camera_ns
        slowest = self._offset_ns + (here_ns - self._at_ns) * _DRIFT
        is_first = not self._at_ns or self._late >= _ALL_LATE
        self._offset_ns = offset if is_first else min(offset, slowest)
        self._at_ns = here_ns
        delay = int(offset - self._offset_ns)
        self._late = self._late + 1 if delay > _LATE_NS else 0
        return delay
