"""The simulated camera with the real Aravis library as its host: what it would see of a camera, whole and ailing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from aravis import MISSING_PACKETS, SIZE_MISMATCH, SUCCESS, TIMEOUT, Frame, Host, HostError, require_aravis
from simulation import Simulate, wait_for

from edge_agent.simulator import Happening, SimulatedCamera, Truth, read_sequence
from edge_agent.simulator.pictures import PIXEL_FORMATS, encode

require_aravis()


@pytest.fixture
def host(address: str, simulate: Simulate) -> Iterator[Host]:
    """A host of whatever camera `simulate` opened; the test asks for it last."""
    simulate()
    with Host(address) as opened:
        yield opened


def truths(camera: SimulatedCamera) -> list[Truth]:
    return [record for record in camera.log if isinstance(record, Truth)]


def triggered(camera: SimulatedCamera, host: Host, **settings: object) -> None:
    """Have the host take pictures on Line0."""
    host.set_trigger("Line0")
    host.start(**settings)  # type: ignore[arg-type]
    assert wait_for(lambda: camera.is_acquiring)


def shoot(camera: SimulatedCamera, host: Host, timeout_s: float = 1.0) -> Frame | None:
    """One pulse, one frame."""
    assert camera.pulse()
    return host.pop(timeout_s)


def test_a_host_reads_and_writes_features(host: Host) -> None:
    assert (host.text("DeviceVendorName"), host.text("DeviceSerialNumber")) == ("edge-agent", "SIM-1")
    assert [host.integer(name) for name in ("Width", "Height", "WidthMax", "SensorHeight")] == [160, 120, 160, 120]
    host.set(ExposureTime=250.5, Gain=3.0, PixelFormat="Mono12Packed", DeviceUserID="left one", TriggerDelay=10.0)
    assert (host.number("ExposureTime"), host.number("Gain"), host.number("TriggerDelay")) == (250.5, 3.0, 10.0)
    assert (host.text("PixelFormat"), host.text("DeviceUserID")) == ("Mono12Packed", "left one")
    assert host.integer("PayloadSize") == 160 * 120 * 3 // 2
    assert host.integer("GevTimestampTickFrequency") == 1_000_000_000
    with pytest.raises(HostError):
        host.set(Width=161)


def test_a_test_packet_finds_the_packet_size(host: Host) -> None:
    host.set(GevSCPSPacketSize=9000)
    assert host.find_packet_size() == 9000


def test_free_run_delivers_every_picture_as_it_was_seen(address: str, simulate: Simulate) -> None:
    camera = simulate(rate_hz=100)
    with Host(address) as host:
        host.start(packet_size=1400)
        frames = host.grab(20)
        host.stop()
        assert [frame.status for frame in frames] == [SUCCESS] * 20
        assert [frame.frame_id for frame in frames] == list(range(1, 21))
        assert [read_sequence(frame.pixels) for frame in frames] == list(range(1, 21))
        assert all(np.array_equal(frame.pixels, camera.picture(n)) for n, frame in enumerate(frames, start=1))
        assert truths(camera)[0].fate == "good"


def test_a_rate_is_kept(host: Host) -> None:
    host.set_frame_rate(50)
    host.start()
    host.pop()
    start = time.monotonic()
    assert len(host.grab(25)) == 25
    assert 0.45 < time.monotonic() - start < 1.5


def test_a_region_is_cut_from_the_sensor(address: str, simulate: Simulate) -> None:
    sensor = np.random.default_rng(1).integers(0, 255, (120, 160), np.uint8)
    simulate(pictures=lambda sequence, rows, cols: sensor, rate_hz=100)
    with Host(address) as host:
        host.set_region(10, 20, 50, 40)
        host.start()
        frame = host.pop()
        assert frame is not None
        assert np.array_equal(frame.pixels, sensor[20:60, 10:60])


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_every_pixel_format_arrives(address: str, simulate: Simulate, name: str) -> None:
    camera = simulate(rate_hz=100)
    with Host(address) as host:
        host.set(PixelFormat=name)
        host.start()
        frame = host.pop()
        assert frame is not None
        assert (frame.status, frame.pixel_format) == (SUCCESS, PIXEL_FORMATS[name])
        assert np.array_equal(frame.content, encode(camera.picture(1), PIXEL_FORMATS[name]))


def test_a_software_trigger_is_one_picture(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        host.set_trigger("Software")
        host.start()
        assert host.pop(0.1) is None
        for n in (1, 2, 3):
            host.software_trigger()
            frame = host.pop()
            assert frame is not None
            assert (frame.status, read_sequence(frame.pixels)) == (SUCCESS, n)
        assert host.pop(0.1) is None
        assert not camera.pulse()  # Line0 is not its source
        assert host.pop(0.1) is None


def test_line0_counts_every_pulse_and_takes_what_it_can(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        assert not camera.pulse()  # not armed
        host.set(ExposureTime=150_000.0)
        triggered(camera, host)
        host.execute("CounterReset")
        assert [camera.pulse() for _ in range(3)] == [True, False, False]  # the sensor exposes
        assert [frame.status for frame in host.grab(3, 0.3)] == [SUCCESS]
        assert host.integer("CounterValue") == 3
        assert [truth.fate for truth in truths(camera)] == ["unarmed", "ignored", "ignored", "good"]
        assert [truth.trigger for truth in truths(camera)] == [1, 3, 4, 2]
        host.set(CounterEventSource="Off")
        camera.pulse()
        assert host.integer("CounterValue") == 3


def test_a_burst_fills_the_queue_and_no_more(address: str, simulate: Simulate) -> None:
    camera = simulate(exposure_us=1.0, depth=4, link_mbit_s=2.0)  # 77 ms a picture
    with Host(address) as host:
        triggered(camera, host)
        taken = sum(camera.pulse() or bool(time.sleep(0.0005)) for _ in range(8))
        assert taken == 4
        assert [read_sequence(frame.pixels) for frame in host.grab(8, 0.3)] == [1, 2, 3, 4]


def test_a_pulse_generator_triggers(address: str, simulate: Simulate) -> None:
    camera = simulate(trigger_rate_hz=100)
    with Host(address) as host:
        triggered(camera, host)
        assert [frame.status for frame in host.grab(20, 0.5)] == [SUCCESS] * 20


def test_a_single_frame_is_one(host: Host) -> None:
    host.set(AcquisitionMode="SingleFrame")
    host.start()
    assert len(host.grab(2, 0.3)) == 1
    host.set(AcquisitionMode="MultiFrame", AcquisitionFrameCount=3)
    host.execute("AcquisitionStart")
    assert len(host.grab(5, 0.3)) == 3


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_lost_packets_are_had_on_request(address: str, simulate: Simulate, loss: float) -> None:
    camera = simulate(rate_hz=50, faults=f"loss={loss}")
    with Host(address) as host:
        host.start(packet_size=576)
        frames = host.grab(30)
        host.stop()
        assert [frame.status for frame in frames] == [SUCCESS] * 30
        assert all(np.array_equal(frame.pixels, camera.picture(read_sequence(frame.pixels))) for frame in frames)
        assert camera.counters()["packets_resent"] >= sum(truth.lost_packets for truth in truths(camera)[:30]) > 0
        assert {truth.fate for truth in truths(camera)} <= {"good", "loss"}


@pytest.mark.parametrize("spec", ["loss=0.1,resend=off", "loss=0.1,resend_loss=1"])
def test_without_resending_they_are_lost(address: str, simulate: Simulate, spec: str) -> None:
    simulate(rate_hz=50, faults=spec)
    with Host(address) as host:
        host.start(packet_size=576)
        assert {frame.status for frame in host.grab(5)} <= {TIMEOUT, MISSING_PACKETS}


@pytest.mark.parametrize("fault", ["leader", "trailer", "truncated"])
def test_an_incomplete_picture_is_told(address: str, simulate: Simulate, fault: str) -> None:
    camera = simulate()
    with Host(address) as host:
        triggered(camera, host, packet_size=1400)
        assert shoot(camera, host) is not None
        camera.inject(fault)
        failed = shoot(camera, host)
        assert failed is not None
        assert is_incomplete(failed)
        after = shoot(camera, host)
        assert after is not None
        assert (after.status, after.frame_id, read_sequence(after.pixels)) == (SUCCESS, 3, 3)
        assert [truth.fate for truth in truths(camera)] == ["good", fault, "good"]


def is_incomplete(frame: Frame) -> bool:
    """Aravis 0.8.26 takes a truncated picture for a complete one: only its size tells."""
    return frame.status in (TIMEOUT, MISSING_PACKETS, SIZE_MISMATCH) or frame.content.size < 120 * 160


def test_a_dropped_picture_is_a_gap_in_the_ids(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        triggered(camera, host)
        assert shoot(camera, host) is not None
        camera.inject("drop", 2)
        assert shoot(camera, host, 0.05) is None
        assert shoot(camera, host, 0.05) is None
        after = shoot(camera, host)
        assert after is not None
        assert (after.frame_id, read_sequence(after.pixels)) == (4, 4)


def test_an_ignored_trigger_leaves_no_gap_but_a_count(address: str, simulate: Simulate) -> None:
    camera = simulate(faults="ignored_every=2")
    with Host(address) as host:
        triggered(camera, host)
        host.execute("CounterReset")
        taken = []
        for _ in range(4):
            taken.append(camera.pulse())
            time.sleep(0.02)
        assert taken == [True, False, True, False]
        assert [frame.frame_id for frame in host.grab(4, 0.2)] == [1, 2]
        assert host.integer("CounterValue") == 4


def test_pictures_that_are_whole_but_wrong(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        triggered(camera, host)
        seen = {}
        for fault in ("frozen", "good", "frozen", "black", "saturated", "wrong_size"):
            if fault != "good":
                camera.inject(fault)
            seen[fault] = frame = shoot(camera, host)
            assert frame is not None
            assert frame.status == SUCCESS
        assert [truth.fate for truth in truths(camera)] == ["good", "good", "frozen", "black", "saturated", "wrong_size"]
        frozen, black, white, wrong = (seen[name] for name in ("frozen", "black", "saturated", "wrong_size"))
        assert frozen and black and white and wrong
        assert (frozen.frame_id, read_sequence(frozen.pixels)) == (3, 2)
        assert (int(black.pixels.max()), int(white.pixels.min())) == (0, 255)
        assert (wrong.rows, wrong.cols) == (60, 160)


def test_a_late_picture_comes_late(address: str, simulate: Simulate) -> None:
    camera = simulate(faults="late_every=1:300ms")
    with Host(address) as host:
        triggered(camera, host)
        start = time.monotonic()
        assert shoot(camera, host) is not None
        assert time.monotonic() - start >= 0.3


def test_ids_go_from_65535_to_1(address: str, simulate: Simulate) -> None:
    simulate(rate_hz=100, faults="first_id=65530")
    with Host(address) as host:
        host.start()
        assert [frame.frame_id for frame in host.grab(10)] == [65530, 65531, 65532, 65533, 65534, 65535, 1, 2, 3, 4]


def test_the_next_id_can_be_set(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        triggered(camera, host)
        frames = [shoot(camera, host)]
        camera.set_next_id(700)
        frames += [shoot(camera, host), shoot(camera, host)]
        assert [frame and frame.frame_id for frame in frames] == [1, 700, 701]


def test_who_is_second_is_denied(address: str, host: Host) -> None:
    host.set(ExposureTime=300.0)
    with Host(address) as second:
        assert second.number("ExposureTime") == 300.0
        with pytest.raises(HostError):
            second.set(ExposureTime=400.0)
    assert host.number("ExposureTime") == 300.0


def test_another_in_exclusive_control_lets_nobody_in_for_a_time(address: str, simulate: Simulate) -> None:
    camera = simulate(faults="held=1s")
    assert camera.controller == ("0.0.0.0", 0)
    with pytest.raises(HostError):
        Host(address)
    assert wait_for(lambda: camera.controller is None, 2)
    with Host(address) as host:
        host.start()
        assert host.pop() is not None
    assert [record.what for record in camera.log if isinstance(record, Happening)] == ["held", "expired"]


def test_control_is_lost_by_a_frozen_control_channel(address: str, simulate: Simulate) -> None:
    camera = simulate(rate_hz=100)
    with Host(address) as host:
        host.set(GevHeartbeatTimeout=500)
        host.start()
        assert host.pop() is not None
        camera.freeze_control(1.2)
        assert camera.is_acquiring
        assert wait_for(lambda: camera.controller is None, 3)
        assert not camera.is_acquiring
        assert camera.register("StreamPort") == 0
        assert wait_for(lambda: host.is_lost, 4)


def test_a_short_freeze_loses_nothing(address: str, simulate: Simulate) -> None:
    camera = simulate(rate_hz=100, faults="freeze_every=50:300ms")
    with Host(address) as host:
        host.start()
        frames = host.grab(90)
        assert [frame.frame_id for frame in frames] == list(range(1, 91))
        happened = next(record for record in camera.log if isinstance(record, Happening))
        assert (happened.what, happened.trigger, happened.duration_s) == ("freeze", 50, 0.3)
        assert not host.is_lost


def test_a_power_cycle_forgets_everything(address: str, simulate: Simulate) -> None:
    camera = simulate()
    with Host(address) as host:
        host.set(ExposureTime=300.0)
        triggered(camera, host)
        assert shoot(camera, host) is not None
        camera.power_cycle(0.1)
        assert not camera.pulse()
        assert wait_for(lambda: host.is_lost, 4)
    with Host(address) as again:
        assert again.number("ExposureTime") == 100.0
        assert again.text("TriggerMode") == "Off"
        triggered(camera, again)
        frame = shoot(camera, again)
        assert frame is not None
        assert (frame.frame_id, read_sequence(frame.pixels)) == (1, 2)
    assert [truth.fate for truth in truths(camera)] == ["good", "power", "good"]


def test_power_goes_every_so_many_pictures(address: str, simulate: Simulate) -> None:
    camera = simulate(rate_hz=100, faults="power_every=3:50ms")
    with Host(address) as host:
        host.start()
        assert [frame.frame_id for frame in host.grab(4, 0.3)] == [1, 2]
        assert [truth.fate for truth in truths(camera)] == ["good", "good", "power"]


def test_the_host_sees_what_the_truth_says(address: str, simulate: Simulate) -> None:
    """A run with everything at once, reconciled trigger by trigger."""
    every = {"leader": 7, "trailer": 11, "drop": 13, "truncated": 17, "frozen": 19, "black": 23, "wrong_size": 29, "ignored": 31}
    spec = "loss=0.01,first_id=65500," + ",".join(f"{fault}_every={number}" for fault, number in every.items())
    camera = simulate(faults=spec)
    with Host(address) as host:
        triggered(camera, host, packet_size=1400)
        got = {truth.trigger: frame for truth, frame in (one_shot(camera, host) for _ in range(80))}
    fates = {truth.fate for truth in truths(camera)}
    assert fates == {"good", "loss", *every}
    for truth in truths(camera):
        frame = got[truth.trigger]
        assert (frame is None) == (truth.fate in ("drop", "ignored"))
        if frame is not None:
            assert is_incomplete(frame) == (truth.fate in ("leader", "trailer", "truncated")), truth
        if frame is not None and frame.status == SUCCESS:
            assert frame.frame_id == truth.block_id
        if truth.fate in ("good", "loss"):
            assert frame is not None
            assert np.array_equal(frame.pixels, camera.picture(truth.sequence))


def one_shot(camera: SimulatedCamera, host: Host) -> tuple[Truth, Frame | None]:
    """Pulse, wait for the truth of it, and for the frame where there is to be one."""
    before = len(camera.log)
    camera.pulse()
    assert wait_for(lambda: len(camera.log) > before)
    truth = truths(camera)[-1]
    return truth, host.pop(0.02 if truth.fate in ("drop", "ignored") else 1.0)
