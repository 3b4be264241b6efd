"""The folder camera shows recorded images in order, each under its own name; a damaged one costs one part, not the line."""

from __future__ import annotations

import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from stations import an_ordinary_user, open_folder

from edge_agent.camera import folder as folder_camera
from edge_agent.camera import open_camera
from edge_agent.camera.base import Due, Lost, Picture
from edge_agent.camera.folder import FolderCamera, list_images
from edge_agent.camera.pace import Pace
from edge_agent.camera.video import open_video
from edge_agent.camera_settings import FolderCamera as FolderSettings
from edge_agent.camera_settings import VideoCamera as VideoSettings
from edge_agent.errors import CameraError, ConfigurationError, EndOfImages, Reason

SIZES = {"a.png": (20, 30), "b.png": (40, 10), "c.bmp": (8, 8)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level, (name, size) in enumerate(SIZES.items(), start=1):
        assert cv2.imwrite(str(tmp_path / name), np.full(size, level * 10, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def camera(folder: Path, **changes: object) -> FolderCamera:
    settings = FolderSettings(name="cam", path=str(folder), **changes)  # type: ignore[arg-type]
    opened = open_camera(settings, folder.parent)
    assert isinstance(opened, FolderCamera)
    opened.open()
    return opened


def due(camera: FolderCamera) -> str:
    arrival = camera.wait(1)
    assert isinstance(arrival, Due)
    return arrival.part_id


def lost(camera: FolderCamera) -> Lost:
    camera.lend(0, np.zeros(camera.max_pixels, np.uint8))
    arrival = camera.wait(0)
    assert isinstance(arrival, Lost)
    assert arrival.reason is Reason.BAD_FRAME
    camera.close()
    camera.open()
    return arrival


def shown(camera: FolderCamera) -> tuple[str, int, tuple[int, int], str, int]:
    """Take one part: its id, and what is in the slot."""
    part_id = due(camera)
    memory = np.zeros(camera.max_pixels, np.uint8)
    camera.lend(5, memory)
    picture = camera.wait(0)
    assert isinstance(picture, Picture)
    assert picture.slot == 5
    exposure = picture.exposure
    pixels = memory[: exposure.rows * exposure.cols]
    assert int(pixels.min()) == int(pixels.max())
    return part_id, exposure.frame_id, (exposure.rows, exposure.cols), exposure.name, int(pixels[0])


def test_images_come_by_name_each_at_its_own_size_then_no_more(folder: Path) -> None:
    recorded = camera(folder)
    assert recorded.max_pixels == 600
    assert [shown(recorded) for _ in range(3)] == [
        ("a.png", 0, (20, 30), "a.png", 10),
        ("b.png", 1, (40, 10), "b.png", 20),
        ("c.bmp", 2, (8, 8), "c.bmp", 30),
    ]
    with pytest.raises(EndOfImages, match="all 3 images"):
        recorded.wait(0)


def test_with_repeat_they_begin_again(folder: Path) -> None:
    recorded = camera(folder, repeat=True)
    assert [shown(recorded)[3] for _ in range(7)] == ["a.png", "b.png", "c.bmp", "a.png", "b.png", "c.bmp", "a.png"]


@pytest.mark.parametrize("preload", [1, 2, 3, 9])
def test_preloaded_images_come_under_their_own_names(folder: Path, preload: int) -> None:
    """With fewer images read than there are, a part must not be shown another part's picture."""
    recorded = camera(folder, preload=preload)
    seen = [shown(recorded) for _ in range(min(preload, 3))]
    assert [(name, level) for _, _, _, name, level in seen] == [("a.png", 10), ("b.png", 20), ("c.bmp", 30)][:preload]
    assert [part_id for part_id, *_ in seen] == [name for *_, name, _ in seen]
    with pytest.raises(EndOfImages):
        recorded.wait(0)


def test_colour_becomes_gray(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))
    assert shown(camera(tmp_path))[4] == 29  # 0.114 of blue


@pytest.mark.parametrize("preload", [0, 5])
def test_a_damaged_image_is_one_bad_frame_and_the_next_is_well(folder: Path, preload: int) -> None:
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:30])
    recorded = camera(folder, preload=preload)
    shown(recorded)
    assert due(recorded) == "b.png"
    assert "b.png" in lost(recorded).why
    assert shown(recorded)[3] == "c.bmp"


