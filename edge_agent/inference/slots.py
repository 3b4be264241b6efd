"""Which line gets the next free tensor slot: the one that has waited longest, however fast another one is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from edge_agent.inference.base import TensorSlot

Wake = Callable[[], None]


class SlotPool:
    """Tensor slots of one engine, shared by lines. Every method may be called from any thread; none blocks."""

    def __init__(self, slots: Iterable[TensorSlot]) -> None:
        self._free = deque(slots)
        self._waiting: deque[Wake] = deque()
        self._kept: dict[Wake, TensorSlot] = {}  # for those that waited, until they come for it
        self._lock = threading.Lock()

    def lease(self, wake: Wake | None = None) -> TensorSlot | None:
        """Return a slot, or None where none is free or others wait. Then `wake`, which is also who asks, is called when one is
        kept for it: it leases it, or forgoes it."""
        with self._lock:
            if wake is not None and wake in self._kept:
                return self._kept.pop(wake)
            if self._free and not self._waiting:
                return self._free.popleft()
            if wake is not None and wake not in self._waiting:
                self._waiting.append(wake)
            return None

    def release(self, slot: TensorSlot, by: Wake | None = None) -> None:
        """Give a slot back: to whoever waits longest. `by` is not called: it is about to look anyway."""
        slot.ticket = None
        with self._lock:
            if not self._waiting:
                self._free.append(slot)
                return
            next_one = self._waiting.popleft()
            self._kept[next_one] = slot
        if next_one is not by:
            next_one()

    def forgo(self, wake: Wake) -> None:
        """Need no slot any more: give back one that was kept, and wait for none."""
        with self._lock:
            slot = self._kept.pop(wake, None)
            if wake in self._waiting:
                self._waiting.remove(wake)
        if slot is not None:
            self.release(slot)
