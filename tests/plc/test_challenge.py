"""Master parts: what comes out wrong holds the line, what comes out right lets it go, and a schedule that is not kept is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import BAD, GOOD, Station, hear_json, judge_all, wait_until

from edge_agent.plc.challenge import LineChallenge
from edge_agent.plc.counters import Counters, LineCounters
from edge_agent.plc.parts import LineBook
from edge_agent.records import FAULT, NG, PASS, Judgement
from edge_agent.settings import ChallengeSettings, MasterPart

Start = Callable[..., Station]
US = 1_784_000_000_000_000
HOUR_US, MINUTE_US = 3_600_000_000, 60_000_000
BAD1 = MasterPart(name="bad1", expect="NG", reasons=("blob_count",))
GOOD1 = MasterPart(name="good1", expect="PASS")


class Bench:
    """One line's challenge, without a station; `asked` counts how often the pictures were to be judged."""

    def __init__(self, file: Path, settings: ChallengeSettings) -> None:
        self.asked = 0
        self.book = LineBook("one", ready=True)
        self.counters = LineCounters(file, US)
        self.challenge = LineChallenge(settings, self.book, self.counters, self._ask, US * 1000)

    def look(self, now_us: int) -> None:
        """Look while nobody sets the clock."""
        self.challenge.look(now_us, now_us * 1000)

    def _ask(self) -> None:
        self.asked += 1


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *parts, **more: Bench(tmp_path / "one", ChallengeSettings(parts=parts or (BAD1, GOOD1), **more))


def test_all_master_parts_together_pass_a_challenge(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.challenge.note("bad1", Judgement(NG, ("area", "blob_count")), US, is_brought=True)
    assert here.counters.kept.challenged_us == 0
    here.challenge.note("good1", GOOD, US + 5, is_brought=True)
    assert (here.counters.kept.challenged_us, here.book.hold) == (US + 5, "")


@pytest.mark.parametrize(
    ("name", "came"),
    [
        ("bad1", Judgement(PASS)),
        ("bad1", Judgement(NG, ("area",))),
        ("bad1", Judgement(FAULT, ("late",))),
        ("good1", Judgement(NG, ("blob_count",))),
        ("good1", Judgement(FAULT, ("no_part",))),
    ],
)
def test_one_that_comes_out_wrong_holds_the_line_until_all_are_right(
    bench: Callable[..., Bench], name: str, came: Judgement
) -> None:
    here = bench()
    here.challenge.note("bad1", BAD, US, is_brought=True)
    here.challenge.note(name, came, US, is_brought=True)
    assert f"master part {name} came out {came.outcome}" in here.book.hold
    assert here.book.state() == "Error"
    here.counters.close()
    again = bench()  # a restart is no way around it
    assert again.book.state() == "Error"
    again.challenge.note("good1", GOOD, US + 1, is_brought=True)
    assert again.book.state() == "Error"
    again.challenge.note("bad1", BAD, US + 2, is_brought=True)
    assert again.book.state() == "Ready"


BAD_PICTURE = MasterPart(name="bad1", expect="NG", image="bad.png")
GOOD_PICTURE = MasterPart(name="good1", expect="PASS", image="good.png")


def test_pictures_do_not_end_what_a_brought_part_began(bench: Callable[..., Bench]) -> None:
    here = bench(BAD_PICTURE, GOOD_PICTURE, every_h=1)
    here.challenge.note("bad1", Judgement(PASS), US, is_brought=True)
    here.counters.close()
    again = bench(BAD_PICTURE, GOOD_PICTURE, every_h=1)  # a restart does not forget what began it
    again.look(US + 2 * MINUTE_US)
    assert again.asked == 0, "pictures that cannot end it are not judged each minute"
    pictures = (("bad1", BAD), ("good1", GOOD))
    for name, came in (*pictures, ("bad1", Judgement(PASS)), *pictures):  # a picture that comes out wrong makes it no picture's
        again.challenge.note(name, came, US + 3 * MINUTE_US, is_brought=False)
    assert again.book.state() == "Error"
    again.challenge.note("bad1", BAD, US + 4 * MINUTE_US, is_brought=True)
    again.challenge.note("good1", GOOD, US + 4 * MINUTE_US, is_brought=False)
    assert (again.book.state(), again.challenge.told()["bring"]) == ("Error", ["good1"])
    again.challenge.note("good1", GOOD, US + 5 * MINUTE_US, is_brought=True)
    assert (again.book.state(), again.counters.kept.challenged_us) == ("Ready", US + 5 * MINUTE_US)
    again.challenge.note("bad1", Judgement(PASS), US + 6 * MINUTE_US, is_brought=False)
    for name, came in pictures:
        again.challenge.note(name, came, US + 7 * MINUTE_US, is_brought=False)
    assert again.book.state() == "Ready", "what a picture began, pictures end"
    assert again.challenge.told()["parts"]["bad1"] == {"has_image": True, "judged": 6, "came": "NG blob_count", "is_right": True}


def test_whoever_is_held_is_told_what_ends_it(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, object]] = []
    monkeypatch.setattr("edge_agent.plc.challenge.say", lambda name, **values: said.append({"name": name, **values}))
    here = bench(BAD_PICTURE, GOOD_PICTURE)
    here.challenge.note("bad1", Judgement(PASS), US, is_brought=False)
    assert here.challenge.told()["remedy"] == said[-1]["remedy"]
    assert str(said[-1]["remedy"]).endswith("pictures judged: edge-agent challenge --line one")
    here.challenge.note("bad1", Judgement(PASS), US, is_brought=True)
    assert said[-1]["remedy"] == (
        "mend the line, then bring its master parts: edge-agent challenge --line one --part bad1, then --part good1"
    )
    here.challenge.note("bad1", BAD, US, is_brought=True)
    assert str(here.challenge.told()["remedy"]).endswith("edge-agent challenge --line one --part good1")