def test_a_file_without_a_byte_is_said_to_be_empty(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"")
    recorded = camera(folder)
    due(recorded)
    assert lost(recorded).why.endswith("a.png is empty")


def test_a_header_that_promises_more_than_memory_is_a_bad_frame(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    recorded = camera(folder)
    shown(recorded)
    due(recorded)
    assert "b.png" in lost(recorded).why


def test_memory_is_as_large_as_the_largest_image_that_can_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cv2.imencode(".png", np.zeros((90, 90), np.uint8))[1].tobytes()
    (folder / "d.png").write_bytes(whole[:60])  # its header is there, its pixels are not
    (folder / "e.png").write_bytes(b"none")
    read: list[str] = []
    read_gray = folder_camera.read_gray
    monkeypatch.setattr(folder_camera, "read_gray", lambda file: (read.append(file.name), read_gray(file))[1])
    assert camera(folder).max_pixels == 20 * 30
    assert sorted(read) == ["a.png", "d.png", "e.png"], "of the others the headers are enough"


@pytest.mark.parametrize("ending", ["tif", "webp", "png", "jpg", "bmp", "pgm"])
def test_an_image_that_ends_within_its_header_is_a_bad_frame(folder: Path, ending: str) -> None:
    whole = cv2.imencode(f".{ending}", np.zeros((90, 90), np.uint8))[1].tobytes()
    (folder / f"0.{ending}").write_bytes(whole[:20])
    recorded = camera(folder)
    due(recorded)
    assert f"0.{ending}" in lost(recorded).why


def test_an_image_that_grew_since_the_start_is_a_bad_frame(folder: Path) -> None:
    recorded = camera(folder)
    cv2.imwrite(str(folder / "a.png"), np.zeros((100, 100), np.uint8))
    due(recorded)
    assert "10000 pixels" in lost(recorded).why


def test_a_file_name_that_is_no_utf8_does_not_stop_the_camera(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((4, 4), np.uint8))
    name = os.fsdecode(b"\xff.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    assert due(camera(tmp_path)) == name


def test_a_folder_without_images_will_never_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no image"):
        camera(tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        camera(tmp_path / "none")
    (tmp_path / "a.png").touch()
    with pytest.raises(ConfigurationError, match=r"a\.png is a file"):
        camera(tmp_path / "a.png")


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A folder with one image, for the test to close."""
    made = open_folder()
    (made / "images").mkdir(mode=0o755)
    cv2.imwrite(str(made / "images" / "a.png"), np.zeros((4, 4), np.uint8))
    yield made / "images"
    (made / "images").chmod(0o755)
    shutil.rmtree(made)


@pytest.mark.parametrize("closed", [".", "..", "a.png"])
def test_a_folder_that_may_not_be_read_will_never_work(unreadable: Path, closed: str) -> None:
    """Itself, the one above it, or every image in it."""
    (unreadable / closed).chmod(0)
    try:
        with an_ordinary_user(), pytest.raises(ConfigurationError, match=f"{unreadable}.*Permission denied") as raised:
            camera(unreadable)
    finally:
        unreadable.parent.chmod(0o755)
    (problem,) = raised.value.problems
    assert "chmod a+r" in problem.remedy and "/var/lib/edge-agent" in problem.remedy


def test_neither_will_a_video_file_that_may_not_be_read(unreadable: Path) -> None:
    (unreadable / "a.png").chmod(0)
    with an_ordinary_user(), pytest.raises(ConfigurationError, match=r"a\.png cannot be read: Permission denied") as raised:
        open_video(VideoSettings(name="film", url=str(unreadable / "a.png")))
    assert "chmod a+r" in raised.value.problems[0].remedy


def test_what_is_no_video_file_is_said_with_the_kind_that_it_is(tmp_path: Path) -> None:
    for file, words in (Path("/dev/null"), "is a device.*kind v4l2"), (tmp_path, "is a folder.*kind folder"):
        with pytest.raises(ConfigurationError, match=words):
            open_video(VideoSettings(name="film", url=str(file)))


def test_of_several_images_one_that_may_not_be_read_is_a_bad_frame(unreadable: Path) -> None:
    cv2.imwrite(str(unreadable / "b.png"), np.zeros((4, 4), np.uint8))
    (unreadable / "a.png").chmod(0)
    with an_ordinary_user():
        recorded = camera(unreadable)
        due(recorded)
        assert "a.png cannot be read: Permission denied" in lost(recorded).why
        assert shown(recorded)[3] == "b.png"


def test_a_folder_in_the_folder_is_no_image(folder: Path) -> None:
    (folder / "a0.png").mkdir()
    assert [file.name for file in list_images(folder)] == sorted(SIZES)


def test_a_software_trigger_makes_one_part_due_under_its_id(folder: Path) -> None:
    recorded = camera(folder, trigger="software")
    assert recorded.is_live
    assert recorded.wait(0.001) is None
    recorded.trigger("A-1")
    recorded.trigger("")
    assert shown(recorded)[0] == "A-1"
    assert shown(recorded)[0] == "b.png"
    assert recorded.wait(0.001) is None


def test_triggers_that_waited_at_the_close_are_forgotten(folder: Path) -> None:
    recorded = camera(folder, trigger="software")
    recorded.trigger("A-1")
    recorded.close()
    recorded.open()
    assert recorded.wait(0.001) is None


def test_a_camera_that_runs_free_refuses_a_trigger(folder: Path) -> None:
    with pytest.raises(CameraError, match="software"):
        camera(folder).trigger("x")


def test_triggers_beyond_what_can_wait_are_refused() -> None:
    pace = Pace("cam", 0, "software")
    with pytest.raises(CameraError, match="256"):
        for n in range(300):
            pace.trigger(str(n))
    assert pace.wait(0) == "0"


def test_flat_out_waits_for_nobody_and_for_a_free_slot() -> None:
    pace = Pace("cam", 0, "free_run")
    assert not pace.is_live
    assert [pace.wait(10) for _ in range(100)] == [""] * 100


def test_a_rate_is_kept_on_average() -> None:
    pace = Pace("cam", 200, "free_run")
    assert pace.is_live
    start = time.monotonic()
    assert [pace.wait(1) for _ in range(21)] == [""] * 21
    assert 0.0999 <= time.monotonic() - start < 1


def test_a_part_that_is_not_due_in_time_is_none() -> None:
    pace = Pace("cam", 0.01, "free_run")
    assert pace.wait(0.001) == ""
    assert pace.wait(0.001) is None


def test_a_file_that_grew_beyond_the_slots_says_what_to_do(folder: Path) -> None:
    grown = camera(folder)
    assert cv2.imwrite(str(folder / "a.png"), np.zeros((50, 40), np.uint8))
    assert due(grown) == "a.png"
    why = lost(grown).why
    assert "a.png has 2000 pixels, the largest image of the folder had 600 at the start. Start the station again" in why


def test_a_part_without_a_free_slot_is_an_overrun(folder: Path) -> None:
    recorded = camera(folder, rate_hz=1000)
    due(recorded)
    assert recorded.wait(0) == Lost(Reason.OVERRUN)
    assert shown(recorded)[3] == "b.png"
    assert recorded.counters() == {"pictures": 1, "unreadable": 0, "overruns": 1}
