"""Pictures of an MJPEG stream that break off, or have another size: no decoder's guess is judged."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from mjpeg_server import MjpegServer, jpeg

from edge_agent.camera.base import Lost, Picture
from edge_agent.camera.jpeg import luma_of
from edge_agent.camera.video import StreamCamera
from edge_agent.camera_settings import VideoCamera as VideoSettings
from edge_agent.errors import CameraError, Reason

SILENCE_S = 1.0


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer(20)
    yield server
    server.close()


@pytest.fixture
def camera(server: MjpegServer) -> Iterator[StreamCamera]:
    camera = StreamCamera(VideoSettings(name="cam", url=server.url, silence_s=SILENCE_S))
    yield camera
    camera.close()


def textured(size: tuple[int, int] = (48, 64)) -> bytes:
    """A JPEG most of whose bytes are its picture."""
    noise = np.random.default_rng(7).integers(0, 256, size, np.uint8)
    return bytes(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def lost(camera: StreamCamera, server: MjpegServer, frame: bytes) -> str:
    """Have the server send this frame alone; return why each of three pictures was lost, after those that were on their way."""
    server.frames = [frame]
    until = time.monotonic() + 5
    found: list[str] = []
    while len(found) < 3 and time.monotonic() < until:
        arrival = camera.wait(0.5)
        if isinstance(arrival, Lost) and arrival.reason == Reason.BAD_FRAME:
            found.append(arrival.why)
        elif isinstance(arrival, Picture):
            camera.lend(arrival.slot, np.zeros(camera.max_pixels, np.uint8))
            found.clear()
    assert len(found) == 3, found
    return found[-1]


def test_a_picture_that_breaks_off_or_is_of_another_size_is_none(camera: StreamCamera, server: MjpegServer) -> None:
    camera.open()
    for slot in range(30):
        camera.lend(slot, np.zeros(camera.max_pixels, np.uint8))
    whole = textured()
    assert "no beginning or no end" in lost(camera, server, whole[: len(whole) * 2 // 3])
    assert "is 128 x 96, the first one was 64 x 48" in lost(camera, server, jpeg(9, (96, 128)))
    server.frames = [whole]
    until = time.monotonic() + 5
    while not isinstance(camera.wait(0.5), Picture):
        assert time.monotonic() < until, "no whole picture came any more"


def test_a_stream_of_what_cannot_be_decoded_is_told_in_time(camera: StreamCamera, server: MjpegServer) -> None:
    camera.open()
    camera.close()
    whole = textured()
    server.frames = [whole[: len(whole) * 2 // 3]]
    started = time.monotonic()
    with pytest.raises(CameraError, match=r"sends frames, and for 1 s none that can be decoded: the JPEG of \d+ bytes has no"):
        camera.open()
    assert time.monotonic() - started < 4 * SILENCE_S


@pytest.mark.parametrize("ending", [b"", bytes(100), b"\r\n"])
def test_what_cameras_and_servers_put_after_the_end_is_no_damage(ending: bytes) -> None:
    assert luma_of(np.frombuffer(textured() + ending, np.uint8)).shape == (48, 64)
