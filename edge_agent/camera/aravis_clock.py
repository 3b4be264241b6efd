"""When a picture was taken, by its camera's clock, which is set against the station's from time to time.

Pure: times are given, ns, the station's on its monotonic clock.
"""

from __future__ import annotations

from typing import NamedTuple

_DRIFT = 2e-4  # a camera's clock may run so much slower or faster than ours
_LATE_NS, _ALL_LATE = 50_000_000, 30


class Taken(NamedTuple):
    """When a picture was taken on the station's clock: as it seems, and at the earliest. `late_ns`: how much later than the
    quickest of its kind it was sent."""

    likely_ns: int
    earliest_ns: int
    late_ns: int = 0


class Clock:
    """One camera's clock against ours: read directly where the camera can tell its time, else from the quickest pictures."""

    def __init__(self) -> None:
        self._delay = Delay()
        self._offset_ns = 0  # ours less the camera's, when the camera told its time
        self._error_ns = 0
        self._told_ns = 0

    def is_told(self, camera_ns: int, asked_ns: int, answered_ns: int) -> None:
        """The camera told its time between these two of ours. A slow answer says less than what was known before."""
        error_ns = (answered_ns - asked_ns) // 2
        if camera_ns and (not self._told_ns or error_ns <= self._doubt_ns(answered_ns)):
            self._offset_ns = (asked_ns + answered_ns) // 2 - camera_ns
            self._error_ns, self._told_ns = error_ns, answered_ns

    @property
    def is_known(self) -> bool:
        """True where an old picture can be told from a new one."""
        return bool(self._told_ns or self._delay.at_ns)

    def surely_ns(self, taken: Taken) -> int:
        """No picture was taken before this: 0 where the camera has not told its time."""
        return taken.earliest_ns if self._told_ns else 0

    def taken(self, camera_ns: int, sent_ns: int) -> Taken:
        """When the picture with the camera's time `camera_ns`, 0 for none, sent at `sent_ns` of ours, was taken."""
        if not camera_ns:
            return Taken(sent_ns, sent_ns)
        before_ns, late_ns = self._delay.at_ns, self._delay.ns(camera_ns, sent_ns)
        likely_ns = sent_ns - late_ns
        if self._told_ns:
            return Taken(likely_ns, camera_ns + self._offset_ns - self._doubt_ns(sent_ns), late_ns)
        return Taken(likely_ns, likely_ns - int((sent_ns - before_ns) * _DRIFT) if before_ns else 0, late_ns)

    def _doubt_ns(self, now_ns: int) -> int:
        return self._error_ns + int((now_ns - self._told_ns) * _DRIFT)


class Delay:
    """How much later than the quickest a picture was sent, by the camera's clock against ours. Zero without a camera's clock.

    Pictures that all seem late tell of a clock that was set, not of pictures: it begins anew."""

    def __init__(self) -> None:
        self.at_ns = 0  # the last picture's
        self._offset_ns = 0.0
        self._late = 0

    def ns(self, camera_ns: int, here_ns: int) -> int:
        if not camera_ns:
            return 0
        offset = here_ns - camera_ns
        slowest = self._offset_ns + (here_ns - self.at_ns) * _DRIFT
        is_first = not self.at_ns or self._late >= _ALL_LATE
        self._offset_ns = offset if is_first else min(offset, slowest)
        self.at_ns = here_ns
        delay = int(offset - self._offset_ns)
        self._late = self._late + 1 if delay > _LATE_NS else 0
        return delay
