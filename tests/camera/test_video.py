"""Video files to their end, and a real MJPEG stream over HTTP that pauses, ends and comes back: nothing old is ever judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from mjpeg_server import LEVELS, STEP, MjpegServer

from edge_agent.camera.base import Arrival, Camera, Due, Lost, Picture
from edge_agent.camera.delivery import BadFrame
from edge_agent.camera.video import FileCamera, StreamCamera, open_video, without_secrets, write_frame
from edge_agent.camera.video_stream import HELD, JOIN_MARGIN_S
from edge_agent.camera_settings import VideoCamera as VideoSettings
from edge_agent.errors import CameraError, ConfigurationError, EndOfImages, Reason

FRAMES = 10


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """An AVI of ten frames, of gray level 0, 20, 40, ..."""
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for n in range(FRAMES):
        writer.write(np.full((48, 64, 3), n * 20, np.uint8))
    writer.release()
    return file


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for camera in bench.cameras:
        camera.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream-")]


class Bench:
    """Opens cameras and lends them slots."""

    def __init__(self) -> None:
        self.cameras: list[FileCamera | StreamCamera] = []
        self.memory: dict[int, np.ndarray] = {}

    def open(self, url: str | Path, slots: int = 30, **changes: object) -> FileCamera | StreamCamera:
        camera = open_video(VideoSettings(name="cam", url=str(url), **changes))  # type: ignore[arg-type]
        self.cameras.append(camera)
        camera.open()
        for slot in range(slots):
            self.lend(camera, slot)
        return camera

    def lend(self, camera: FileCamera | StreamCamera, slot: int) -> None:
        self.memory[slot] = np.zeros(camera.max_pixels, np.uint8)
        camera.lend(slot, self.memory[slot])

    def gray(self, arrival: Arrival | None) -> int:
        assert isinstance(arrival, Picture), arrival
        return round(float(self.memory[arrival.slot][: arrival.exposure.rows * arrival.exposure.cols].mean()))

    def number(self, arrival: Arrival | None) -> int:
        """Which frame of the server's is in the picture, modulo LEVELS."""
        return round(self.gray(arrival) / STEP)


def failure(camera: FileCamera | StreamCamera, within_s: float) -> tuple[str, float]:
    """Wait until the camera says that it must be opened anew; return what it says, and after how long."""
    started = time.monotonic()
    while time.monotonic() < started + within_s:
        try:
            camera.wait(0.05)
        except CameraError as error:
            return str(error), time.monotonic() - started
    raise AssertionError(f"no failure within {within_s} s")


def fresh(camera: FileCamera | StreamCamera, server: MjpegServer, bench: Bench) -> bool:
    """Whether the next picture is of the last fifth of a second; the machine may be busy."""
    arrival = camera.wait(1)
    while not isinstance(arrival, Picture):
        arrival = camera.wait(1)
    return (server.sent - bench.number(arrival)) % LEVELS <= 10


# --- files --------------------------------------------------------------------------------------------------------------
def test_a_file_comes_frame_by_frame_under_names_of_its_own_and_ends(bench: Bench, clip: Path) -> None:
    camera: Camera = bench.open(clip)
    assert not camera.is_live
    assert camera.max_pixels == 64 * 48
    for n in range(FRAMES):
        assert camera.wait(1) == Due(f"clip_{n:06d}")
        picture = camera.wait(1)
        assert abs(bench.gray(picture) - n * 20) <= 1
        assert isinstance(picture, Picture)
        assert picture.exposure.frame_id == n
    for _ in range(2):
        with pytest.raises(EndOfImages, match="all 10 frames"):
            camera.wait(1)
    assert camera.counters() == {"pictures": FRAMES}


