"""A picture belongs to the trigger whose time it carries; what was given up is owed, and is no other part's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from aravis import require_aravis
from bench_aravis import SIDE, Bench, benches, reasons

from edge_agent.camera import aravis, aravis_find
from edge_agent.camera.base import Arrival, Due, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError
from edge_agent.simulator import read_sequence

require_aravis()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with benches() as make:
        yield make


def answers(here: Bench, count: int) -> list[tuple[str, int]]:
    """Of so many software triggers the word, and the exposure whose picture it got; 0 for none."""
    given: list[tuple[str, int]] = []
    word = ""
    here.pictures.clear()
    for arrival in here.arrivals(count):
        if isinstance(arrival, Due):
            word = arrival.part_id
        else:
            given.append((word, read_sequence(here.pictures.pop(0)) if isinstance(arrival, Picture) else 0))
    return given


def until_error(here: Bench) -> list[Arrival]:
    heard: list[Arrival] = []
    with pytest.raises(CameraError):
        for _ in range(200):
            arrival = here.camera.wait(0.05)
            if arrival is not None:
                heard.append(arrival)
    return heard


# --- software triggers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("fault", ["late", "ignored"])
def test_a_picture_given_up_is_not_the_next_triggers(bench, fault: str, is_first: bool) -> None:
    here = bench(trigger="software", frame_timeout_ms=300).open()
    here.simulated.faults.plan.durations_s["late"] = 0.34
    warm = 0 if is_first else 2
    for n in range(warm):
        here.camera.trigger("warm")
        assert answers(here, 1) == [("warm", n + 1)]
    here.simulated.inject(fault)
    here.camera.trigger("A")
    assert answers(here, 1) == [("A", 0)]
    here.camera.trigger("B")
    here.camera.trigger("C")
    first = warm + (2 if fault == "late" else 1)
    assert answers(here, 2) == [("B", first), ("C", first + 1)]


def test_without_a_clock_of_the_cameras_a_trigger_given_up_ends_the_stream(bench) -> None:
    here = bench({"has_clock": False}, trigger="software", frame_timeout_ms=300).open()
    here.camera.trigger("warm")
    assert answers(here, 1) == [("warm", 1)]
    here.simulated.inject("drop")
    here.camera.trigger("A")
    assert reasons(until_error(here)) == {"no_frame": 1}


def test_triggers_that_waited_when_the_camera_was_closed_are_forgotten(bench) -> None:
    here = bench(trigger="software").open()
    for word in "ABC":
        here.camera.trigger(word)
    here.camera.close()
    here.open()
    here.camera.trigger("D")
    assert answers(here, 1) == [("D", 1)]
    assert here.camera.wait(0.2) is None


def test_a_picture_that_can_never_come_in_time_is_refused(bench) -> None:
    with pytest.raises(CameraError, match=r"exposure.*400.*frame_timeout_ms.*300"):
        bench(trigger="software", exposure_time_us=400_000.0, frame_timeout_ms=300).open()


# --- hardware triggers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ["RisingEdge", "FallingEdge", "AnyEdge"])
def test_the_counter_counts_the_edges_that_trigger(bench, activation: str) -> None:
    here = bench(trigger="hardware", counter="Counter0", trigger_activation=activation, frame_timeout_ms=150).open()
    here.simulated.pulse(0.01)
    time.sleep(0.01)
    here.simulated.inject("ignored")
    here.simulated.pulse(0.01)
    edges = 4 if activation == "AnyEdge" else 2
    arrivals = here.arrivals(edges)
    assert sum(isinstance(a, Picture) for a in arrivals) == edges - 1
    assert reasons(arrivals) == {"no_frame": 1}
    assert here.simulated.register("CounterValue") == edges


def test_an_edge_counter_does_not_count_a_level() -> None:
    with pytest.raises(ValueError, match="LevelHigh"):
        Settings(name="cam", address="127.0.0.1", trigger="hardware", counter="Counter0", trigger_activation="LevelHigh")


def test_more_pictures_than_were_counted_make_the_line_unverified(bench) -> None:
    here = bench(trigger="hardware", counter="Counter0").open()
    assert here.camera.counts_triggers
    here.simulated.set_register("CounterEventActivation", 1)
    here.simulated.set_register("TriggerActivation", 2)  # two pictures a pulse, one count
    for _ in range(9):
        here.simulated.pulse(0.01)
        time.sleep(0.01)
        assert all(isinstance(a, Picture) for a in here.arrivals(2))
    until_error(here)
    assert not here.camera.counts_triggers
    here.open()
    here.simulated.pulse()
    assert isinstance(here.arrivals(1)[0], Picture)
    assert not here.camera.counts_triggers


def test_a_large_step_of_ids_is_told_where_the_cameras_clock_went_on(bench) -> None:
    here = bench(trigger="hardware").open()
    here.simulated.pulse()
    here.arrivals(1)
    time.sleep(0.2)
    here.simulated.set_next_id(1501)
    here.simulated.pulse()
    arrivals = here.arrivals(1500)
    assert reasons(arrivals) == {"no_frame": 1499}
    assert isinstance(arrivals[-1], Picture)


@pytest.mark.parametrize(("next_id", "is_clock_reset"), [(65_000, False), (700, True)])
def test_ids_that_go_on_faster_than_time_are_a_camera_that_began_anew(bench, next_id: int, is_clock_reset: bool) -> None:
    here = bench(trigger="hardware").open()
    here.simulated.set_next_id(600)
    here.simulated.pulse()
    here.arrivals(1)
    time.sleep(0.05)
    here.simulated.set_next_id(next_id)
    if is_clock_reset:
        here.simulated.reset_clock()
    here.simulated.pulse()
    heard = until_error(here)
    assert reasons(heard) == {"no_frame": 1}, "the picture in hand is its trigger's last word"


# --- opening ----------------------------------------------------------------------------------------------------------
def test_binning_among_the_features_is_known_to_the_region(bench) -> None:
    here = bench(features={"BinningHorizontal": 2, "BinningVertical": 2}, trigger="software").open()
    here.camera.trigger("A")
    (picture,) = [a for a in here.arrivals(1) if isinstance(a, Picture)]
    assert (picture.exposure.rows, picture.exposure.cols) == (SIDE // 2, SIDE // 2)
    with pytest.raises(CameraError, match=r"64.*32x64"):
        bench(features={"BinningHorizontal": 2}, width=SIDE).open()


def test_the_camera_that_answers_must_have_the_serial_number(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    here = bench({"serial": "RIGHT"})
    address = here.simulated.address
    found = [{"protocol": "GigEVision", "address": address, "vendor": "", "model": "", "serial": "LEFT", "id": address}]
    monkeypatch.setattr(aravis_find, "find_devices", lambda: found)
    camera = aravis.AravisCamera(Settings(name="cam", serial="LEFT", socket="standard"))
    with pytest.raises(CameraError, match=r"LEFT.*RIGHT"):
        camera.open()


def test_of_two_cameras_with_one_serial_number_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    of_one = {"protocol": "GigEVision", "vendor": "", "model": "", "serial": "0017"}
    found = [of_one | {"address": address, "id": address} for address in ("127.0.0.8", "127.0.0.8", "127.0.0.9")]
    monkeypatch.setattr(aravis_find, "find_devices", lambda: found)
    with pytest.raises(CameraError, match=r"2 cameras have the serial number 0017: 127\.0\.0\.8, 127\.0\.0\.9"):
        aravis.AravisCamera(Settings(name="cam", serial="0017")).open()
    del found[2]
    assert aravis_find.address_of("0017") == "127.0.0.8"  # one that two networks reach is one


_DISCOVERIES = """
import ctypes, sys, threading, time
from edge_agent.camera import aravis_library
sys.setswitchinterval(0.0005)
aravis_library.library()
arv = ctypes.CDLL("libaravis-0.8.so.0")
for name in (b"USB3Vision", b"GigEVision"):
    arv.arv_disable_interface(name)
arv.arv_enable_interface(b"Fake")
(good,) = aravis_library.find_devices()
bad = []
until = time.monotonic() + 3
def look():
    while time.monotonic() < until:
        bad.extend(device for device in aravis_library.find_devices() if device != good)
threads = [threading.Thread(target=look) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(f"{len(bad)} of them garbled: {bad[:3]}" if bad else 0)
"""


def test_cameras_may_be_looked_for_at_the_same_time() -> None:
    done = subprocess.run([sys.executable, "-c", _DISCOVERIES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
