"""A V4L2 camera over a fake kernel: every picture is the one it says, and what is lost, torn, stale or gone is said."""

from __future__ import annotations

import errno
import re

import numpy as np
import pytest
from bench_v4l2 import Bench, arrivals, kinds
from fake_v4l2 import MS, SOE_MONOTONIC

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.base import Due, Lost, Picture
from edge_agent.camera.triggers import MOST_PENDING
from edge_agent.errors import CameraError, Reason

BY_ID = "usb-Maker_Cam_ABC123-video-index0"


# --- free run -----------------------------------------------------------------------------------------------------------
def test_frames_come_in_order_stamped_by_the_driver(bench: Bench) -> None:
    camera = bench.open()
    started_ns = bench.kernel.now_ns
    bench.kernel.shoot(*range(20, 28), every_ms=10)
    seen = arrivals(camera)
    assert [bench.gray(arrival) for arrival in seen] == list(range(20, 28))
    assert [arrival.trigger_ns for arrival in seen] == [started_ns + n * 10 * MS for n in range(1, 9)]
    assert [arrival.exposure.frame_id for arrival in seen] == list(range(8))
    assert camera.counters() == {"pictures": 8}


def test_wait_ends_at_its_timeout(bench: Bench) -> None:
    camera = bench.open()
    before_ns = bench.kernel.now_ns
    assert camera.wait(0.25) is None
    assert 250 <= (bench.kernel.now_ns - before_ns) / MS < 251


def test_readable_without_a_frame_is_no_failure(bench: Bench) -> None:
    camera = bench.open(silence_s=2)
    bench.kernel.errors[k.VIDIOC_DQBUF] = errno.EAGAIN
    bench.kernel.shoot(5)
    assert camera.wait(0.05) is None
    del bench.kernel.errors[k.VIDIOC_DQBUF]
    assert bench.gray(camera.wait(0.05)) == 5


def test_a_gap_in_the_numbers_is_as_many_lost_parts(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1)
    bench.kernel.shoot(2, sequence=4)
    bench.kernel.shoot(3)
    first, gap, *rest = arrivals(camera)
    assert isinstance(gap, Lost)
    assert (gap.reason, gap.count) == (Reason.NO_FRAME, 3)
    assert [bench.gray(arrival) for arrival in (first, *rest)] == [1, 2, 3]
    assert camera.counters() == {"pictures": 3, "missing": 3}


def test_numbers_that_wrap_or_begin_anew_are_no_gap(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1, sequence=2**32 - 1)
    bench.kernel.shoot(2, 3)
    bench.kernel.shoot(4, sequence=0)
    bench.kernel.shoot(5, sequence=0)
    assert kinds(arrivals(camera)) == ["Picture"] * 5


def test_what_came_while_nobody_looked_shows_as_a_gap(bench: Bench) -> None:
    camera = bench.open(buffers=4, stale_ms=60_000)
    bench.kernel.shoot(*range(1, 9), every_ms=10)
    kernel_file = next(iter(bench.kernel.files.values()))
    for _ in range(7):  # seven frames while the station is busy: four are kept
        at_ns, frame = bench.kernel.schedule.popleft()
        bench.kernel._expose(kernel_file, frame, at_ns)
    found = arrivals(camera)
    assert kinds(found) == ["Picture"] * 4 + ["no_frame", "Picture"]
    assert isinstance(found[4], Lost)
    assert found[4].count == 3
    assert bench.gray(found[5]) == 8


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flags": SOE_MONOTONIC | k.BUF_FLAG_ERROR}, "damaged"),
        ({"bytesused": 64 * 48 * 2 - 1}, "6143 bytes.*6144"),
        ({"bytesused": 0}, "0 bytes"),
        ({"stamp_ns": 100 * MS}, "stale: [0-9]+ ms old, stale_ms allows 500"),
    ],
)
def test_a_bad_frame_is_lost_keeps_its_slot_and_gives_its_buffer_back(bench: Bench, changes: dict[str, int], why: str) -> None:
    camera = bench.open(slots=1)
    for _ in range(6):  # more than there are buffers
        bench.kernel.shoot(1, **changes)
    bench.kernel.shoot(2)
    *bad, well = arrivals(camera)
    assert kinds(bad) == ["bad_frame"] * 6
    assert all(isinstance(lost, Lost) and re.search(why, lost.why) for lost in bad), bad
    assert bench.gray(well) == 2
    assert camera.counters()["bad_frame"] == 6


