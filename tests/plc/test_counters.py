"""Counters of shift and lot: exact, also where the daemon is killed between any two of its steps."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from running import BAD, Station, judge_all, wait_until

from edge_agent.errors import EdgeAgentError
from edge_agent.plc.counters import PLACE_BYTES, Counters, LineCounters, next_shift_us, shift_began_us, standing_in
from edge_agent.plc.journal import Entry
from edge_agent.records import FAULT, NG, PASS

Start = Callable[..., Station]
US = 1_784_000_000_000_000


def entry(epoch: int, seq: int, body: bytes | None = None, shadow: bool = False) -> Entry:
    return Entry(0, epoch, seq, US, "one", str(seq), body, shadow)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], LineCounters]]:
    made: list[LineCounters] = []

    def open_counters() -> LineCounters:
        made.append(LineCounters(tmp_path / "one", US))
        return made[-1]

    yield open_counters
    for each in made:
        each.close()


def counts(counters: LineCounters) -> tuple[int, int, int]:
    shift = counters.kept.shift
    return shift.passed, shift.ng, shift.fault


def test_parts_are_counted_with_their_reasons(opened: Callable[[], LineCounters]) -> None:
    counters = opened()
    counters.count(5, 1, PASS, ())
    counters.count(5, 2, NG, ("blob_count", "area"))
    counters.count(5, 3, FAULT, ("late",))
    told = opened().kept.lot.told()
    assert (told["parts"], told["PASS"], told["NG"], told["FAULT"], told["yield"]) == (3, 1, 1, 1, pytest.approx(1 / 3, abs=1e-6))
    assert (told["rules"], told["faults"]) == ({"blob_count": 1, "area": 1}, {"late": 1})


def test_a_part_counted_and_never_decided_becomes_one_that_was_interrupted(opened: Callable[[], LineCounters]) -> None:
    counters = opened()
    counters.count(5, 1, PASS, ())
    counters.count(5, 2, NG, ("blob_count",))  # killed before its outcome reached the journal
    left = [entry(5, 1, b"{}"), entry(5, 2), entry(5, 3)]
    after = opened()
    after.recover(left)
    assert counts(after) == (1, 0, 2)
    assert after.kept.shift.told()["faults"] == {"interrupted": 2}
    assert after.kept.shift.told()["rules"] == {}
    again = opened()  # this start was cut short before the journal was adopted: the same parts are left
    again.recover(left)
    assert counts(again) == (1, 0, 2)


def test_what_the_disk_has_not_taken_since_is_counted_once(opened: Callable[[], LineCounters]) -> None:
    left = [entry(5, 1), entry(5, 2)]
    opened().recover(left)
    second = opened()
    second.recover(left)
    second.count(6, 1, PASS, ())
    third = opened()
    third.recover([*left, entry(6, 1, b"{}"), entry(6, 2)])
    assert counts(third) == (1, 0, 3)
    again = opened()
    again.recover([*left, entry(6, 2)])
    assert counts(again) == (1, 0, 3)


def test_what_was_decided_stays_as_it_was_counted(opened: Callable[[], LineCounters]) -> None:
    counters = opened()
    counters.count(5, 1, PASS, ())
    counters.count(5, 2, NG, ("blob_count",))
    after = opened()
    after.recover([entry(5, 1, b"{}"), entry(5, 2, b"{}"), entry(5, 3, None, shadow=True)])
    assert counts(after) == (1, 1, 0)


def test_a_place_that_was_not_written_to_its_end_does_not_count(opened: Callable[[], LineCounters], tmp_path: Path) -> None:
    counters = opened()
    for seq in range(1, 6):
        counters.count(5, seq, PASS, ())
    with open(tmp_path / "one", "r+b") as file:
        file.seek((counters._generation % 2) * PLACE_BYTES + 40)
        file.write(b"?")
    assert counts(opened()) == (4, 0, 0)


@pytest.mark.parametrize("damage", [b"x" * 2 * PLACE_BYTES, bytes(2 * PLACE_BYTES), b""], ids=["foreign", "zeros", "empty"])
def test_a_file_that_says_nothing_begins_anew_and_lets_no_held_line_go(
    opened: Callable[[], LineCounters], tmp_path: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("edge_agent.plc.counters.say", lambda event, **_: said.append(event))
    counters = opened()
    assert (said, counters.kept.challenge_failed) == ([], ""), "a new one is not damaged"
    counters.fail_challenge("master part good came out NG", is_brought=False)
    (tmp_path / "one").write_bytes(damage)
    counters = opened()
    assert said == ["counters.replaced"]
    assert "not known" in counters.kept.challenge_failed
    assert counts(counters) == (0, 0, 0)
    counters.count(1, 1, PASS, ())
    assert counts(opened()) == (1, 0, 0)


def test_counters_that_a_full_disk_did_not_take_are_not_damaged_later(
    opened: Callable[[], LineCounters], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("edge_agent.plc.counters.os.posix_fallocate", no_room)
        with pytest.raises(EdgeAgentError, match="Free space there"):
            opened()
    assert opened().kept.challenge_failed == ""


def test_a_file_of_another_line_tells_nothing_of_this_one(opened: Callable[[], LineCounters], tmp_path: Path) -> None:
    counters = opened()
    counters.begin("cap", "online")
    counters.ask_recipe("lid")
    counters.count(1, 1, PASS, ())
    (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
    with contextlib.closing(LineCounters(tmp_path / "two", US)) as other:
        assert counts(other) == (0, 0, 0)
        assert other.begin("cap", "online").recipe == "cap"
    assert standing_in(tmp_path / "two").recipe == "cap"
    assert (counts(opened()), standing_in(tmp_path / "one").recipe) == ((1, 0, 0), "lid")


def test_more_reasons_than_there_is_room_for_are_counted_together(opened: Callable[[], LineCounters]) -> None:
    counters = opened()
    for seq in range(1, 200):
        counters.count(5, seq, NG, (f"{'zone' * 30}{seq}", "blob_count"))
    told = opened().kept.shift.told()
    assert told["NG"] == 199
    assert sum(told["rules"].values()) == 2 * 199
    assert told["rules"]["other"] > 100


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1e6)


def test_shifts_begin_at_their_local_times() -> None:
    shifts = ("06:00", "14:00", "22:00")
    assert next_shift_us(shifts, at("2026-03-02 13:59:59")) == at("2026-03-02 14:00:00")
    assert next_shift_us(shifts, at("2026-03-02 22:00:00")) == at("2026-03-03 06:00:00")
    assert shift_began_us(shifts, at("2026-03-02 05:00:00")) == at("2026-03-01 22:00:00")
    assert (shift_began_us((), US), next_shift_us((), US)) == (0, 1 << 62)


def test_a_shift_that_changed_while_the_station_was_off_is_a_new_one(tmp_path: Path) -> None:
    shifts = ("06:00", "18:00")
    first = Counters(tmp_path, ["one"], shifts, at("2026-03-02 07:00:00"))
    first.lines["one"].count(5, 1, PASS, ())
    first.look(at("2026-03-02 17:59:59"))
    assert counts(first.lines["one"]) == (1, 0, 0)
    first.close()
    same = Counters(tmp_path, ["one"], shifts, at("2026-03-02 17:30:00"))
    same.recover([], at("2026-03-02 17:30:00"))
    assert counts(same.lines["one"]) == (1, 0, 0)
    same.look(at("2026-03-02 18:00:00"))
    assert counts(same.lines["one"]) == (0, 0, 0)
    assert same.lines["one"].kept.lot.passed == 1  # a lot goes on through the shifts
    same.close()
    later = Counters(tmp_path, ["one"], shifts, at("2026-03-03 07:00:00"))
    later.recover([], at("2026-03-03 07:00:00"))
    assert later.lines["one"].kept.shift.since_us == at("2026-03-03 07:00:00")
    later.close()


def test_a_clock_that_was_ahead_and_is_set_right_misses_no_shift(tmp_path: Path) -> None:
    """As after a boot with a wrong clock, until the network's time comes."""
    counters = Counters(tmp_path / "counters", ["line"], ("06:00", "18:00"), at("2026-03-02 23:00:00"))
    counters.look(at("2026-03-02 23:00:01"))
    counters.look(at("2026-03-02 17:00:00"))
    counters.lines["line"].count(1, 1, PASS, ())
    counters.look(at("2026-03-02 17:59:59"))
    assert counters.told()["line"]["shift"]["parts"] == 1
    counters.look(at("2026-03-02 18:00:00"))
    told = counters.told()["line"]["shift"]
    assert (told["parts"], told["since_us"]) == (0, at("2026-03-02 18:00:00"))
    counters.close()


