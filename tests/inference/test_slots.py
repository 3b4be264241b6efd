"""Tensor slots go round among those who wait; nobody is passed over, and a slot kept for one who needs none is not lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np

from edge_agent.inference.base import TensorSlot
from edge_agent.inference.slots import SlotPool


def pool(count: int) -> SlotPool:
    empty = np.zeros((1, 1), np.uint8)
    return SlotPool(TensorSlot(index, empty, empty[None], np.zeros(1, np.float32)) for index in range(count))


def named(calls: list[str], name: str) -> Callable[[], None]:
    return lambda: calls.append(name)


def test_who_waits_longest_is_next_also_where_another_asks_again_at_once() -> None:
    calls: list[str] = []
    a, b, c = (named(calls, name) for name in "abc")
    slots = pool(1)
    held = slots.lease(a)
    assert held is not None
    assert slots.lease(b) is None
    assert slots.lease(c) is None
    slots.release(held, a)
    assert calls == ["b"]
    assert slots.lease(a) is None, "taken in front of those who wait"
    assert slots.lease(c) is None
    assert slots.lease(b) is held
    slots.release(held, b)
    assert calls == ["b", "c"]


def test_a_slot_that_is_forgone_goes_to_the_next() -> None:
    calls: list[str] = []
    a, b, c = (named(calls, name) for name in "abc")
    slots = pool(1)
    held = slots.lease(a)
    assert held is not None
    for wake in (b, c):
        assert slots.lease(wake) is None
    slots.release(held)
    slots.forgo(b)
    assert calls == ["b", "c"]
    assert slots.lease(c) is held
    slots.release(held)
    slots.forgo(c)
    assert slots.lease() is held


def test_two_lines_on_one_engine_get_the_same_share() -> None:
    """One line asks without a pause, the other works between its parts; both get every second slot while both wait."""
    slots = pool(2)
    done: Counter[str] = Counter()
    stop = threading.Event()

    def line(name: str) -> None:
        turn = threading.Event()
        wake = turn.set
        while not stop.is_set():
            slot = slots.lease(wake)
            if slot is None:
                turn.wait(0.5)
                turn.clear()
                continue
            stop.wait(0.002)
            done[name] += 1
            slots.release(slot, wake)

    threads = [threading.Thread(target=line, args=(name,)) for name in ("one", "one'", "two", "two'")]
    for thread in threads:
        thread.start()
    stop.wait(0.6)
    stop.set()
    for thread in threads:
        thread.join(2)
    assert min(done.values()) > 0.7 * max(done.values()), done
