"""When a thread last got on with its work: it notes that itself, and whoever watches over it looks."""

from __future__ import annotations

import time

_NEVER_NS = 1 << 62


class Pulse:
    """Beaten by one thread, read by any. A thread that waits for work rests; one that enters a slow call says how slow."""

    __slots__ = ("_beaten", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._beaten = (_NEVER_NS, 0)  # when, and how long the step after it may take; both at once, as others read it

    def beat(self, patience_s: float = 0) -> None:
        """The thread gets on; its next step may take `patience_s` longer than usual."""
        self._beaten = (time.monotonic_ns(), int(patience_s * 1e9))

    def rest(self) -> None:
        """The thread waits for work, or has ended: nobody misses it."""
        self._beaten = (_NEVER_NS, 0)

    def stalled_s(self, limit_s: float) -> float:
        """For how long the thread has not got on, where that is longer than `limit_s` and what it asked for; else 0."""
        since_ns, patience_ns = self._beaten
        silent_ns = time.monotonic_ns() - since_ns
        return silent_ns / 1e9 if silent_ns > limit_s * 1e9 + patience_ns else 0.0