def test_colour_becomes_gray(bench: Bench, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "blue.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    writer.write(np.full((48, 64, 3), (255, 0, 0), np.uint8))
    writer.release()
    camera = bench.open(tmp_path / "blue.avi")
    camera.wait(1)
    assert abs(bench.gray(camera.wait(1)) - 29) <= 2  # 0.114 of blue


def test_a_file_waits_for_a_slot_and_loses_nothing(bench: Bench, clip: Path) -> None:
    camera = bench.open(clip, slots=1)
    camera.wait(1)
    camera.wait(1)
    assert camera.wait(0.01) is None
    bench.lend(camera, 1)
    assert camera.wait(1) == Due("clip_000001")
    assert abs(bench.gray(camera.wait(1)) - 20) <= 1


def test_a_file_at_a_rate_is_live_and_does_not_wait_for_slots(bench: Bench, clip: Path) -> None:
    camera = bench.open(clip, slots=2, rate_hz=50)
    assert camera.is_live
    started = time.monotonic()
    found: list[Arrival] = []
    with pytest.raises(EndOfImages):
        while True:
            arrival = camera.wait(0.005)  # shorter than the period
            found += [arrival] if arrival else []
    assert time.monotonic() - started >= 9 / 50
    assert [type(arrival) for arrival in found] == [Due, Picture] * 2 + [Due, Lost] * 8
    assert all(arrival.reason is Reason.OVERRUN for arrival in found if isinstance(arrival, Lost))


def test_a_triggered_file_shows_a_frame_per_trigger_and_answers_those_beyond_its_end(bench: Bench, clip: Path) -> None:
    camera = bench.open(clip, trigger="software")
    assert camera.is_live
    assert camera.wait(0.01) is None
    for n in range(FRAMES + 2):
        camera.trigger(f"part-{n}")
    for n in range(FRAMES):
        assert camera.wait(1) == Due(f"part-{n}")
        assert abs(bench.gray(camera.wait(1)) - n * 20) <= 1
    for n in range(FRAMES, FRAMES + 2):
        assert camera.wait(1) == Due(f"part-{n}")
        lost = camera.wait(1)
        assert isinstance(lost, Lost)
        assert lost.reason is Reason.NO_FRAME
    with pytest.raises(EndOfImages):
        camera.wait(1)
    with pytest.raises(CameraError, match="takes no trigger"):
        camera.trigger("late")


def test_a_trigger_wakes_who_waits(bench: Bench, clip: Path) -> None:
    camera = bench.open(clip, trigger="software")
    timer = threading.Timer(0.05, camera.trigger, ("A",))
    timer.start()
    started = time.monotonic()
    assert camera.wait(3) == Due("A")
    assert time.monotonic() - started < 2
    timer.join()


def test_opened_again_a_file_begins_anew(bench: Bench, clip: Path) -> None:
    camera = bench.open(clip)
    camera.wait(1)
    camera.wait(1)
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.wait(0)
    camera.open()
    bench.lend(camera, 0)
    assert camera.wait(1) == Due("clip_000000")


def test_a_file_cut_short_ends_where_it_ends(bench: Bench, clip: Path) -> None:
    whole = clip.read_bytes()
    clip.write_bytes(whole[: int(len(whole) * 0.85)])  # the index is gone too
    camera = bench.open(clip)
    pictures = 0
    with pytest.raises(EndOfImages, match=r"all [1-9] frames"):
        while True:
            pictures += isinstance(camera.wait(1), Picture)
    assert 0 < pictures < FRAMES


def test_what_is_no_video_is_said(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        bench.open(tmp_path / "none.avi")
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(CameraError, match="not a readable video"):
        bench.open(tmp_path / "text.avi")


def test_a_path_is_relative_to_the_settings_file(clip: Path) -> None:
    for url in "clip.avi", f"file://{clip}":
        camera = open_video(VideoSettings(name="cam", url=url), clip.parent)
        camera.open()
        camera.close()


# --- settings -----------------------------------------------------------------------------------------------------------
def test_a_rate_for_a_stream_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="for files"):
        msgspec.convert({"kind": "video", "name": "cam", "url": "rtsp://camera/1", "rate_hz": 5}, VideoSettings)


def test_messages_show_no_secrets(bench: Bench, server: MjpegServer) -> None:
    assert without_secrets("rtsp://user:pass@camera:554/live?token=abc") == "rtsp://camera:554/live"
    server.is_refusing = True
    with pytest.raises(CameraError) as told:
        bench.open(server.url.replace("http://", "http://user:secret@") + "?token=secret")
    assert "secret" not in str(told.value)
    assert "token=secret" in server.asked[0]


# --- streams ------------------------------------------------------------------------------------------------------------
def test_frames_of_a_stream_come_one_after_the_other_as_they_arrive(bench: Bench, server: MjpegServer) -> None:
    server.period_s = 0.1
    camera = bench.open(server.url)
    assert camera.is_live
    found = [camera.wait(1) for _ in range(8)]
    numbers = [bench.number(arrival) for arrival in found]
    assert numbers == [(numbers[0] + n) % LEVELS for n in range(8)]
    assert (server.sent - numbers[-1]) % LEVELS <= 2
    stamps = [arrival.trigger_ns for arrival in found if isinstance(arrival, Picture)]
    assert stamps == sorted(stamps)
    assert 0 <= time.monotonic_ns() - stamps[-1] < 1e9


def test_after_a_pause_of_ours_the_newest_frames_come_and_the_others_are_counted(bench: Bench, server: MjpegServer) -> None:
    """OpenCV alone would hand over the frame that is 40 old."""
    camera = bench.open(server.url)
    first = bench.number(camera.wait(1))
    time.sleep(0.8)
    lost, *pictures = [camera.wait(1) for _ in range(1 + HELD)]
    assert isinstance(lost, Lost)
    assert lost.reason is Reason.OVERRUN
    numbers = [bench.number(picture) for picture in pictures]
    assert numbers[0] == (first + lost.count + 1) % LEVELS  # none is missing
    assert lost.count >= 20
    assert (server.sent - numbers[-1]) % LEVELS <= 10


def test_a_stale_frame_is_never_handed_over(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url, stale_ms=150)
    time.sleep(0.15)  # frames to be held
    server.is_paused = True
    time.sleep(1.2)
    server.is_paused = False
    stale = []
    for _ in range(8):
        arrival = camera.wait(1)
        assert not isinstance(arrival, Picture) or time.monotonic_ns() - arrival.trigger_ns < 1e9
        stale += [arrival] if isinstance(arrival, Lost) and arrival.reason is Reason.BAD_FRAME else []
    assert 0 < len(stale) <= HELD
    assert "stale_ms allows 150" in stale[0].why
    assert camera.counters()["stale"] == len(stale)
    assert fresh(camera, server, bench)


def test_silence_is_a_failure_that_only_opening_anew_cures(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url, silence_s=0.5)
    camera.wait(1)
    server.is_paused = True
    why, after_s = failure(camera, 3)
    assert "silence_s allows 0.5" in why
    assert 0.3 < after_s < 1.5
    server.is_paused = False
    with pytest.raises(CameraError):
        camera.wait(0.2)
    camera.open()
    assert fresh(camera, server, bench)  # into the slots it still has


def test_a_stream_that_ends_is_a_failure_and_comes_back(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url)
    camera.wait(1)
    server.is_refusing = True
    server.cut()
    why, after_s = failure(camera, 3)
    assert "ended" in why
    assert after_s < 1.5  # sooner than silence would tell
    with pytest.raises(CameraError, match="cannot be opened"):
        camera.open()
    server.is_refusing = False
    camera.open()
    assert fresh(camera, server, bench)


def test_a_server_that_says_nothing_does_not_hold_the_camera(bench: Bench, server: MjpegServer) -> None:
    server.is_mute = True
    started = time.monotonic()
    with pytest.raises(CameraError, match=r"cannot be opened within 0\.5 s"):
        bench.open(server.url, silence_s=0.5)
    assert time.monotonic() - started < 2.5


def test_nobody_listens(bench: Bench, server: MjpegServer) -> None:
    server.close()
    with pytest.raises(CameraError, match="address"):
        bench.open(server.url)


def test_close_ends_the_reader_at_once_while_frames_come(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url)
    assert isinstance(camera, StreamCamera)
    assert camera._reader is not None
    thread = camera._reader.thread
    started = time.monotonic()
    camera.close()
    assert time.monotonic() - started < 1
    assert not thread.is_alive()


def test_close_ends_the_reader_in_time_though_nothing_comes(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url, silence_s=0.8)
    assert isinstance(camera, StreamCamera)
    camera.wait(1)
    server.is_paused = True
    time.sleep(0.1)
    assert camera._reader is not None
    thread = camera._reader.thread
    started = time.monotonic()
    camera.close()
    assert time.monotonic() - started < 0.8 + JOIN_MARGIN_S
    assert not thread.is_alive()
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.wait(0)


def test_a_frame_of_another_size_or_none_is_a_bad_frame() -> None:
    """At the lowest call: of all but MJPEG streams OpenCV's FFMPEG backend scales such a frame to the first one's size."""
    slot = np.zeros(48 * 64, np.uint8)
    with pytest.raises(BadFrame, match="frame 5 is 128 x 96, the first one was 64 x 48"):
        write_frame((48, 64), np.zeros((96, 128, 3), np.uint8), 5, "", slot)
    with pytest.raises(BadFrame, match="cannot be decoded"):
        write_frame((48, 64), None, 5, "", slot)
    with pytest.raises(BadFrame, match="its slot takes 3071"):
        write_frame((48, 64), np.zeros((48, 64), np.uint8), 5, "", slot[1:])
    write_frame((48, 64), np.full((48, 64), 7, np.uint8), 5, "", slot)
    assert (slot == 7).all()


def test_without_a_slot_a_streamed_part_is_an_overrun(bench: Bench, server: MjpegServer) -> None:
    server.period_s = 0.1
    camera = bench.open(server.url, slots=1)
    found = [camera.wait(1) for _ in range(4)]
    assert isinstance(found[0], Picture)
    assert [arrival.reason for arrival in found[1:] if isinstance(arrival, Lost)] == [Reason.OVERRUN] * 3
    bench.lend(camera, 7)
    assert fresh(camera, server, bench)


def test_a_trigger_gets_the_first_frame_that_arrives_after_it(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url, trigger="software")
    assert camera.wait(0.2) is None
    for part in "ABC":
        before_ns, sent = time.monotonic_ns(), server.sent
        camera.trigger(part)
        assert camera.wait(1) == Due(part)
        picture = camera.wait(0)
        assert isinstance(picture, Picture)
        assert (bench.number(picture) - sent) % LEVELS <= 10
        assert before_ns <= picture.trigger_ns <= time.monotonic_ns()
        time.sleep(0.1)
        assert camera.wait(0) is None
    assert camera.counters()["pictures"] == 3


def test_triggers_that_wait_when_the_stream_ends_are_answered_first(bench: Bench, server: MjpegServer) -> None:
    camera = bench.open(server.url, trigger="software", silence_s=0.5)
    server.is_paused = True
    time.sleep(0.1)
    camera.wait(0)
    camera.trigger("A")
    assert camera.wait(2) == Due("A")
    lost = camera.wait(0)
    assert isinstance(lost, Lost)
    assert lost.reason is Reason.NO_FRAME
    with pytest.raises(CameraError, match="silence_s"):
        camera.wait(0)