def test_a_schedule_that_is_not_kept_holds_the_line_after_its_grace(bench: Callable[..., Bench]) -> None:
    here = bench(every_h=8, grace_min=30)
    here.look(US + 29 * MINUTE_US)  # never challenged: due at once
    assert here.book.state() == "Ready"
    here.look(US + 31 * MINUTE_US)
    assert "overdue" in here.book.hold
    for name, came in (("bad1", BAD), ("good1", GOOD)):
        here.challenge.note(name, came, US + 40 * MINUTE_US, is_brought=True)
    here.look(US + 40 * MINUTE_US)
    assert here.book.state() == "Ready"
    here.look(US + 40 * MINUTE_US + 8 * HOUR_US)
    here.look(US + 40 * MINUTE_US + 8 * HOUR_US + 29 * MINUTE_US)
    assert here.book.state() == "Ready"
    here.look(US + 40 * MINUTE_US + 8 * HOUR_US + 31 * MINUTE_US)
    assert here.book.state() == "Error"
    assert here.asked == 0  # nobody can judge parts that have to be brought


def test_overdue_may_only_be_told(bench: Callable[..., Bench]) -> None:
    here = bench(every_h=1, grace_min=0, overdue="told")
    here.look(US + HOUR_US)
    assert here.book.state() == "Ready"


def test_a_clock_that_is_set_shortens_no_grace_and_no_waiting(bench: Callable[..., Bench]) -> None:
    """As after a boot without the time, until the network's comes."""
    here = bench(every_h=8, grace_min=30, bring_min=5)
    begin_ns = US * 1000
    here.challenge.look(US, begin_ns)
    here.challenge.arm("bad1", begin_ns)
    here.challenge.look(US + 100 * HOUR_US, begin_ns + 1)
    assert (here.book.state(), here.book.challenge) == ("Ready", "bad1")
    here.challenge.look(US - 100 * HOUR_US, begin_ns + 31 * MINUTE_US * 1000)
    assert (here.book.state(), here.book.challenge) == ("Error", "")


def test_pictures_are_tried_again_though_the_clock_was_set_back(bench: Callable[..., Bench]) -> None:
    here = bench(MasterPart(name="bad1", expect="NG", image="bad.png"), every_h=8)
    here.challenge.look(US, US * 1000)
    here.challenge.look(US - HOUR_US, (US + 2 * MINUTE_US) * 1000)
    assert here.asked == 2


def test_a_new_shift_makes_a_challenge_due_and_pictures_are_judged_by_themselves(bench: Callable[..., Bench]) -> None:
    here = bench(MasterPart(name="bad1", expect="NG", image="bad.png"), at_shift=True)
    here.look(US + MINUTE_US + 1)
    here.look(US + MINUTE_US + 2)
    assert here.asked == 1
    here.challenge.note("bad1", BAD, US + 2 * MINUTE_US, is_brought=False)
    here.look(US + 5 * MINUTE_US)
    assert here.asked == 1
    here.counters.begin_shift("one", US + 6 * MINUTE_US)
    here.look(US + 7 * MINUTE_US)
    assert here.asked == 2


