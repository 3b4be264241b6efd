"""A slot has one owner at a time; what is quarantined never comes back; nothing is allocated after the start."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge_agent.ring import Ring


def test_every_slot_is_leased_once_and_then_none() -> None:
    ring = Ring(3, 100)
    assert sorted(slot for slot in (ring.lease(), ring.lease(), ring.lease()) if slot is not None) == [0, 1, 2]
    assert ring.lease() is None
    assert ring.free == 0


def test_slots_do_not_overlap_and_are_the_size_asked_for() -> None:
    ring = Ring(4, 5000)
    for slot in range(4):
        assert ring.view(slot).shape == (5000,)
        ring.view(slot)[:] = slot + 1
    assert all(np.all(ring.view(slot) == slot + 1) for slot in range(4))


def test_the_memory_of_a_slot_stays_where_it_is() -> None:
    ring = Ring(2, 4096)
    addresses = {ring.view(slot).ctypes.data for slot in range(2)}
    for _ in range(10):
        slot = ring.lease()
        assert slot is not None
        assert ring.view(slot).ctypes.data in addresses
        ring.give_back(slot)


def test_returning_twice_is_refused() -> None:
    ring = Ring(2, 10)
    slot = ring.lease()
    assert slot is not None
    ring.give_back(slot)
    with pytest.raises(ValueError, match="not leased"):
        ring.give_back(slot)
    assert ring.free == 2


def test_what_nobody_holds_cannot_be_quarantined() -> None:
    ring = Ring(2, 10)
    assert not ring.quarantine(0)
    assert (ring.quarantined, ring.free) == (0, 2)


def test_a_quarantined_slot_stays_out_even_when_its_owner_returns_it() -> None:
    ring = Ring(2, 10)
    hung, other = ring.lease(), ring.lease()
    assert hung is not None
    assert other is not None
    ring.quarantine(hung)
    ring.give_back(hung)
    assert ring.lease() is None
    ring.give_back(other)
    assert ring.lease() == other
    assert ring.lease() is None
    assert ring.quarantined == 1


def test_a_slot_is_quarantined_once() -> None:
    ring = Ring(1, 10)
    ring.lease()
    assert ring.quarantine(0)
    assert not ring.quarantine(0)
    assert ring.quarantined == 1


def test_whoever_waits_for_room_is_woken_when_so_many_slots_are_free_and_not_before() -> None:
    ring = Ring(3, 10)
    slots = [ring.lease() for _ in range(3)]
    woken = threading.Event()
    waiter = threading.Thread(target=lambda: (ring.wait_for_room(2, timeout_s=20), woken.set()))
    waiter.start()
    assert slots == [0, 1, 2]
    ring.give_back(0)
    assert not woken.wait(0.05)
    ring.give_back(1)
    assert woken.wait(10)
    waiter.join()
    ring.wait_for_room(2, timeout_s=20)  # there is room already: no wait at all


def test_of_many_threads_that_return_one_slot_a_single_one_succeeds() -> None:
    ring = Ring(1, 10)
    for _ in range(50):
        assert ring.lease() == 0
        errors: list[ValueError] = []
        start = threading.Barrier(4)

        def give_back(start: threading.Barrier = start, errors: list[ValueError] = errors) -> None:
            start.wait()
            try:
                ring.give_back(0)
            except ValueError as error:
                errors.append(error)

        threads = [threading.Thread(target=give_back) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 3
        assert ring.free == 1
