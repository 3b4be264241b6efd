"""A bounded queue refuses and counts; the reader takes what is there and never waits for more."""

from __future__ import annotations

import threading

from edge_agent.handoff import Refusing


def test_what_is_offered_comes_out_in_order() -> None:
    queue: Refusing[int] = Refusing(10)
    assert all(queue.offer(n) for n in range(5))
    assert len(queue) == 5
    assert queue.take(0, 3) == [0, 1, 2]
    assert queue.take(0, 3) == [3, 4]


def test_a_full_queue_refuses_counts_and_keeps_what_it_has() -> None:
    queue: Refusing[int] = Refusing(2)
    assert [queue.offer(n) for n in range(5)] == [True, True, False, False, False]
    assert queue.refused == 3
    assert queue.take(0, 10) == [0, 1]
    assert queue.offer(9)


def test_a_word_to_the_reader_is_not_refused() -> None:
    queue: Refusing[str] = Refusing(1)
    queue.offer("part")
    queue.force("stop")
    assert queue.take(0, 10) == ["part", "stop"]
    assert queue.refused == 0


def test_an_empty_queue_gives_nothing_after_the_timeout() -> None:
    assert Refusing[int](1).take(0.001, 5) == []


def test_take_waits_for_the_first_item_of_another_thread() -> None:
    queue: Refusing[int] = Refusing(5)
    taken: list[int] = []
    reader = threading.Thread(target=lambda: taken.extend(queue.take(10, 5)))
    reader.start()
    queue.offer(1)
    reader.join(timeout=10)
    assert taken == [1]


def test_from_several_threads_every_item_is_either_taken_or_refused() -> None:
    queue: Refusing[int] = Refusing(50)
    accepted: list[int] = []

    def offer(first: int) -> None:
        accepted.extend(n for n in range(first, first + 500) if queue.offer(n))

    writers = [threading.Thread(target=offer, args=(n * 1000,)) for n in range(4)]
    for writer in writers:
        writer.start()
    taken: list[int] = []
    while any(writer.is_alive() for writer in writers):
        taken += queue.take(0.001, 7)
    taken += queue.take(0, 10_000)
    assert sorted(taken) == sorted(accepted)
    assert len(accepted) + queue.refused == 2000