def test_what_was_left_belongs_to_the_shift_that_ended_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "edge_agent.plc.counters.say", lambda name, **told: said.append((told["PASS"], told["FAULT"])) if "shift" in name else None
    )
    before, after = at("2026-03-02 05:59:00"), at("2026-03-02 06:01:00")
    first = Counters(tmp_path, ["one"], ("06:00",), before)
    for seq in range(1, 101):
        first.lines["one"].count(7, seq, PASS, ())
    first.close()  # killed before the outcome of part 100 reached the journal
    later = Counters(tmp_path, ["one"], ("06:00",), after)
    later.recover([Entry(0, 7, 100, before, "one", "100", None)], after)
    assert said == [(99, 1)]
    assert counts(later.lines["one"]) == (0, 0, 0)
    assert later.lines["one"].kept.shift.since_us == after
    later.close()


def test_counters_are_told_and_begun_anew_on_command(station: Start, tmp_path: Path) -> None:
    here = station(modes={"one": "online", "trial": "shadow"})
    assert "keeps no counters" in here.ask(op="counters").error
    here.publisher.counters = counters = Counters(tmp_path / "counters", ["one", "trial"], (), US)
    judge_all(here, 3)
    judge_all(here, 1, BAD)
    here.publisher.judged(here.publisher.trigger(here.lines[1]), BAD)
    wait_until(lambda: here.publisher.published == 5)
    told = here.ask(op="counters", line="one", name="lot-7").status
    assert list(told) == ["one"]
    assert (told["one"]["lot"]["PASS"], told["one"]["lot"]["NG"], told["one"]["lot"]["name"]) == (3, 1, "")
    told = here.ask(op="counters", reset=True).status
    assert (told["one"]["lot"]["parts"], told["one"]["lot"]["name"], told["one"]["shift"]["parts"]) == (0, "lot-7", 4)
    assert told["trial"]["shift"]["parts"] == 0  # a shadow result is none of the production's
    status = here.ask(op="status").status["counters"]
    assert status["one"]["shift"]["parts"] == 0
    assert status["one"]["rules"] == {"blob_count": 1}
    assert "is no name" in here.ask(op="counters", name="lot 7").error
    here.stop()
    counters.close()


