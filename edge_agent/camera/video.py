"""Video files and network streams by OpenCV.

A file is replayed, frame by frame, to its end. Of a stream the frames are parts as they arrive; when a frame was exposed the
stream does not say, so a software trigger takes the first that arrives after it, and delays on the network do not show.
OpenCV's FFMPEG backend scales a frame of another size to the first one's and does not tell (measured with 5.0.0); of MJPEG streams
it decodes none.
"""

from __future__ import annotations

import math
import stat
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge_agent.camera.base import Arrival, Exposure
from edge_agent.camera.delivery import BadFrame, Delivery, Shot
from edge_agent.camera.video_stream import StreamFrame, StreamReader
from edge_agent.camera_settings import VideoCamera as VideoSettings
from edge_agent.camera_settings import is_stream
from edge_agent.errors import CameraError, ConfigurationError, EndOfImages, Reason, remedy_of
from edge_agent.records import Pixels

_NO_SLOT_S = 0.005  # how long a file waits before it looks again for a free slot


def without_secrets(url: str) -> str:
    """The address as messages may show it: no user, no password, no query."""
    if not is_stream(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_video(settings: VideoSettings, base: Path = Path()) -> FileCamera | StreamCamera:
    """Return the camera for a file or a stream; a file's path is relative to `base`."""
    if is_stream(settings.url):
        return StreamCamera(settings)
    return FileCamera(settings, file_of(settings, base))


def file_of(settings: VideoSettings, base: Path) -> Path:
    """The file that `url` names, where it is no stream."""
    return (base / settings.url.removeprefix("file://")).resolve()


def write_frame(size: tuple[int, int], image: Any, frame_id: int, name: str, slot: Pixels, *, why: str = "") -> Exposure:
    """Put a frame into the slot, as gray. Raises BadFrame where it is not of the size that the first one had, or is None; `why`
    tells more of that."""
    if image is None:
        raise BadFrame(f"frame {frame_id} cannot be decoded" + (f": {why}" if why else ""))
    rows, cols = size
    if image.shape[:2] != size:
        raise BadFrame(f"frame {frame_id} is {image.shape[1]} x {image.shape[0]}, the first one was {cols} x {rows}")
    if slot.size < rows * cols:
        raise BadFrame(f"frame {frame_id} has {rows * cols} pixels, its slot takes {slot.size}; the source changed meanwhile")
    gray = slot[: rows * cols].reshape(size)
    if image.ndim == 2 or image.shape[2] == 1:
        np.copyto(gray, image.reshape(size))
    else:
        cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=gray)
    return Exposure(rows, cols, frame_id, name)


