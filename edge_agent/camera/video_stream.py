"""Reads a network stream in a thread of its own, without a pause, so that nothing old waits in OpenCV's buffers.

OpenCV's capture never recovers from a silence although it says that it is opened (measured with 5.0.0): whoever reads
closes this and makes another. The capture is opened, used and released by the one thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Any

import cv2
import msgspec

from edge_agent.errors import CameraError

# RTSP's pictures over TCP alone: over UDP the decoder makes up what is lost, and OpenCV hands that over as any other frame
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
HELD = 4  # frames kept for a reader who is late; older ones give way
JOIN_MARGIN_S = 1.0


class StreamFrame(msgspec.Struct, frozen=True):
    """One frame as OpenCV has it (rows, cols[, 3]), None where it could not be decoded; its number and time of arrival."""

    number: int
    arrived_ns: int
    image: Any


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
        number = 0
        while not self._stopping.is_set():
            asked_ns = time.monotonic_ns()
            if not capture.grab():
                silence_s = (time.monotonic_ns() - asked_ns) / 1e9
                return f"ended, or delivers nothing: no frame for {silence_s:.1f} s, silence_s allows {self._silence_s:g}"
            is_read, image = capture.retrieve()
            self._heard_ns = time.monotonic_ns()
            with self._arrived:
                self._frames.append(StreamFrame(number, self._heard_ns, image if is_read else None))
                self._arrived.notify_all()
            number += 1
        return "is closed"
