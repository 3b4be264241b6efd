"""Every trigger gets its picture or a reason, whatever the camera does. The camera here does what the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from running import Station, wait_until
from scripted import Script, bundle_of

from edge_agent.camera.base import Due, Lost
from edge_agent.errors import CameraError, EndOfImages, Reason
from edge_agent.grabber import Grabber
from edge_agent.triggers import Budget


def test_a_part_that_is_due_gets_the_picture_that_follows(bench) -> None:
    camera = Script()
    here = bench(camera)
    for part_id, level in (("A", 1), ("B", 2)):
        camera.acts.put(Due(part_id))
        camera.acts.put(camera.show(level))
    assert here.outcomes(2) == {"": 2}
    assert here.levels == {"A": 1, "B": 2}


def test_a_picture_that_comes_by_itself_is_a_part_since_its_trigger(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    camera.acts.put(camera.show(7, time.monotonic_ns() - 30_000_000))
    assert here.outcomes(1) == {"": 1}
    wait_until(lambda: len(here.station.outbox) == 1)
    assert b'"latency_ms":' in here.station.outbox[0][0]
    assert here.station.publisher.latencies.quantile_ms(0.5) >= 30


def test_every_lost_picture_is_a_fault_of_its_own(bench) -> None:
    camera = Script()
    here = bench(camera)
    camera.acts.put(Due("A"))
    camera.acts.put(Lost(Reason.BAD_FRAME, "torn", 3))
    camera.acts.put(Lost(Reason.NO_FRAME, "gone", 2))
    camera.acts.put(camera.show(9))
    assert here.outcomes(6) == {"": 1, "bad_frame": 3, "no_frame": 2}
    assert list(here.levels.values()) == [9]


def test_of_a_late_announcement_nobody_gets_the_next_parts_picture(bench) -> None:
    """A's word came, A's picture did not. What comes long after is a part of its own; A is FAULT."""
    camera = Script("hardware", frame_timeout_s=0.3)
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    camera.acts.put(camera.show(2, time.monotonic_ns() + 100_000_000))
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    assert "A" not in here.levels


def test_a_software_trigger_gets_its_own_picture_and_an_unknown_word_gets_none(bench) -> None:
    camera = Script("software")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    here.grabber.triggers.trigger("B")
    first, second = camera.asked
    for word, level in (("\0unknown", 5), (second, 2), (first, 1)):
        camera.acts.put(Due(word))
        camera.acts.put(camera.show(level))
    assert here.outcomes(2) == {"": 2}
    assert here.levels == {"A": 1, "B": 2}
    assert here.grabber.skipped == 1


def test_what_was_triggered_when_the_camera_goes_is_a_fault_at_once(bench) -> None:
    camera = Script("software")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    camera.acts.put(Due(camera.asked[0]))
    here.grabber.triggers.trigger("B")
    camera.refuses_to_open = ["still away"] * 3
    camera.acts.put(CameraError("the cable is out"))
    assert here.outcomes(2) == {"": 0, "no_frame": 2}
    assert not here.station.line.ready
    here.grabber.triggers.trigger("C")
    assert here.outcomes(3) == {"": 0, "no_frame": 2, "not_ready": 1}


def test_each_failure_is_said_once_and_each_recovery_too(bench, said: list[str]) -> None:
    camera = Script()
    here = bench(camera)
    for level in (1, 2):
        camera.acts.put(camera.show(level))
        here.outcomes(level)
        camera.refuses_to_open = ["away"]
        camera.acts.put(CameraError("away"))
        wait_until(lambda level=level: said.count("camera.recovered") == level)
    assert said.count("camera.failed") == said.count("line.not_ready") == 2
    assert camera.opened == 5


def test_another_cause_of_the_same_failure_is_said_too(bench, told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.grabber._BACK_OFF_S", (0.01,))
    camera = Script()
    camera.refuses_to_open = ["away", "too large", "nothing for 1.2 s", "nothing for 1.1 s", "away"]
    bench(camera)
    wait_until(lambda: "camera.recovered" in [name for name, _ in told])
    assert [values["why"] for name, values in told if name == "camera.failed"] == ["away", "nothing for 1.1 s", "too large"]
    assert [name for name, _ in told].count("line.not_ready") == 1


def test_slots_come_back_from_a_camera_that_fails(bench) -> None:
    camera = Script()
    here = bench(camera, frames=3)
    for turn in range(1, 6):
        camera.acts.put(camera.show(turn))
        here.outcomes(turn)
        camera.acts.put(CameraError("away"))
        wait_until(lambda turn=turn: camera.opened == turn + 1)
    wait_until(lambda: len(camera.lent) == 3)


def test_a_camera_that_hangs_costs_its_slots_and_not_the_end(bench, said: list[str]) -> None:
    camera = Script()
    here = bench(camera, frames=3)
    hold = threading.Event()
    wait_until(lambda: len(camera.lent) == 3)
    camera.acts.put(lambda: hold.wait(20) and None)
    time.sleep(0.05)
    here.grabber.stop(0.1)
    assert here.grabber.ring.quarantined == 3
    assert "camera.hangs" in said
    hold.set()


def test_the_end_of_the_images_and_of_the_parts_are_ends(bench) -> None:
    camera = Script()
    here = bench(camera)
    camera.acts.put(EndOfImages("no more"))
    wait_until(here.grabber.finished.is_set)
    assert (here.station.line.ready, here.station.line.why_not_ready) == (False, "no more")
    assert camera.closed == 1


def test_a_run_of_so_many_parts_takes_no_more(bench) -> None:
    camera = Script("software")
    here = bench(camera, parts=2)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    here.grabber.triggers.trigger("B")
    with pytest.raises(CameraError, match="all the parts of this run"):
        here.grabber.triggers.trigger("C")
    for word in camera.asked[:2]:
        camera.acts.put(Due(word))
        camera.acts.put(camera.show(1))
    assert here.outcomes(2) == {"": 2}
    wait_until(here.grabber.finished.is_set)


def test_a_preview_leaves_out_what_comes_while_two_are_judged(station: Callable[..., Station]) -> None:
    here = station()
    camera = Script()
    bundle = bundle_of(here.line.identity)
    held: list[tuple[object, ...]] = []
    grabber = Grabber(here.line, camera, 6, here.publisher, Budget(0), lambda: bundle, held.append, 0.05, keeps_latest_only=True)
    grabber.thread.start()
    for level in range(1, 6):
        camera.acts.put(camera.show(level))
    camera.acts.put(Lost(Reason.NO_FRAME, "gone", 2))
    wait_until(lambda: grabber.skipped == 3)
    assert here.line.triggers == 2
    grabber.ring.give_back(held[0][2].slot)  # type: ignore[union-attr, attr-defined]
    camera.acts.put(camera.show(9))
    wait_until(lambda: len(held) == 3)
    assert held[2][2].frame_id == 9  # type: ignore[attr-defined]
    grabber.stop(1)


def test_a_line_that_nobody_counts_is_shown_as_unverified(bench, said: list[str]) -> None:
    camera = Script("hardware")
    camera.counts_triggers = False
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    assert here.station.publisher.heartbeat()["lines"]["one"]["verified"] is False
    wait_until(lambda: "line.unverified" in said)


def test_a_loss_told_after_the_deadline_says_what_happened_rather_than_late(station: Callable[..., Station]) -> None:
    here = station(deadline_ms=200)
    camera = Script("hardware")
    bundle = bundle_of(here.line.identity)
    grabber = Grabber(here.line, camera, 4, here.publisher, Budget(0), lambda: bundle, lambda _: None, 0.05)
    grabber.thread.start()
    camera.acts.put(Lost(Reason.NO_FRAME, "counted", trigger_ns=time.monotonic_ns() - 300_000_000))
    wait_until(lambda: here.line.reasons == {"no_frame": 1})
    grabber.stop(1)


def test_a_stop_is_not_ready_at_once_and_waits_for_what_the_camera_owes(bench) -> None:
    camera = Script("hardware", frame_timeout_s=5)
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    camera.owes = 2
    here.grabber.ask_to_stop()
    assert (here.station.line.ready, here.station.line.why_not_ready) == (False, "stopping")
    wait_until(lambda: camera.finishing > 0)
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    camera.acts.put(Lost(Reason.NO_FRAME, "counted"))
    wait_until(here.grabber.finished.is_set)
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    assert camera.closed == 1


def test_a_second_failure_is_said_though_the_camera_showed_nothing_between(bench, said: list[str]) -> None:
    camera = Script()
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    for failure in (1, 2):
        camera.acts.put(CameraError("away"))
        wait_until(lambda failure=failure: said.count("line.ready") == failure + 1)
    failed = ["camera.failed", "line.not_ready", "camera.recovered", "line.ready"]
    assert said == ["line.ready", *failed, *failed]


def test_a_slot_that_comes_back_while_the_station_gives_its_camera_up_is_no_error(bench, said: list[str]) -> None:
    camera = Script()
    here = bench(camera, frames=3)
    hold = threading.Event()
    wait_until(lambda: len(camera.lent) == 3)
    camera.acts.put(lambda: hold.wait(20) and None)
    wait_until(camera.acts.empty)
    here.grabber.ring.give_back(camera.lent[0][0])
    here.grabber.stop(0.1)
    assert here.grabber.ring.quarantined == 2
    here.grabber.lent.discard(camera.lent[0][0])
    hold.set()


def test_a_picture_that_comes_after_its_deadline_is_said_to_be_late(bench, told) -> None:
    camera = Script("hardware")
    here = bench(camera, deadline_ms=100)
    camera.acts.put(camera.show(1, time.monotonic_ns() - 300_000_000))
    assert here.outcomes(1)["late"] == 1
    assert [(name, values["reason"]) for name, values in told if name == "camera.lost"] == [("camera.lost", "late")]