def require_file(file: Path) -> None:
    """Raise ConfigurationError where there is no such file, or none that can be opened."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            open(file, "rb").close()
            return
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError.of(f"the video {file} does not exist.", "give the path of a video file.") from None
    except OSError as error:
        raise ConfigurationError.of(f"the video {file} cannot be read: {error.strerror}.", remedy_of(error)) from None
    if stat.S_ISCHR(mode):
        raise ConfigurationError.of(f"the video {file} is a device.", "a camera is kind v4l2, by serial, by_id or path.")
    what = "a folder" if stat.S_ISDIR(mode) else "no file"
    raise ConfigurationError.of(f"the video {file} is {what}.", "give the path of a video file; a folder of images is kind folder.")


class FileCamera:
    """Replays a video file. Every frame is due under a name of its own, `clip_000012` for frame 12 of clip.avi."""

    frame_timeout_s = math.inf
    counts_triggers = True

    def __init__(self, settings: VideoSettings, file: Path) -> None:
        require_file(file)
        self.name = settings.name
        self.trigger_mode: str = settings.trigger
        self.max_pixels = 0
        self.is_live = settings.trigger == "software" or settings.rate_hz > 0
        self._file = file
        self._period_s = 1 / settings.rate_hz if settings.rate_hz else 0.0
        self._delivery = Delivery(settings.name, settings.trigger)
        self._triggered = threading.Event()
        self._capture: cv2.VideoCapture | None = None
        self._ahead: tuple[bool, Any] = False, None  # the next frame: whether there is one, and it, None if undecodable
        self._index = 0
        self._size = 0, 0
        self._due_s = 0.0

    def open(self) -> None:
        self._let_go()
        self._capture = cv2.VideoCapture(str(self._file))
        self._ahead = self._read(self._capture)
        if self._ahead[1] is None:
            self._let_go()
            raise CameraError(f"camera {self.name}: {self._file} is not a readable video")
        self._size = self._ahead[1].shape[:2]
        self.max_pixels = self._size[0] * self._size[1]
        self._index, self._due_s = 0, 0.0
        self._delivery.start()

    def lend(self, slot: int, memory: Pixels) -> None:
        self._delivery.lend(slot, memory)

    def wait(self, timeout_s: float) -> Arrival | None:
        arrival = self._delivery.next()
        if arrival is None:
            self._step(timeout_s)
            arrival = self._delivery.next()
        return arrival

    def trigger(self, part_id: str) -> None:
        self._delivery.trigger(part_id, time.monotonic_ns())
        self._triggered.set()

    def finish(self) -> bool:
        return self._delivery.is_told

    def counters(self) -> dict[str, int]:
        return dict(self._delivery.counts)

    def close(self) -> None:
        self._delivery.close()
        self._let_go()

    def _step(self, timeout_s: float) -> None:
        """Show the next frame, if its time comes within the timeout."""
        if self._capture is None:
            raise CameraError(f"camera {self.name} is not open")
        if not self._ahead[0]:
            said = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
            end = EndOfImages(f"camera {self.name} has shown all {self._index} frames of {self._file} (its header says {said:.0f})")
            return self._delivery.fail(end)
        due = self._part_due(timeout_s)
        if due is not None:
            self._show(self._capture, *due)
        return None

    def _part_due(self, timeout_s: float) -> tuple[str, int] | None:
        """Wait until a part is due; return its id, '' without one, and when it was triggered, or None where none is."""
        if self._delivery.is_software:
            self._triggered.clear()
            asked = self._delivery.oldest_trigger()
            if asked is None and self._triggered.wait(timeout_s):
                asked = self._delivery.oldest_trigger()
            return asked
        if not self._period_s:
            if not self._delivery.has_room:
                time.sleep(min(timeout_s, _NO_SLOT_S))
            return ("", time.monotonic_ns()) if self._delivery.has_room else None
        now_s = time.monotonic()
        self._due_s = self._due_s or now_s
        time.sleep(max(0.0, min(timeout_s, self._due_s - now_s)))
        if self._due_s > now_s + timeout_s:
            return None
        self._due_s += self._period_s
        return "", time.monotonic_ns()

    def _show(self, capture: cv2.VideoCapture, part_id: str, asked_ns: int) -> None:
        name = f"{self._file.stem}_{self._index:06d}"
        self._delivery.name_due(part_id or name)
        self._delivery.show_now(Shot(asked_ns, asked_ns, partial(write_frame, self._size, self._ahead[1], self._index, name)))
        self._index += 1
        self._ahead = self._read(capture)

    def _read(self, capture: cv2.VideoCapture) -> tuple[bool, Any]:
        try:
            if not capture.grab():
                return False, None
            is_read, image = capture.retrieve()
        except cv2.error:
            return True, None
        return True, image if is_read else None

    def _let_go(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None


class StreamCamera:
    """Delivers a stream's frames as they arrive. A frame that is overwritten before anybody looked is an overrun."""

    is_live = True
    frame_timeout_s = math.inf  # every trigger is answered, at the latest when the stream has been silent for too long
    counts_triggers = True

    def __init__(self, settings: VideoSettings) -> None:
        self.name = settings.name
        self.trigger_mode: str = settings.trigger
        self.max_pixels = 0
        self._settings = settings
        self._shown = without_secrets(settings.url)
        self._delivery = Delivery(settings.name, settings.trigger)
        self._reader: StreamReader | None = None
        self._size = 0, 0
        self._next = 0  # number of the frame that comes next, if none is lost

    def open(self) -> None:
        self._let_go()
        self._reader = StreamReader(self._settings.url, self._shown, self._settings.silence_s)
        try:
            self._size, self._next = self._first(self._reader)
        except CameraError:
            self._let_go()
            raise
        self.max_pixels = self._size[0] * self._size[1]
        self._delivery.start()

    def lend(self, slot: int, memory: Pixels) -> None:
        self._delivery.lend(slot, memory)

    def wait(self, timeout_s: float) -> Arrival | None:
        return self._delivery.wait(timeout_s, self._step, time.monotonic)

    def trigger(self, part_id: str) -> None:
        self._delivery.trigger(part_id, time.monotonic_ns())

    def finish(self) -> bool:
        return self._delivery.is_told

    def counters(self) -> dict[str, int]:
        return dict(self._delivery.counts)

    def close(self) -> None:
        """Let go of the stream, within `silence_s` + video_stream.JOIN_MARGIN_S."""
        self._delivery.close()
        self._let_go()

    def _first(self, reader: StreamReader) -> tuple[tuple[int, int], int]:
        """Wait for a frame that can be decoded; return its size, and which frame is the first that counts.

        Those until then are no parts, because nobody was ready for them. Raises CameraError where none comes in time."""
        first_ns = 0
        while True:
            frame = reader.take(self._settings.silence_s)
            if frame is None:
                continue
            if frame.image is not None:
                return frame.image.shape[:2], frame.number + 1
            first_ns = first_ns or frame.arrived_ns
            if frame.arrived_ns - first_ns > self._settings.silence_s * 1e9:
                limit = f"for {self._settings.silence_s:g} s"
                raise CameraError(f"stream {self._shown} sends frames, and {limit} none that can be decoded: {frame.why}.")

    def _step(self, timeout_s: float) -> None:
        """Take one frame: those behind it stay where newer ones push the old ones out."""
        if self._reader is None:
            raise CameraError(f"camera {self.name} is not open")
        frame = self._reader.take(timeout_s)
        if frame is None:
            return
        if frame.number > self._next:
            count = frame.number - self._next
            self._delivery.lose(Reason.OVERRUN, f"{count} frames came while nobody took them, and gave way to newer ones", count)
        self._next = frame.number + 1
        write = partial(write_frame, self._size, frame.image, frame.number, "", why=frame.why)
        self._delivery.show(Shot(frame.arrived_ns, frame.arrived_ns, write, self._staleness(frame)))

    def _staleness(self, frame: StreamFrame) -> str:
        age_ms = (time.monotonic_ns() - frame.arrived_ns) / 1e6
        if age_ms <= self._settings.stale_ms:
            return ""
        self._delivery.counts["stale"] += 1
        return f"frame {frame.number} is stale: it waited {age_ms:.0f} ms, stale_ms allows {self._settings.stale_ms:g}"

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