def test_a_slot_too_small_is_never_written_beyond(bench: Bench) -> None:
    camera = bench.open(slots=0)
    camera.lend(0, np.zeros(10, np.uint8))
    bench.kernel.shoot(1)
    assert kinds(arrivals(camera)) == ["bad_frame"]


def test_without_a_slot_the_part_is_an_overrun_and_the_next_is_well(bench: Bench) -> None:
    camera = bench.open(slots=1)
    bench.kernel.shoot(1, 2, 3, 4, 5, 6, 7)
    assert kinds(arrivals(camera)) == ["Picture"] + ["overrun"] * 6
    bench.lend(camera, 5)
    bench.kernel.shoot(8)
    assert bench.gray(camera.wait(1)) == 8
    assert camera.counters() == {"pictures": 2, "overrun": 6}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flags": k.BUF_FLAG_TSTAMP_SRC_SOE}, "monotonic"),
        ({"flags": 0x4000 | k.BUF_FLAG_TSTAMP_SRC_SOE}, "monotonic"),
        ({"stamp_ns": 1_700_000_000 * 1000 * MS}, "CLOCK_MONOTONIC"),  # wall time under the flag of the other
    ],
)
def test_a_camera_that_stamps_by_another_clock_is_refused(bench: Bench, changes: dict[str, int], why: str) -> None:
    camera = bench.open()
    bench.kernel.shoot(1, **changes)
    with pytest.raises(CameraError, match=why):
        camera.wait(1)
    assert len(bench.kernel.file.queued) == 4


# --- failures -----------------------------------------------------------------------------------------------------------
def test_unplugged_it_says_so_and_closes_all_the_same(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1)
    bench.kernel.at(10, bench.kernel.unplug)
    assert bench.gray(camera.wait(1)) == 1
    with pytest.raises(CameraError, match=r"gone.*ENODEV.*cable"):
        camera.wait(1)
    with pytest.raises(CameraError, match="gone"):
        camera.wait(1)
    camera.close()
    assert bench.kernel.is_clean


@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV, errno.EPIPE])
def test_a_device_that_fails_to_deliver_is_gone(bench: Bench, code: int) -> None:
    camera = bench.open()
    bench.kernel.shoot(1)
    bench.kernel.errors[k.VIDIOC_DQBUF] = code
    with pytest.raises(CameraError, match=f"gone.*{errno.errorcode[code]}"):
        camera.wait(1)


def test_gone_between_frame_and_requeue_the_picture_still_counts(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1)
    bench.kernel.errors[k.VIDIOC_QBUF] = errno.ENODEV
    assert bench.gray(camera.wait(1)) == 1
    with pytest.raises(CameraError, match="gone"):
        camera.wait(1)


def test_plugged_in_again_it_is_opened_again_without_a_false_gap(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1, sequence=3)
    bench.kernel.at(10, bench.kernel.unplug)
    camera.wait(1)
    with pytest.raises(CameraError):
        camera.wait(1)
    with pytest.raises(CameraError):  # still unplugged
        camera.open()
    bench.kernel.is_unplugged, bench.kernel.sequence = False, 9
    camera.open()
    bench.kernel.shoot(2, 3)
    assert [bench.gray(arrival) for arrival in arrivals(camera)] == [2, 3]  # into the slots it still had


def test_held_by_another_it_says_so_and_opens_when_free(bench: Bench) -> None:
    bench.kernel.is_held = True
    with pytest.raises(CameraError, match=r"another process.*fuser"):
        bench.open()
    assert bench.kernel.is_clean
    bench.kernel.is_held = False
    bench.cameras[0].open()