def test_the_next_part_is_the_master_part_and_no_part_of_the_production(station: Start, tmp_path: Path) -> None:
    here = station()
    publisher = here.publisher
    assert "has no master parts" in here.ask(op="challenge", line="one", name="bad1").error
    publisher.counters = counters = Counters(tmp_path / "counters", ["one"], (), US)
    settings = ChallengeSettings(parts=(BAD1,))
    publisher.challenges["one"] = LineChallenge(settings, here.line, counters.lines["one"], lambda: None, publisher.now_ns())
    hearing = here.subscriber("verdict.json/", "shadow.json/")
    assert "no master part of line one has an image" in here.ask(op="challenge", line="one").error
    assert "one of bad1" in here.ask(op="challenge", line="one", name="bad2").error
    assert here.ask(op="challenge", line="one", name="bad1").ok
    judge_all(here, 2)  # the first is the master part, and passes: it should not
    told = hear_json(hearing)
    assert (told["challenge"], told["shadow"], told["outcome"], told["seq"]) == ("bad1", True, "PASS", 1)
    live = hear_json(hearing)
    assert (live["seq"], live["challenge"], live["outcome"], live["reasons"]) == (2, "", "FAULT", ["not_ready"])
    status = here.ask(op="status").status["lines"]["one"]
    assert status["state"] == "Error"
    assert "master part bad1 came out PASS" in status["why"]
    publisher.judged(publisher.trigger(here.line, "bad1", challenge="bad1"), BAD)  # its stored picture does not end that
    assert hear_json(hearing)["challenge"] == "bad1"
    assert here.ask(op="status").status["challenges"]["one"]["bring"] == ["bad1"]
    assert here.line.state() == "Error"
    assert here.ask(op="challenge", line="one", name="bad1").status["next"] == "bad1"
    judge_all(here, 1, BAD)
    wait_until(lambda: here.line.state() == "Ready")
    judge_all(here, 1)
    assert [hear_json(hearing)["outcome"] for _ in range(2)] == ["NG", "PASS"]  # the master part again, then a part
    assert (counters.lines["one"].kept.shift.passed, counters.lines["one"].kept.shift.fault) == (1, 1)
    assert counters.lines["one"].kept.shift.ng == 0
    here.stop()
    counters.close()


def test_a_master_part_that_does_not_come_is_waited_for_no_longer(bench: Callable[..., Bench]) -> None:
    here = bench(bring_min=5)
    here.challenge.arm("bad1", US * 1000)
    here.look(US + 5 * MINUTE_US - 1)
    never = {"has_image": False, "judged": 0, "came": "", "is_right": False}
    parts = {"bad1": never, "good1": never}
    held = {"failed": "", "bring": [], "remedy": "", "unpassable": ""}
    assert here.challenge.told() == {"next": "bad1", "passed_us": 0, **held, "parts": parts}
    here.look(US + 5 * MINUTE_US)
    assert here.challenge.told()["next"] == ""
    here.challenge.arm("bad1", (US + 6 * MINUTE_US) * 1000)
    here.look(US + 7 * MINUTE_US)
    assert here.book.challenge == "bad1", "announced again it is waited for anew"


def test_what_was_announced_can_be_taken_back(station: Start, tmp_path: Path) -> None:
    here = station()
    publisher = here.publisher
    publisher.counters = counters = Counters(tmp_path / "counters", ["one"], (), US)
    challenge = LineChallenge(ChallengeSettings(parts=(BAD1,)), here.line, counters.lines["one"], lambda: None, publisher.now_ns())
    publisher.challenges["one"] = challenge
    hearing = here.subscriber("verdict.json/")
    assert here.ask(op="challenge", line="one", name="bad1").ok
    assert here.ask(op="status").status["challenges"]["one"]["next"] == "bad1"
    assert here.ask(op="challenge", line="one", reset=True).ok
    assert here.ask(op="challenge", line="one", reset=True).ok, "nothing to take back is no error"
    assert here.ask(op="status").status["challenges"]["one"]["next"] == ""
    judge_all(here, 1)
    assert hear_json(hearing)["outcome"] == "PASS"
    here.stop()
    counters.close()


@pytest.mark.parametrize("reason", ["not_ready", "interrupted"])
def test_a_master_part_that_nobody_judged_proves_nothing(
    bench: Callable[..., Bench], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stop while one waits for its picture must not hold the line at the next start."""
    here = bench()
    here.challenge.note("good1", GOOD, US, is_brought=True)
    here.challenge.note("bad1", Judgement(FAULT, (reason,)), US, is_brought=True)
    assert here.book.hold == ""
    assert "challenge.unjudged" in "".join(capfd.readouterr())
    here.challenge.note("bad1", Judgement(NG, ("blob_count",)), US + 5, is_brought=True)
    assert here.counters.kept.challenged_us == US + 5, "what was right before still counts"
