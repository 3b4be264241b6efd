"""Bounded queues between threads; each says what it does when full.

`queue.SimpleQueue` is the fastest hand-over the interpreter has, but unbounded. Where frames are involved the bound is
the number of slots; where they are not, this wrapper refuses and lets the caller declare the loss.
"""

from __future__ import annotations

import queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Refusing(Generic[T]):
    """A queue of at most `limit` items. `offer` never blocks: it says False when full, and counts it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused = 0
        self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()

    def __len__(self) -> int:
        return self._queue.qsize()

    def offer(self, item: T) -> bool:
        if self._queue.qsize() >= self.limit:
            self.refused += 1
            return False
        self._queue.put(item)
        return True

    def force(self, item: T) -> None:
        """Put regardless of the limit: for words to the reader (stop, acknowledge) that must not be refused."""
        self._queue.put(item)

    def take(self, timeout_s: float, most: int) -> list[T]:
        """Return up to `most` items: waits for the first, never for the rest. Empty after the timeout."""
        try:
            items = [self._queue.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while len(items) < most:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return items
