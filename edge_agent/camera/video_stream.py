"""Reads a network stream in a thread of its own, without a pause, so that nothing old waits in OpenCV's buffers.

OpenCV's capture never recovers from a silence although it says that it is opened (measured with 5.0.0): whoever reads
closes this and makes another. The capture is opened, used and released by the one thread. Of a picture that breaks off, as where
the connection is cut within it, OpenCV's FFMPEG backend makes up the rest, and one of another size it scales to the first one's,
both without a word: MJPEG is taken as it comes, and decoded here.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Any

import cv2
import msgspec

from edge_agent.camera.delivery import BadFrame
from edge_agent.camera.jpeg import luma_of
from edge_agent.errors import CameraError

# RTSP's pictures over TCP alone: over UDP the decoder makes up what is lost, and OpenCV hands that over as any other frame
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
_MJPEG = cv2.VideoWriter.fourcc(*"MJPG")
_AS_IT_COMES = -1  # of CAP_PROP_FORMAT: the compressed frame
HELD = 4  # frames kept for a reader who is late; older ones give way
JOIN_MARGIN_S = 1.0


class StreamFrame(msgspec.Struct, frozen=True):
    """One frame, (rows, cols[, 3]), None where it could not be decoded, and why; its number and time of arrival."""

    number: int
    arrived_ns: int
    image: Any
    why: str = ""


class StreamReader:
    """Starts reading at once. `close` ends the thread within `silence_s` + `JOIN_MARGIN_S`: so long may a read block."""

    def __init__(self, url: str, shown: str, silence_s: float) -> None:
        self._url = url
        self._shown = shown
        self._silence_s = silence_s
        self._frames: deque[StreamFrame] = deque(maxlen=HELD)
        self._failure = ""
        self._heard_ns = time.monotonic_ns()
        self._stopping = threading.Event()
        self._arrived = threading.Condition()
        self.thread = threading.Thread(target=self._read, name=f"stream-{shown}", daemon=True)
        self.thread.start()

    def take(self, timeout_s: float) -> StreamFrame | None:
        """Take the oldest frame held, waiting for one. Raises CameraError where the stream is silent, ended or never began."""
        with self._arrived:
            if not self._frames and not self._failure:
                self._arrived.wait(timeout_s)
            if self._frames:
                return self._frames.popleft()
        if self._failure:
            raise CameraError(f"stream {self._shown} {self._failure}")
        silence_s = (time.monotonic_ns() - self._heard_ns) / 1e9
        if silence_s > 2 * self._silence_s + JOIN_MARGIN_S:  # opening and the first read have each their time
            raise CameraError(f"stream {self._shown} delivers nothing for {silence_s:.1f} s and does not come back from reading")
        return None

    def close(self) -> None:
        """End the thread; where a read hangs for longer than it may, leave it: it lets go of the stream when it comes back."""
        self._stopping.set()
        self.thread.join(self._silence_s + JOIN_MARGIN_S)

    def _read(self) -> None:
        capture = cv2.VideoCapture()
        why = "failed"
        try:
            why = self._read_until_stopped(capture)
        except cv2.error as error:
            why = f"failed in OpenCV: {error}"
        finally:
            with self._arrived:
                self._failure = why
                self._arrived.notify_all()
            capture.release()

    def _read_until_stopped(self, capture: cv2.VideoCapture) -> str:
        """Read; return why there is no more."""
        limit_ms = int(self._silence_s * 1000)
        # one decoding thread: several hand every frame over later by as many frames
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_N_THREADS, 1]
        if not capture.open(self._url, cv2.CAP_FFMPEG, limits):
            return f"cannot be opened within {self._silence_s:g} s. Remedy: look at its address, and whether it sends."
        is_mjpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPEG and capture.set(cv2.CAP_PROP_FORMAT, _AS_IT_COMES)
        number = 0
        while not self._stopping.is_set():
            asked_ns = time.monotonic_ns()
            if not capture.grab():
                silence_s = (time.monotonic_ns() - asked_ns) / 1e9
                return f"ended, or delivers nothing: no frame for {silence_s:.1f} s, silence_s allows {self._silence_s:g}"
            image, why = _decoded(capture, is_mjpeg)
            self._heard_ns = time.monotonic_ns()
            with self._arrived:
                self._frames.append(StreamFrame(number, self._heard_ns, image, why))
                self._arrived.notify_all()
            number += 1
        return "is closed"


def _decoded(capture: cv2.VideoCapture, is_mjpeg: bool) -> tuple[Any, str]:
    """The frame grabbed last, or None and why there is none."""
    is_read, image = capture.retrieve()
    if not is_read:
        return None, ""
    try:
        return luma_of(image.ravel()) if is_mjpeg else image, ""
    except BadFrame as error:
        return None, str(error)
