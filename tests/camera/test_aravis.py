"""The Aravis camera on simulated GigE Vision cameras: pictures as they are, and one word for each that never came whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from aravis import require_aravis
from bench_aravis import SIDE, Bench, benches, reasons
from simulation import wait_for

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.base import Arrival, Due, Lost, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError, Reason

require_aravis()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with benches() as make:
        yield make


def test_pictures_are_in_the_slots_as_the_camera_took_them(bench) -> None:
    here = bench(frame_rate_hz=50.0, exposure_time_us=500.0).open()
    arrivals = here.arrivals(5)
    assert not reasons(arrivals)
    ids = [a.exposure.frame_id for a in arrivals]
    assert ids == list(range(ids[0], ids[0] + 5))  # the first may come before there is a slot
    for shown, frame_id in zip(here.pictures, ids, strict=True):
        (truth,) = [t for t in here.simulated.log if t.block_id == frame_id]
        assert np.array_equal(shown, here.simulated.picture(truth.sequence))
    now = time.monotonic_ns()
    assert all(0 <= now - a.trigger_ns < 5e9 for a in arrivals)


def test_each_pulse_gets_its_picture_also_past_the_last_frame_id(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0").open()
    here.simulated.set_next_id(65_533)
    for _ in range(6):
        here.simulated.pulse()
        (arrival,) = here.arrivals(1)
        assert isinstance(arrival, Picture)
    assert here.camera.counters()["pictures"] == 6


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drop", "no_frame"),
        ("leader", "bad_frame"),
        ("trailer", "bad_frame"),
        ("truncated", "bad_frame"),
        ("wrong_size", "bad_frame"),
    ],
)
def test_a_picture_that_is_not_whole_is_one_word_and_the_next_is_well(bench, fault: str, reason: str) -> None:
    here = bench(trigger="hardware", counter="Counter0", resend=False, frame_timeout_ms=250, packet_size=576).open()
    here.simulated.pulse()
    assert isinstance(here.arrivals(1)[0], Picture)
    here.simulated.inject(fault)
    here.simulated.pulse()
    time.sleep(0.02)
    here.simulated.pulse()
    arrivals = here.arrivals(2)
    told = reasons(arrivals)
    assert sum(told.values()) == 1, arrivals
    assert told.keys() <= {reason, "no_frame"}
    assert sum(isinstance(a, Picture) for a in arrivals) == 1
    wanted = here.simulated.picture([t.sequence for t in here.simulated.log if t.fate == "good"][-1])
    assert np.array_equal(here.pictures[-1], wanted)
    assert here.camera.wait(0.5) is None, "a word too many"


def test_a_pulse_that_the_camera_ignores_is_told_by_its_counter(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0", frame_timeout_ms=150).open()
    here.simulated.inject("ignored")
    here.simulated.pulse()
    (lost,) = here.arrivals(1)
    assert (lost.reason, lost.count) == (Reason.NO_FRAME, 1)
    assert "counted 1 triggers" in lost.why
    assert here.camera.counts_triggers


def until_told(camera: AravisCamera) -> list[Arrival]:
    """What a station that stops is told still."""
    heard: list[Arrival] = []
    while not camera.finish():
        arrival = camera.wait(0.05)
        heard += [] if arrival is None else [arrival]
    return heard


@pytest.mark.parametrize("counter", [{"counter": "Counter0"}, {}], ids=["counted", "uncounted"])
def test_a_stop_takes_in_the_picture_of_a_pulse_that_came_before(bench, counter: dict[str, str]) -> None:
    here = bench(trigger="hardware", exposure_time_us=100_000.0, frame_timeout_ms=400, **counter).open()
    here.simulated.pulse()
    assert [type(a) for a in until_told(here.camera)] == [Picture]


def test_a_stop_tells_of_a_pulse_that_gets_no_picture_with_the_time_of_it(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0", frame_timeout_ms=200).open()
    here.simulated.inject("ignored")
    pulsed_ns = time.monotonic_ns()
    here.simulated.pulse()
    (lost,) = until_told(here.camera)
    assert (lost.reason, lost.count) == (Reason.NO_FRAME, 1)
    assert 0 <= lost.trigger_ns - pulsed_ns < 200_000_000


def test_a_stop_takes_in_what_came_meanwhile(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0").open()
    for count in (1, 2, 3):
        here.simulated.pulse()
        assert wait_for(lambda count=count: here.simulated.log and here.simulated.log[-1].sequence == count)
    assert [type(a) for a in until_told(here.camera)] == [Picture] * 3


def test_lost_packets_are_sent_again(bench) -> None:
    here = bench({"faults": "loss=0.1"}, trigger="hardware", counter="Counter0", packet_size=576).open()
    for _ in range(20):
        here.simulated.pulse()
        assert isinstance(here.arrivals(1)[0], Picture)
    assert here.camera.counters()["resent_packets"] > 0


def test_software_triggers_wait_for_each_other_and_get_their_own(bench) -> None:
    here = bench(trigger="software").open()
    for word in "ABCDE":
        here.camera.trigger(word)
    arrivals = here.arrivals(5)
    assert [a.part_id for a in arrivals if isinstance(a, Due)] == list("ABCDE")
    assert [type(a) for a in arrivals] == [Due, Picture] * 5
    here.simulated.inject("drop")
    here.camera.trigger("F")
    here.camera.trigger("G")
    assert [type(a) for a in here.arrivals(2)] == [Due, Lost, Due, Picture]
    with pytest.raises(CameraError, match="has trigger free_run"):
        bench().camera.trigger("x")


def test_a_power_cycle_is_noticed_and_mended_by_opening_again(bench) -> None:
    here = bench(frame_rate_hz=40.0).open()
    here.arrivals(3)
    here.simulated.power_cycle()
    with pytest.raises(CameraError, match="cam"):
        here.arrivals(10_000, 8)
    here.camera.close()
    here.open()
    assert not reasons(here.arrivals(3))


def test_a_camera_that_somebody_else_holds_is_said(bench) -> None:
    here = bench()
    here.simulated.hold_control(3.0)
    with pytest.raises(CameraError, match=r"cam at 127\."):
        here.open()


def test_a_camera_that_another_program_reads_is_said_with_the_remedy(bench) -> None:
    here = bench().open()
    second = AravisCamera(Settings(name="second", address=here.simulated.address, socket="standard", heartbeat_ms=900))
    with pytest.raises(CameraError, match=r"second at 127\..*control is denied: another program holds .* Stop .* after 900 ms"):
        second.open()
    second.close()


def test_an_absent_camera_is_said_with_its_address_and_the_remedy() -> None:
    camera = AravisCamera(Settings(name="cam", address="127.3.250.250", socket="standard"))
    with pytest.raises(CameraError, match=r"camera cam at 127\.3\.250\.250: no camera answers .* Look at its cable"):
        camera.open()
    camera.close()


def test_what_the_camera_does_not_take_is_said_with_both_values(bench) -> None:
    with pytest.raises(CameraError, match=r"region .* was set to .* and reads|width|Width"):
        bench(width=SIDE * 4).open()
    with pytest.raises(CameraError, match="NoSuchFeature"):
        bench(features={"NoSuchFeature": 3}).open()
    with pytest.raises(CameraError, match="Mono7"):
        bench(pixel_format="Mono7").open()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"exposure_time_us": 99_999_999.0}, "exposure_time_us 99999999: .* takes 1 to 10000000"),
        ({"gain": 9999.0}, "gain 9999: .* takes 0 to 24"),
        ({"frame_rate_hz": 100_000.0}, "frame_rate_hz 100000: .* takes 0.01 to 10000"),
        ({"width": 5000}, f"5000x{SIDE} pixels from x 0, y 0 on do not fit into its {SIDE}x{SIDE}"),
        ({"pixel_format": "Mono99"}, "pixel_format Mono99: .* one of Mono8, Mono10"),
        ({"trigger": "hardware", "trigger_source": "Line9"}, "trigger_source Line9: .* one of Software, Line0"),
        ({"trigger": "hardware", "counter": "Counter7"}, "counter Counter7: .* one of Counter0"),
        ({"features": {"Gama": 0.8}}, "at [0-9.]+: features.Gama = 0.8: the camera has no feature Gama, or not now; it has Gain"),
        ({"features": {"Gain": "abc"}}, "features.Gain = abc: .* takes 0 to 24.*without quotes"),
        ({"features": {"TriggerMode": False}}, "features.TriggerMode = false: .* one of Off, On.*in quotes"),
        (
            {"features": {"BinningHorizontal": 9}},
            "= 9: .* takes 1 to 4. Set features.BinningHorizontal to what it takes.*invalid-param",
        ),
        ({"features": {"BinningHorizontal": 2.5}}, "= 2.5: .* takes 1 to 4. Set features.BinningHorizontal to what it takes\\."),
        ({"features": {"WidthMax": 9}}, "features.WidthMax = 9: .* can only be read"),
        ({"features": {"AcquisitionStart": True}}, "features.AcquisitionStart = true: .* may be a text, a command or locked"),
        ({"packet_size": 577}, "packet_size 577: the camera does not take it. Set packet_size: auto"),
        ({"x": SIDE}, f"x {SIDE}, y 0 is outside its {SIDE}x{SIDE}"),
        ({"x": SIDE - 1}, f"1x{SIDE} pixels from x {SIDE - 1}, y 0 on: the camera does not take them"),
    ],
)
def test_a_wrong_value_is_said_with_its_limits(bench, given: dict[str, Any], words: str) -> None:
    with pytest.raises(CameraError, match=words):
        bench(**given).open()


@pytest.mark.parametrize("address", ["300.1.1.1", "belt", ""])
def test_what_is_no_address_is_refused_by_the_settings(address: str) -> None:
    with pytest.raises(ValueError, match="no IPv4 address"):
        Settings(name="cam", address=address)


def test_a_software_trigger_waits_for_no_camera_that_is_dead(bench) -> None:
    here = bench(trigger="software", frame_timeout_ms=300).open()
    here.camera.trigger("A")
    assert [type(a) for a in here.arrivals(1)] == [Due, Picture]
    here.simulated.freeze_control(30.0)
    here.camera.trigger("B")
    asked_s = time.monotonic()
    due, lost = here.arrivals(1)
    assert (due, lost.reason) == (Due("B"), Reason.NO_FRAME)
    assert "did not answer the trigger within 300 ms" in lost.why
    assert time.monotonic() - asked_s < 1.5, "the library alone waits longer for an answer"
    with pytest.raises(CameraError, match=r"camera cam at 127\..*did not answer a trigger"):
        here.camera.wait(0.1)
    here.simulated.freeze_control(0)  # closing it need not wait, too


@pytest.mark.parametrize(
    ("simulated", "settings"), [({"rate_hz": 0.8}, {}), ({}, {"frame_rate_hz": 25.0, "exposure_time_us": 1.3e6})]
)
def test_a_slow_camera_that_runs_free_is_not_silent(bench, simulated: dict[str, float], settings: dict[str, float]) -> None:
    here = bench(simulated, **settings).open()
    assert not reasons(here.arrivals(2, 9))


def test_pictures_come_while_the_counter_cannot_be_read_and_none_is_an_overrun(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0", frame_timeout_ms=200).open()
    here.simulated.freeze_control(0.7)
    for number in range(1, 25):  # twice as many as there are slots
        here.simulated.pulse()
        (arrival,) = here.arrivals(1, 0.6)
        assert isinstance(arrival, Picture), (number, arrival)
    here.simulated.inject("ignored")
    here.simulated.pulse()
    (lost,) = here.arrivals(1)
    assert (lost.reason, lost.count) == (Reason.NO_FRAME, 1)


def test_features_are_set_by_their_names(bench) -> None:
    here = bench(features={"TriggerDelay": 20.0}, gain=3.0, exposure_time_us=750.0, trigger="software").open()
    assert here.simulated.register("TriggerDelay") == 20.0
    assert here.simulated.register("ExposureTime") == 750.0


@pytest.mark.parametrize("name", ["Mono10", "Mono12", "Mono16", "Mono12Packed", "BayerRG8", "RGB8"])
@pytest.mark.parametrize("side", [SIDE, SIDE - 1])
def test_other_pixel_formats_become_gray(bench, name: str, side: int) -> None:
    here = bench(pixel_format=name, trigger="software", width=side, height=side).open()
    here.camera.trigger("A")
    here.arrivals(1)
    truth = here.simulated.picture(here.simulated.log[-1].sequence).astype(int)
    shown = here.pictures[0].astype(int)
    if name == "BayerRG8":
        shown, truth = shown[8:-8, 8:-8].mean(keepdims=True), truth[8:-8, 8:-8].mean(keepdims=True)
    assert np.abs(shown - truth).max() <= 2


def test_pulses_beyond_the_slots_are_overruns_though_nothing_follows(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0", frame_timeout_ms=200).open()
    for _ in range(15):
        here.simulated.pulse()
        time.sleep(0.01)
    arrivals = here.arrivals(15)
    assert sum(isinstance(a, Picture) for a in arrivals) == 12
    assert reasons(arrivals) == {"overrun": 3}


def test_without_a_free_slot_a_picture_is_an_overrun(bench) -> None:
    here = bench(frame_rate_hz=100.0)
    here.camera.open()
    memory = [np.zeros(here.camera.max_pixels, np.uint8) for _ in range(3)]
    for slot, each in enumerate(memory):
        here.camera.lend(slot, each)
    shown = [here.camera.wait(0.5) for _ in range(3)]
    assert all(isinstance(a, Picture) for a in shown)
    time.sleep(0.2)
    for slot, each in enumerate(memory):
        here.camera.lend(slot, each)
    told = [here.camera.wait(0.2) for _ in range(4)]
    lost = [a for a in told if isinstance(a, Lost)]
    assert lost and lost[0].count >= 10
    assert lost[0].reason in (Reason.OVERRUN, Reason.NO_FRAME)


_BEGINS_ANEW = """
import sys, time
from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.aravis_library import Library
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError
from edge_agent.simulator import SimulatedCamera

connect = Library.connect
Library.connect = lambda self, thing, signal, hear: connect(self, thing, signal, lambda: (hear(), time.sleep(1)))
with SimulatedCamera(sys.argv[1]) as simulated:
    camera = AravisCamera(Settings(name="c", address=sys.argv[1], trigger="software", heartbeat_ms=500))
    camera.open()
    simulated.power_cycle()
    try:
        while True:
            camera.wait(0.05)
    except CameraError as error:
        print(error)
    camera.close()
    time.sleep(1.5)
"""


def test_a_camera_that_began_anew_ends_no_process_though_its_heartbeat_still_tells_of_it() -> None:
    """Who hears of it on that thread takes a second here: the library would wait for the thread on the thread itself, and abort."""
    words = (sys.executable, "-c", _BEGINS_ANEW, f"127.9.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 2}")
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "began anew" in ended.stdout