@pytest.mark.parametrize("request_", [k.VIDIOC_QUERYCAP, k.VIDIOC_ENUM_FMT, k.VIDIOC_S_FMT, k.VIDIOC_REQBUFS, k.VIDIOC_STREAMON])
def test_whatever_fails_on_opening_lets_go_of_everything(bench: Bench, request_: int) -> None:
    bench.kernel.errors[request_] = errno.EPROTO
    with pytest.raises(CameraError, match=f"{k.NAMES[request_]} failed.*EPROTO"):
        bench.open()
    assert bench.kernel.is_clean


def test_no_permission_names_the_group(bench: Bench) -> None:
    bench.kernel.errors[k.VIDIOC_QUERYCAP] = errno.EACCES
    with pytest.raises(CameraError, match="group video"):
        bench.open()


@pytest.mark.parametrize("trigger", ["free_run", "software"])
def test_silence_is_a_failure(bench: Bench, trigger: str) -> None:
    camera = bench.open(silence_s=2, trigger=trigger)
    for _ in range(19):
        assert camera.wait(0.1) is None
    with pytest.raises(CameraError, match=r"delivers nothing for 2\.1 s"):
        camera.wait(0.2)


def test_slow_is_not_silent_and_silence_can_be_allowed(bench: Bench) -> None:
    camera = bench.open(silence_s=2)
    bench.kernel.shoot(1, 2, 3, every_ms=1900)
    assert [bench.gray(camera.wait(1.9)) for _ in range(3)] == [1, 2, 3]
    camera.close()
    patient = bench.open(silence_s=0)
    assert patient.wait(3600) is None


def test_close_gives_everything_back_in_the_order_the_kernel_wants(bench: Bench) -> None:
    camera = bench.open()
    bench.kernel.shoot(1)
    camera.wait(1)
    bench.kernel.log.clear()
    camera.close()
    camera.close()
    assert bench.kernel.log == ["VIDIOC_STREAMOFF", "VIDIOC_REQBUFS"]
    assert bench.kernel.is_clean
    with pytest.raises(CameraError, match="not open"):
        camera.wait(0)


def test_a_slot_lent_before_close_is_not_written_after(bench: Bench) -> None:
    camera = bench.open(slots=2)
    camera.close()
    camera.open()
    bench.kernel.shoot(1)
    assert kinds(arrivals(camera)) == ["overrun"]
    assert all((memory == 99).all() for memory in bench.memory.values())


# --- software trigger ---------------------------------------------------------------------------------------------------
def test_a_trigger_gets_the_first_picture_begun_after_it(bench: Bench) -> None:
    bench.kernel.rates = (50.0,)
    camera = bench.open(trigger="software", rate_hz=50)
    bench.kernel.shoot(1, every_ms=30)
    bench.kernel.at(10, lambda: camera.trigger("A"))
    bench.kernel.shoot(2, 3, every_ms=20)  # stamped 10 and 30 ms after the trigger, begun up to 20 ms before that
    due, picture = arrivals(camera)
    assert due == Due("A")
    assert bench.gray(picture) == 3
    assert isinstance(picture, Picture)
    assert picture.trigger_ns == (1000 + 40) * MS
    assert camera.counters() == {"pictures": 1, "unasked": 2}


def test_of_two_triggers_before_a_frame_the_later_is_lost_and_no_inner_word_is_shown(bench: Bench) -> None:
    camera = bench.open(trigger="software")
    for word in ("\0001", "\0002"):
        camera.trigger(word)
    bench.kernel.shoot(1, every_ms=40)
    _, _, due, lost = arrivals(camera)
    assert due == Due("\0002")
    assert isinstance(lost, Lost)
    assert lost.why == "a trigger before it has the only picture taken after both; trigger slower"


