"""A camera's control channel on a thread of its own: a call that is not answered blocks for seconds; no part waits for it.

One call at a time, in the order in which they were begun, for a device's features are not for several threads. What is looked at
returns at once: what has been answered since, or None. It raises the CameraError that the call raised.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from concurrent.futures import wait as wait_for
from typing import TypeVar

from edge_agent.camera.aravis_features import Latch
from edge_agent.camera.aravis_library import Library

T = TypeVar("T")
COUNT_EVERY_S = 0.05
_LATCH_EVERY_S = 1.0
_AT_ONCE_S = 0.005  # a camera that is well answers in less, so that nothing is known a turn later than need be

Counted = tuple[int, float, float]  # what the counter stood at, and between which times
Told = tuple[int, int, int]  # the camera's time, and ours before and after, ns


class Channel:
    """Open from the start until `close`; every method is called by the camera's thread."""

    def __init__(self, name: str, arv: Library, camera: int, latch: Latch | None) -> None:
        self.fired_s = 0.0  # when the last trigger was sent; 0 where it has not been so far
        self._arv, self._camera, self._latch = arv, camera, latch
        self._calls = ThreadPoolExecutor(1, f"control-{name}")
        self._firing: Future[None] | None = None
        self._latching: Future[Told] | None = None
        self._counting: Future[Counted] | None = None
        self._next_latch_s = self._next_count_s = 0.0

    def fire(self) -> None:
        """Begin a software trigger."""
        self.fired_s = 0.0
        self._firing = self._calls.submit(self._fire)

    def look_at_trigger(self) -> None:
        """Raise what the software trigger raised."""
        if self._firing is not None and self._firing.done():
            firing, self._firing = self._firing, None
            firing.result()

    def give_up_trigger(self) -> bool:
        """Wait for it no more; it is not sent later. True where the camera has not answered it."""
        firing, self._firing = self._firing, None
        if firing is None or firing.done():
            return False
        firing.cancel()
        return True

    def look_at_clock(self, now_s: float) -> Told | None:
        """Ask the camera for its time, now and then."""
        if self._latch is None:
            return None
        if self._latching is None and now_s >= self._next_latch_s:
            self._next_latch_s = now_s + _LATCH_EVERY_S
            self._latching = self._calls.submit(self._latch.ask, self._arv, self._camera)
            wait_for([self._latching], _AT_ONCE_S)
        told = _answer(self._latching)
        if told is not None:
            self._latching = None
        return told

    @property
    def is_counting(self) -> bool:
        """True while the counter is being read."""
        return self._counting is not None

    def look_at_counter(self, now_s: float) -> Counted | None:
        """Read the counter, now and then."""
        if self._counting is None and now_s >= self._next_count_s:
            self._next_count_s = now_s + COUNT_EVERY_S
            self._counting = self._calls.submit(self._count)
            wait_for([self._counting], _AT_ONCE_S)
        counted = _answer(self._counting)
        if counted is not None:
            self._counting = None
        return counted

    def count_now(self, timeout_s: float) -> Counted | None:
        """Read the counter now; None where the camera does not answer in time."""
        self._counting = None
        try:
            return self._calls.submit(self._count).result(timeout_s)
        except NotInTime:
            return None

    def close(self) -> None:
        """Begin no call any more, and wait for the one under way."""
        self._calls.shutdown(wait=True, cancel_futures=True)

    def _fire(self) -> None:
        self.fired_s = time.monotonic()
        self._arv.call("camera_software_trigger", self._camera)

    def _count(self) -> Counted:
        asked_s, device = time.monotonic(), self._arv.call("camera_get_device", self._camera)
        value = int(self._arv.call("device_get_integer_feature_value", device, "CounterValue"))
        return value, asked_s, time.monotonic()


def _answer(call: Future[T] | None) -> T | None:
    return call.result() if call is not None and call.done() else None