def test_kill_9_loses_no_count(tmp_path: Path) -> None:
    """A process counts as fast as it can and says each number; what it said before it was killed is in the file."""
    code = (
        "import sys; from pathlib import Path; from edge_agent.plc.counters import LineCounters\n"
        f"counters = LineCounters(Path({str(tmp_path / 'one')!r}), 1)\n"
        "for seq in range(1, 10**9):\n"
        "    counters.count(5, seq, 'PASS', ()); sys.stdout.write(f'{seq}\\n'); sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    for _ in range(500):
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said = max([said, *(int(line) for line in process.stdout.read().splitlines() if line)])
    process.wait()
    process.stdout.close()
    counters = LineCounters(tmp_path / "one", 1)
    assert counters.kept.shift.passed in (said, said + 1)
    assert counters.kept.last == (5, counters.kept.shift.passed)
    counters.close()


def test_what_was_passed_under_a_clock_that_was_ahead_is_due_again_once_it_is_set_right(tmp_path: Path) -> None:
    """A challenge that lay a year ahead was never due again; whether one was due before stays as it is."""
    counters = Counters(tmp_path / "counters", ["due", "passed"], ("06:00",), at("2027-03-02 23:00:00"))
    counters.lines["passed"].pass_challenge(at("2027-03-02 23:01:00"))
    counters.look(at("2027-03-02 23:02:00"))
    now_us = at("2026-03-02 23:03:00")
    counters.look(now_us)
    due, passed = (counters.lines[name].kept for name in ("due", "passed"))
    assert (passed.challenged_us, passed.shift.since_us, passed.lot.since_us) == (now_us, now_us, now_us)
    assert due.shift.since_us > due.challenged_us
    counters.lines["passed"].pass_challenge(at("2027-03-02 23:01:00"))
    counters.close()
    again = Counters(tmp_path / "counters", ["passed"], ("06:00",), now_us)
    again.recover([], now_us)
    assert again.lines["passed"].kept.challenged_us == now_us, "also where it was set right while the station was off"
    again.close()
