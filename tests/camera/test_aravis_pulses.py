"""A trigger pulse is told once: by its picture, as one that failed, or by the camera's counter, whichever comes first."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from aravis import require_aravis
from simulation import wait_for

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.aravis_clock import Clock, Delay
from edge_agent.camera.aravis_pulses import Pulses
from edge_agent.camera.base import Arrival, Lost, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError
from edge_agent.simulator import SimulatedCamera

MS = 1_000_000


def test_what_was_given_up_is_no_news_when_it_shows_as_a_gap() -> None:
    pulses = Pulses(0.3)
    assert pulses.read(1.0, 1.0, 1)
    assert pulses.overdue(1.2) == 0
    assert pulses.overdue(1.31) == 1
    pulses.told += 1
    assert pulses.news(1) == 0
    assert pulses.news(1) == 1


def test_a_pulse_without_a_picture_is_told_though_pictures_come_on_and_on() -> None:
    pulses = Pulses(0.3)
    lost = []
    for number in range(1, 101):  # a pulse each 20 ms, all but the tenth with a picture, the counter read right after each
        at_s = number * 0.02
        if number != 10:
            pulses.told += 1
            pulses.came(at_s - 0.001)
        pulses.read(at_s, at_s, number)
        overdue = pulses.overdue(at_s)
        pulses.told += overdue
        lost += [number] * overdue
    assert lost == [26]  # 0.3 s after the reading that counted it


def test_pictures_of_unknown_time_make_no_loss_of_a_pulse_that_has_one() -> None:
    pulses = Pulses(0.3)
    for number in range(1, 50):
        pulses.told += 1
        pulses.came(0.0)
        pulses.read(number * 0.02, number * 0.02, number)
        assert pulses.overdue(number * 0.02) == 0


def test_a_picture_that_comes_too_late_is_known_by_its_trigger_time() -> None:
    pulses = Pulses(0.3)
    pulses.read(1.0, 1.0, 2)
    assert not pulses.is_given_up(0.9)
    assert pulses.overdue(1.4) == 2
    assert pulses.is_given_up(0.95)
    assert not pulses.is_given_up(1.1)


def test_a_counter_that_goes_back_is_a_camera_that_began_anew() -> None:
    pulses = Pulses(0.3)
    assert pulses.read(1.0, 1.0, 7)
    assert not pulses.read(1.1, 1.1, 0)
    assert pulses.rest() == 7


def test_a_pulse_came_between_the_reading_before_it_and_the_one_that_counts_it() -> None:
    pulses = Pulses(0.3)
    for asked_s, at_s, count in ((1.0, 1.01, 0), (1.1, 1.9, 1), (1.95, 1.96, 1)):
        pulses.read(asked_s, at_s, count)
    assert pulses.seen_ns(1) == (1_000_000_000, 1_900_000_000)
    assert pulses.overdue(1.5) == 0
    assert pulses.seen_ns(1) == (1_000_000_000, 1_900_000_000), "though the reading before it has been looked at"
    assert pulses.overdue(2.3) == 1
    assert pulses.given_up_ns == (1_000_000_000, 1_960_000_000)
    assert pulses.seen_ns(2) == (0, 0)


def test_a_loss_told_twice_hides_no_loss_to_come() -> None:
    pulses = Pulses(0.3)
    pulses.told = 3
    assert pulses.read(1.0, 1.0, 2)
    assert pulses.take_back(3) == 1
    assert pulses.read(1.1, 1.1, 3)
    assert pulses.take_back(2) == 0
    assert pulses.overdue(1.41) == 1


def test_a_counter_that_counts_something_else_is_known_by_what_it_does_not_count() -> None:
    often, seldom = Pulses(0.3), Pulses(0.3)
    for number in range(1, 10):
        often.told += 1
        often.read(number, number, 0)
        assert often.take_back(often.told) == 1
        assert often.counts_something_else == (number == 9)
    for number in range(1, 100):
        seldom.read(number, number, number * 200)
        seldom.told += 201
        assert seldom.take_back(seldom.told) == 1
        assert not seldom.counts_something_else


def test_the_delay_is_against_the_quickest_and_follows_a_slow_clock() -> None:
    delay = Delay()
    assert delay.ns(100 * MS, 1_105 * MS) == 0
    assert delay.ns(200 * MS, 1_202 * MS) == 0
    assert delay.ns(300 * MS, 1_752 * MS) == pytest.approx(450 * MS, abs=MS)
    drifting = Delay()
    assert all(drifting.ns(n * 100 * MS, int(n * 100.01 * MS)) < MS for n in range(1, 2000))
    assert drifting.ns(0, 5) == 0


def test_a_clock_that_was_set_does_not_make_every_picture_late() -> None:
    delay = Delay()
    delay.ns(10_000 * MS, 10_000 * MS)
    later = [delay.ns(n * 100 * MS, (10_000 + n * 100) * MS) for n in range(1, 60)]
    assert later[0] > 5_000 * MS
    assert later[-1] < MS


HOUR = 3_600_000 * MS
AHEAD = 1_000_000 * MS  # of the camera's clock


def test_after_an_idle_hour_a_late_picture_is_as_old_as_the_camera_says() -> None:
    clock = Clock()
    clock.is_told(0 * MS, AHEAD, AHEAD + 1 * MS)
    clock.taken(100 * MS, AHEAD + 105 * MS)
    clock.is_told(HOUR, AHEAD + HOUR + 300 * MS, AHEAD + HOUR + 301 * MS)  # ours has gone 300 ms further meanwhile
    taken = clock.taken(HOUR + 1000 * MS, AHEAD + HOUR + 1000 * MS + 420 * MS + 300 * MS)
    assert taken.earliest_ns == pytest.approx(AHEAD + HOUR + 1300 * MS, abs=2 * MS)


def test_without_the_cameras_time_a_picture_after_an_idle_hour_may_be_that_much_older() -> None:
    clock = Clock()
    assert clock.taken(100 * MS, AHEAD).earliest_ns == 0, "of the first nothing is known"
    soon = clock.taken(200 * MS, AHEAD + 100 * MS)
    assert soon.likely_ns - soon.earliest_ns < MS
    idle = clock.taken(200 * MS + HOUR, AHEAD + 100 * MS + HOUR)
    assert idle.likely_ns - idle.earliest_ns == pytest.approx(0.72e9, rel=0.01)
    assert clock.is_known


def test_a_slow_answer_does_not_set_the_clock_worse() -> None:
    clock = Clock()
    clock.is_told(0, AHEAD, AHEAD)
    assert not Clock().is_known
    clock.is_told(1000 * MS, AHEAD + 1000 * MS, AHEAD + 1600 * MS)
    assert clock.taken(2000 * MS, AHEAD + 2000 * MS).earliest_ns == pytest.approx(AHEAD + 2000 * MS, abs=MS)
    clock.is_told(0, AHEAD + 2000 * MS, AHEAD + 2000 * MS)  # a camera without a clock
    assert clock.is_known


@pytest.fixture
def here() -> Iterator[tuple[AravisCamera, SimulatedCamera]]:
    require_aravis()
    address = f"127.9.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
    with SimulatedCamera(address, rows=64, cols=64, exposure_us=100.0) as simulated:
        settings = Settings(
            name="cam",
            address=address,
            socket="standard",
            trigger="hardware",
            counter="Counter0",
            frame_timeout_ms=150,
            packet_size=576,
        )
        camera = AravisCamera(settings)
        camera.open()
        for slot in range(20):
            camera.lend(slot, np.zeros(camera.max_pixels, np.uint8))
        assert wait_for(lambda: simulated.is_acquiring)
        yield camera, simulated
        camera.close()


def told(camera: AravisCamera, for_s: float) -> list[Arrival]:
    heard: list[Arrival] = []
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        arrival = camera.wait(0.05)
        if arrival is not None:
            heard.append(arrival)
    return heard


def count(arrivals: list[Arrival]) -> tuple[int, int]:
    """Pictures, and pulses without one."""
    return sum(isinstance(a, Picture) for a in arrivals), sum(a.count for a in arrivals if isinstance(a, Lost))


@pytest.mark.parametrize("fault", ["drop", "leader", "trailer", "ignored"])
def test_a_loss_that_the_counter_told_is_not_told_again(here, fault: str) -> None:
    camera, simulated = here
    simulated.pulse()
    assert count(told(camera, 0.1)) == (1, 0)
    simulated.inject(fault)
    simulated.pulse()
    assert count(told(camera, 0.4)) == (0, 1)
    simulated.pulse()
    assert count(told(camera, 0.4)) == (1, 0)


def test_an_ignored_pulse_of_a_train_that_does_not_pause_is_told(here) -> None:
    camera, simulated = here
    simulated.inject("ignored")

    def pulse() -> None:
        for _ in range(80):
            simulated.pulse()
            time.sleep(0.03)

    train = threading.Thread(target=pulse)
    heard: list[Arrival] = []
    train.start()
    while train.is_alive() or not heard:
        arrival = camera.wait(0.05)
        if isinstance(arrival, Picture):
            camera.lend(arrival.slot, np.zeros(camera.max_pixels, np.uint8))
        heard += [arrival] if arrival else []
    train.join()
    heard += told(camera, 0.4)
    assert count(heard) == (79, 1)
    assert next(i for i, a in enumerate(heard) if isinstance(a, Lost)) < 60, "it was told at the end only"


def test_pictures_that_come_after_their_time_are_not_new_parts(here) -> None:
    camera, simulated = here
    simulated.faults.plan.durations_s["late"] = 0.4
    simulated.pulse()
    assert count(told(camera, 0.1)) == (1, 0)
    simulated.inject("late")
    simulated.pulse()
    time.sleep(0.02)
    simulated.pulse()  # waits behind the late one
    assert count(told(camera, 0.8)) == (0, 2)
    simulated.pulse()
    assert count(told(camera, 0.3)) == (1, 0)


@pytest.mark.parametrize("first_after_s", [0.0, 1.5])
def test_a_late_picture_is_none_though_nothing_came_for_long(here, first_after_s: float) -> None:
    camera, simulated = here
    simulated.faults.plan.durations_s["late"] = 0.27
    if first_after_s:
        simulated.pulse()
        assert count(told(camera, first_after_s)) == (1, 0)
        camera._clock._delay.at_ns -= 3_600_000_000_000  # as if an hour had passed, with the clocks in step
    simulated.inject("late")
    simulated.pulse()
    assert count(told(camera, 0.6)) == (0, 1)
    simulated.pulse()
    assert count(told(camera, 0.3)) == (1, 0)


def test_a_picture_that_comes_too_late_is_none_though_the_counter_could_not_be_read(here) -> None:
    camera, simulated = here
    simulated.faults.plan.durations_s["late"] = 0.3
    simulated.pulse()
    assert count(told(camera, 0.1)) == (1, 0)
    simulated.freeze_control(0.4)
    simulated.inject("late")
    simulated.pulse()
    assert count(told(camera, 1.0)) == (0, 1)
    simulated.pulse()
    assert count(told(camera, 0.3)) == (1, 0)


def test_pictures_that_came_while_the_counter_could_not_be_read_are_not_lost(here) -> None:
    camera, simulated = here
    assert count(told(camera, 0.1)) == (0, 0)
    simulated.freeze_control(0.4)
    time.sleep(0.001)
    for _ in range(12):
        simulated.pulse()
        time.sleep(0.01)
    assert count(told(camera, 1.0)) == (12, 0)


def test_what_was_counted_before_the_power_went_is_told_first(here) -> None:
    camera, simulated = here
    simulated.inject("ignored", 3)
    for _ in range(3):
        simulated.pulse()
        time.sleep(0.01)
    camera.wait(0.05)
    camera.wait(0.05)
    camera.wait(0.05)
    simulated.power_cycle()
    heard: list[Arrival] = []
    with pytest.raises(CameraError, match="began anew"):
        for _ in range(40):
            if (arrival := camera.wait(0.05)) is not None:
                heard.append(arrival)
    assert count(heard) == (0, 3)
