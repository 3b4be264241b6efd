"""Words of several views become one outcome for each part, in whatever order and however late they come. Times are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import GOOD, Station, start_stations, wait_until

from edge_agent.errors import Reason
from edge_agent.joiner import Joiner
from edge_agent.plc.parts import OFFLINE

MS = 1_000_000
NO_TIME = None  # as a camera tells that does not know


class Bench:
    """Views a and b, ready, with a window of 50 ms. `at` is ms after a moment two seconds ago: nothing is to be waited for."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.joiner = Joiner(station.line, station.publisher, ("a", "b"), 0.05)
        self.began_ns = time.monotonic_ns() - 2_000 * MS
        self.shown: dict[int, set[str]] = {}  # by seq, the pictures that a PASS would stand on
        for view in self.joiner.views.values():
            view.book.ready = True
        self.joiner.look()

    def picture(self, view: str, at: int | None, truth: int = 0, part_id: str = "") -> None:
        part = self.joiner.trigger(view, part_id, self._ns(at))
        self.shown.setdefault(part.seq, set()).add(f"{view}{truth}")
        self.joiner.judged(view, part, GOOD)

    def loss(self, view: str, at: int | None) -> None:
        self.joiner.views[view].fault(self.joiner.trigger(view, "", self._ns(at)), Reason.BAD_FRAME)

    def _ns(self, at: int | None) -> int:
        return 0 if at is None else self.began_ns + at * MS

    def outcomes(self, parts: int) -> tuple[int, dict[str, int]]:
        """How many PASS, and how often each reason, once nothing is open any more."""
        self.joiner.look()
        line = self.station.line
        wait_until(lambda: not line.open)
        assert line.triggers == sum(line.outcomes.values()) == parts
        return line.outcomes["PASS"], line.reasons


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    yield from start_stations(tmp_path)


@pytest.fixture
def here(stations: Callable[..., Station]) -> Bench:
    return Bench(stations())


def test_a_loss_told_late_is_that_of_the_part_which_ended_without_it(here: Bench) -> None:
    here.picture("a", 0)
    here.joiner.look()
    here.picture("a", 100)
    here.loss("b", 5)
    here.picture("b", 101)
    assert here.outcomes(2) == (1, {"no_frame": 1})


def test_a_loss_of_unknown_time_makes_no_part_of_its_own(here: Bench) -> None:
    here.picture("a", 0)
    here.joiner.look()
    here.loss("b", NO_TIME)
    assert here.outcomes(1) == (0, {"no_frame": 1})


def test_several_losses_told_at_once_are_one_parts_each(here: Bench) -> None:
    for at in (0, 150):
        here.picture("a", at)
        here.joiner.look()
    for _ in range(2):
        here.loss("b", 155)
    for view in "ab":
        here.picture(view, 300)
    assert here.outcomes(3) == (1, {"no_frame": 2})


@pytest.mark.parametrize("lag", [60, 80, 100, 120, 140])
def test_a_view_that_is_always_late_never_passes_and_makes_no_parts(here: Bench, lag: int) -> None:
    """At 150 ms from part to part its words come into the window of the next part."""
    for part in range(6):
        here.picture("a", 150 * part, part)
        if lag > 100:
            here.joiner.look()
        here.picture("b", 150 * part + lag, part)
    assert here.outcomes(6) == (0, {"no_frame": 6})


def test_its_words_do_not_pass_either_when_they_come_after_the_next_parts(here: Bench) -> None:
    here.picture("a", 0, 0)
    here.joiner.look()
    for part in range(1, 5):
        here.picture("a", 150 * part, part)
        here.picture("b", 150 * part - 30, part - 1)
    here.picture("b", 720, 4)
    assert here.outcomes(5) == (0, {"no_frame": 5})


@pytest.mark.parametrize("lag", [-40, -5, 0, 5, 40])
def test_views_within_the_window_pass_together(here: Bench, lag: int) -> None:
    words = sorted((150 * part + (lag if view == "b" else 0), view, part) for part in range(5) for view in "ab")
    for at, view, part in words:
        here.picture(view, at, part)
    assert here.outcomes(5) == (5, {})
    assert list(here.shown.values()) == [{f"a{part}", f"b{part}"} for part in range(5)]


def test_after_two_pictures_of_one_view_the_other_views_make_no_more_parts(here: Bench) -> None:
    for view in "aabb":
        here.picture(view, 0)
    assert here.outcomes(2) == (0, {"ambiguous": 2})


def test_a_view_that_was_away_owes_nothing_when_it_is_ready_again(here: Bench) -> None:
    here.picture("a", 0)
    here.joiner.look()
    for is_ready in (False, True):
        here.joiner.views["b"].book.ready = is_ready
        here.joiner.look()
    here.picture("b", 148)
    here.picture("a", 150)
    assert here.outcomes(2) == (1, {"no_frame": 1})


def test_a_late_word_that_names_its_part_makes_no_second(here: Bench) -> None:
    here.picture("a", 0, part_id="A")
    here.joiner.look()
    here.picture("b", 400, part_id="A")
    assert here.outcomes(1) == (0, {"no_frame": 1})


def test_both_views_of_an_offline_line_are_one_part(here: Bench) -> None:
    here.station.line.mode = OFFLINE
    for view in "ab":
        here.loss(view, 0)
    assert here.outcomes(1) == (0, {"not_ready": 1})


def test_views_whose_cameras_run_ahead_of_our_clock_meet_all_the_same(here: Bench) -> None:
    for part in range(3):
        at = (time.monotonic_ns() - here.began_ns) // MS + 200
        here.picture("a", at, part)
        here.picture("b", at + 1, part)
        time.sleep(0.06)
    assert here.outcomes(3) == (3, {})
    assert list(here.shown.values()) == [{f"a{part}", f"b{part}"} for part in range(3)]
