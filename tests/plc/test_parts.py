"""Every trigger gets one number, one deadline and one outcome."""

from __future__ import annotations

import itertools
import threading

import pytest

from edge_agent.plc.parts import LineBook, PartBook
from edge_agent.records import FAULT, NG, PASS, Identity

MS = 1_000_000


class Log:
    """A trigger log in memory."""

    epoch = 7

    def __init__(self) -> None:
        self.opened: list[tuple[int, int, bytes, bytes]] = []

    def open_part(self, seq: int, trigger_time_us: int, line: bytes, part_id: bytes, shadow: bool = False) -> int:
        self.opened.append((seq, trigger_time_us, line, part_id))
        return len(self.opened) - 1


def book_of(*names: str, deadline_ms: float = 100, guard_ms: int = 5) -> tuple[PartBook, list[LineBook], Log]:
    log = Log()
    identity = Identity("r", "", "", "e", deadline_ms, 1)
    lines = [LineBook(name, identity=identity) for name in names]
    return PartBook(log, lines, dict.fromkeys(names, guard_ms * MS)), lines, log


def test_a_trigger_is_numbered_and_in_the_journal_before_it_returns() -> None:
    book, (one, two), log = book_of("one", "two")
    parts = [book.open_part(line, "", 0, 5) for line in (one, one, two)]
    assert [(part.line, part.epoch, part.seq, part.part_id) for part in parts] == [
        ("one", 7, 1, "1"),
        ("one", 7, 2, "2"),
        ("two", 7, 1, "1"),
    ]
    assert log.opened == [(1, 5, b"one", b"1"), (2, 5, b"one", b"2"), (1, 5, b"two", b"1")]
    assert [part.journal_ticket for part in parts] == [0, 1, 2]


def test_a_part_is_claimed_once() -> None:
    book, (line,), _ = book_of("one")
    part = book.open_part(line, "", 0, 0)
    assert [book.claim(part) for _ in range(3)] == [True, False, False]
    assert book.open_parts() == []


def test_a_part_keeps_the_identity_and_the_mode_of_its_trigger() -> None:
    book, (line,), _ = book_of("one")
    first = book.open_part(line, "", 0, 0)
    line.identity, line.mode = Identity("other", "", "", "e", 50, 2), "shadow"
    second = book.open_part(line, "", 0, 0)
    assert (first.identity.recipe, first.shadow) == ("r", False)
    assert (second.identity.recipe, second.shadow) == ("other", True)
    assert second.deadline_ns == 45 * MS


def test_deadlines_come_a_guard_time_early_in_their_order_and_once() -> None:
    book, (line,), _ = book_of("one")
    late, early = book.open_part(line, "", 50 * MS, 0), book.open_part(line, "", 0, 0)
    assert book.next_deadline_ns() == early.deadline_ns == 95 * MS
    assert book.expired(95 * MS - 1) == []
    assert book.expired(95 * MS) == [early]
    assert book.expired(95 * MS) == []
    assert book.expired(1000 * MS) == [late]
    assert book.next_deadline_ns() is None


def test_a_claimed_part_does_not_expire() -> None:
    book, (line,), _ = book_of("one")
    parts = [book.open_part(line, "", n, 0) for n in range(3)]
    assert book.claim(parts[1])
    assert book.expired(10**12) == [parts[0], parts[2]]


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 5))))
def test_published_through_never_jumps_a_gap(order: tuple[int, ...]) -> None:
    line = LineBook("one")
    closed: set[int] = set()
    for seq in order:
        line.close_seq(seq)
        closed.add(seq)
        expected = next(n for n in range(5) if n + 1 not in closed)
        assert line.published_through == expected
    assert not line.out_of_order


def test_open_is_triggers_less_outcomes() -> None:
    line = LineBook("one", triggers=9, outcomes={PASS: 3, NG: 2, FAULT: 1})
    assert line.open == 3


@pytest.mark.parametrize(
    ("mode", "ready", "state"),
    [("online", True, "Ready"), ("shadow", True, "Ready"), ("offline", True, "Initialized"), ("online", False, "Error")],
)
def test_a_line_says_its_state_in_the_words_of_opc_40100(mode: str, ready: bool, state: str) -> None:
    assert LineBook("one", mode, ready).state() == state


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("A-1", "A-1"),
        ("x" * 70, "x" * 64),
        ("ä" * 33, "ä" * 32),
        ("x" + "ä" * 32, "x" + "ä" * 31),
        ("\udcff.png", "?.png"),
        ("a\0b", "a?b"),
    ],
)
def test_a_part_id_is_cut_so_that_every_message_can_carry_it(given: str, kept: str) -> None:
    book, (line,), log = book_of("one")
    assert book.open_part(line, given, 0, 0).part_id == kept
    assert log.opened[0][3] == kept.encode()


def test_triggers_from_several_threads_get_numbers_without_a_gap() -> None:
    book, (line,), log = book_of("one")
    seqs: list[int] = []
    threads = [
        threading.Thread(target=lambda: seqs.extend([book.open_part(line, "", 0, 0).seq for _ in range(200)])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 801))
    assert [seq for seq, *_ in log.opened] == list(range(1, 801))