def test_a_frame_begun_before_the_trigger_is_not_its_picture_though_it_comes_after(bench: Bench) -> None:
    camera = bench.open(trigger="software")
    camera.trigger("A")
    bench.kernel.shoot(1, every_ms=20, stamp_ns=bench.kernel.now_ns - MS)
    bench.kernel.shoot(2, 3, every_ms=20)  # 2 was exposed from 1 on, for all that is known
    assert [bench.gray(arrival) for arrival in arrivals(camera)[1:]] == [3]


@pytest.mark.parametrize(("flags", "seen"), [(SOE_MONOTONIC, 3), (k.BUF_FLAG_TIMESTAMP_MONOTONIC, 5)])
def test_a_stamp_comes_after_the_exposure_and_at_the_end_after_the_data_too(bench: Bench, flags: int, seen: int) -> None:
    camera = bench.open(trigger="software", rate_hz=30)
    camera.trigger("A")
    bench.kernel.shoot(1, 2, 3, 4, 5, every_ms=16, flags=flags)  # periods of 33 ms: 3 is stamped 48 ms after the trigger, 5 80
    assert [bench.gray(arrival) for arrival in arrivals(camera)[1:]] == [seen]


def test_a_camera_slower_than_its_rate_exposes_for_longer_too(bench: Bench) -> None:
    camera = bench.open(trigger="software", rate_hz=30)
    bench.kernel.shoot(1, every_ms=50)
    bench.kernel.at(10, lambda: camera.trigger("A"))
    bench.kernel.shoot(2, every_ms=40)  # exposed for up to 50 ms, in dim light
    bench.kernel.shoot(3, every_ms=50)
    assert [bench.gray(arrival) for arrival in arrivals(camera)[1:]] == [3]


def test_two_triggers_before_one_picture_are_one_picture_and_one_loss(bench: Bench) -> None:
    camera = bench.open(trigger="software")
    camera.trigger("A")
    camera.trigger("B")
    bench.kernel.shoot(1, 2, every_ms=40)
    found = arrivals(camera)
    assert kinds(found) == ["Due", "Picture", "Due", "no_frame"]
    assert [arrival.part_id for arrival in found if isinstance(arrival, Due)] == ["A", "B"]
    assert bench.gray(found[1]) == 1


@pytest.mark.parametrize(("changes", "slots", "kind"), [({"bytesused": 3}, 1, "bad_frame"), ({}, 0, "overrun")])
def test_a_trigger_without_a_usable_picture_is_told_once(bench: Bench, changes: dict[str, int], slots: int, kind: str) -> None:
    camera = bench.open(slots=slots, trigger="software")
    camera.trigger("A")
    bench.kernel.shoot(1, every_ms=40, **changes)
    bench.kernel.shoot(2, sequence=9)  # nobody asked for it, nor for the gap before it
    assert kinds(arrivals(camera)) == ["Due", kind]
    assert camera.counters()["missing"] == 8


def test_when_the_camera_fails_every_trigger_is_answered_first(bench: Bench) -> None:
    camera = bench.open(trigger="software")
    camera.trigger("A")
    camera.trigger("B")
    bench.kernel.at(10, bench.kernel.unplug)
    answers = [camera.wait(1) for _ in range(4)]
    assert kinds([answer for answer in answers if answer]) == ["Due", "no_frame", "Due", "no_frame"]
    with pytest.raises(CameraError, match="gone"):
        camera.wait(1)
    with pytest.raises(CameraError, match="takes no trigger: it ended"):
        camera.trigger("C")


def test_triggers_are_refused_in_free_run_when_too_many_and_when_closed(bench: Bench) -> None:
    with pytest.raises(CameraError, match="trigger: software"):
        bench.open().trigger("A")
    bench.cameras[0].close()
    camera = bench.open(trigger="software")
    for n in range(MOST_PENDING):
        camera.trigger(str(n))
    with pytest.raises(CameraError, match="256"):
        camera.trigger("one more")
    camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.trigger("A")
    camera.open()
    bench.kernel.shoot(1)
    assert arrivals(camera) == []  # what waited before the close is forgotten
