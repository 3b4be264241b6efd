"""Whose a picture is, or a loss, where parts are announced: each part has one outcome, and no other part's picture."""

from __future__ import annotations

import math
import time

import pytest
from running import wait_until
from scripted import Script

from edge_agent.announced import Announced, Registered
from edge_agent.camera.base import Lost
from edge_agent.errors import CameraError, Reason
from edge_agent.records import Part

MS = 1_000_000


def test_an_announced_part_gets_the_picture_of_its_time(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    here.outcomes(1)
    assert here.levels == {"A": 1}


def test_a_lost_picture_is_that_of_the_part_announced_not_another_part(bench) -> None:
    """The camera's counter tells of a lost trigger a little later than a picture may take."""
    camera = Script("hardware", frame_timeout_s=0.1)
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    time.sleep(0.13)
    camera.acts.put(Lost(Reason.NO_FRAME, "counted"))
    camera.acts.put(camera.show(3, time.monotonic_ns()))
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    time.sleep(0.3)
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    assert "A" not in here.levels


def test_two_parts_announced_for_one_picture_are_both_faults(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    here.grabber.triggers.trigger("B")
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    assert here.outcomes(2) == {"": 0, "ambiguous": 2}
    wait_until(lambda: here.grabber.skipped == 1)


def test_of_two_announced_at_a_time_each_picture_is_one_of_theirs_and_makes_no_third_part(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    here.grabber.triggers.trigger("B")
    for level in (1, 2):
        camera.acts.put(camera.show(level, time.monotonic_ns()))
    wait_until(lambda: here.grabber.skipped == 2)
    assert here.outcomes(2) == {"": 0, "ambiguous": 2}
    camera.acts.put(camera.show(3, time.monotonic_ns() + 200_000_000))
    assert here.outcomes(3) == {"": 1, "ambiguous": 2}


def test_of_two_announced_at_a_time_a_loss_leaves_neither_the_others_picture(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    here.grabber.triggers.trigger("B")
    camera.acts.put(Lost(Reason.BAD_FRAME, "torn", trigger_ns=time.monotonic_ns()))
    camera.acts.put(camera.show(2, time.monotonic_ns()))
    wait_until(lambda: here.grabber.skipped == 1)
    assert here.outcomes(2) == {"": 0, "ambiguous": 2}


def test_a_part_announced_after_its_picture_is_refused_and_makes_no_second_part(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    here.outcomes(1)
    with pytest.raises(CameraError, match="part A is announced after its picture, which is part 1"):
        here.grabber.triggers.trigger("A")
    assert here.outcomes(1) == {"": 1}


def test_a_loss_is_its_own_triggers_and_not_that_of_the_part_announced_now(bench) -> None:
    camera = Script("hardware")
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    camera.acts.put(Lost(Reason.NO_FRAME, "counted", trigger_ns=time.monotonic_ns() - 150_000_000))
    camera.acts.put(camera.show(4, time.monotonic_ns()))
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    assert here.levels == {"A": 4}


def test_an_announced_part_without_a_picture_is_no_frame_once_though_the_camera_tells_later(bench, told) -> None:
    camera = Script("hardware", 0.2)
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    announced_ns = time.monotonic_ns()
    assert here.outcomes(1) == {"": 0, "no_frame": 1}
    assert time.monotonic_ns() - announced_ns < 390_000_000, "the camera has as long again to tell, the part has not"
    camera.acts.put(Lost(Reason.NO_FRAME, "the counter", 1, announced_ns))
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    assert here.outcomes(2) == {"": 1, "no_frame": 1}
    lost = [values for name, values in told if name == "camera.lost"]
    assert [(values["reason"], values["count"]) for values in lost] == [("no_frame", 1)] * 2
    assert "within 200 ms or the deadline: part A" in lost[0]["why"]


def test_where_a_camera_may_take_any_time_the_deadline_alone_is_told(bench, told) -> None:
    here = bench(Script("software", math.inf), deadline_ms=200)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    assert here.outcomes(1) == {"": 0, "no_frame": 1}
    wait_until(lambda: [name for name, _ in told].count("camera.lost") == 1)
    assert [values["why"] for name, values in told if name == "camera.lost"] == [
        "announced, and no picture came before the deadline: part A"
    ]


@pytest.mark.parametrize(("since_ms", "outcomes"), [(100, 1), (0, 2)])
def test_a_loss_that_a_slow_counter_tells_is_that_of_the_part_announced_meanwhile(bench, since_ms: int, outcomes: int) -> None:
    camera = Script("hardware", 0.1)
    here = bench(camera)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    announced_ns = time.monotonic_ns()
    here.outcomes(1)
    time.sleep(0.3)  # longer than a camera that counts in time would need to tell
    camera.acts.put(Lost(Reason.NO_FRAME, "", 1, time.monotonic_ns(), since_ms and announced_ns - since_ms * MS))
    camera.acts.put(camera.show(1, time.monotonic_ns()))
    assert here.outcomes(1 + outcomes) == {"": 1, "no_frame": outcomes}


def test_an_announced_part_is_no_frame_before_its_deadline_though_the_camera_may_take_longer(bench) -> None:
    here = bench(Script("hardware", 20.0), deadline_ms=150)
    wait_until(lambda: here.station.line.ready)
    here.grabber.triggers.trigger("A")
    assert here.outcomes(1) == {"": 0, "no_frame": 1}


def test_parts_whose_pictures_are_all_lost_are_not_kept_for_ever() -> None:
    """A camera whose every picture is torn says of none when it was triggered."""
    times = iter(range(1, 101))
    announced = Announced(5, lambda _: Registered(Part("l", 1, (at := next(times)), "", 0, at, 0, None), None), lambda *_: None)
    for _ in range(100):
        announced.of_loss(0, 0)
    assert announced.shown_before(100) is not None
    assert announced.shown_before(50) is None
