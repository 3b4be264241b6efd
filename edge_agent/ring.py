"""Preallocated frame slots, leased and returned; nothing frame-sized is allocated after the start.

The memory is the ring's own (an anonymous mapping), so that whatever a driver or a GPU does to itself, a slot stays
valid memory. A slot whose owner hangs is quarantined: never leased again.
"""

from __future__ import annotations

import mmap
import queue
import threading

import numpy as np

from edge_agent.records import Pixels

_FREE, _LEASED, _QUARANTINED = 0, 1, 2


class Ring:
    """`slots` frame slots of `slot_bytes` each. `lease` and `give_back` may be called from any thread."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        page = mmap.PAGESIZE
        stride = -(-slot_bytes // page) * page
        self._memory = mmap.mmap(-1, slots * stride)
        whole = np.frombuffer(self._memory, np.uint8)
        whole[::page] = 0  # touch every page now rather than under the first parts
        self.memory: Pixels = whole  # all slots, for an engine that wants their pages locked
        self._views: list[Pixels] = [whole[i * stride : i * stride + slot_bytes] for i in range(slots)]
        self._state = bytearray(slots)
        self._lock = threading.Lock()  # of two who return the same slot, only one may succeed
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wanted = slots + 1  # give_back tells `_room` when so many are free; more than there are: nobody waits
        self._room = threading.Event()
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.quarantined = 0
        for slot in range(slots):
            self._free.put(slot)

    def lease(self) -> int | None:
        """Return a slot of one's own, or None where none is free. Never blocks."""
        try:
            slot = self._free.get_nowait()
        except queue.Empty:
            return None
        self._state[slot] = _LEASED
        return slot

    def wait_for_room(self, slots: int, timeout_s: float) -> None:
        """Wait until so many slots are free: whoever can wait fills several in one go, rather than being woken for each."""
        self._room.clear()
        self._wanted = slots
        if self._free.qsize() < slots:
            self._room.wait(timeout_s)
        self._wanted = self.slots + 1

    def view(self, slot: int) -> Pixels:
        """The slot's memory: flat (slot_bytes,) uint8. Only the holder of the lease may touch it."""
        return self._views[slot]

    def give_back(self, slot: int) -> None:
        """End a lease. Raises ValueError for a slot that is not leased: returning twice would let two owners write.

        A quarantined slot stays out of use, even when its owner comes back after all."""
        with self._lock:
            if self._state[slot] == _FREE:
                raise ValueError(f"frame slot {slot} is returned but not leased")
            if self._state[slot] == _QUARANTINED:
                return
            self._state[slot] = _FREE
        self._free.put(slot)
        if self._free.qsize() >= self._wanted:
            self._room.set()

    def quarantine(self, slot: int) -> bool:
        """Take a leased slot out of use for good: somebody may still write to it. False where it came back meanwhile."""
        with self._lock:
            if self._state[slot] != _LEASED:
                return False
            self._state[slot] = _QUARANTINED
            self.quarantined += 1
        return True

    @property
    def free(self) -> int:
        return self._free.qsize()
