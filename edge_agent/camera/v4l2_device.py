"""One opened V4L2 capture device: its formats, its rate, its buffers. Every failure is a CameraError that says what to do."""

from __future__ import annotations

import ctypes
import errno
import mmap
from pathlib import Path

import numpy as np

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.v4l2_gray import FORMATS, Layout
from edge_agent.errors import CameraError
from edge_agent.records import Pixels

_PREFERRED = ("GREY", "YUYV", "MJPG")
_MOST_FORMATS = 256  # a driver that never ends its list
_RATE_TOLERANCE = 0.01  # UVC counts frame intervals in units of 100 ns
_GONE = {errno.ENODEV, errno.ENXIO}
_GONE_WHILE_STREAMING = {errno.EIO, errno.EPIPE, errno.EBADF, errno.ENOENT, errno.ESHUTDOWN}


class Device:
    """Opens the node. Everything raises CameraError, but `ask`, which raises OSError, and `close`, which never raises."""

    def __init__(self, kernel: k.Kernel, path: Path) -> None:
        self.path = path
        self._kernel = kernel
        self._maps: list[mmap.mmap] = []
        self._is_streaming = False
        try:
            self._fd = kernel.open(path)
        except OSError as error:
            raise self.explain(error, 0) from None

    def ask(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """Send one ioctl. Raises OSError."""
        self._kernel.ioctl(self._fd, request, argument)

    def explain(self, error: OSError, request: int) -> CameraError:
        """Say what an OSError means, and what to do."""
        name = k.NAMES.get(request, "open")
        code = errno.errorcode.get(error.errno or 0, "?")
        is_streaming = request in (k.VIDIOC_DQBUF, k.VIDIOC_QBUF)
        if error.errno in _GONE or (is_streaming and error.errno in _GONE_WHILE_STREAMING):
            return CameraError(f"camera {self.path} is gone ({name}: {code}). Remedy: look at its cable, its hub and its power.")
        if error.errno == errno.EBUSY:
            return CameraError(
                f"camera {self.path} is held by another process ({name}: {code}). Remedy: `fuser -v` names it; end it."
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return CameraError(f"camera {self.path} may not be opened ({code}). Remedy: add the service's user to the group video.")
        if error.errno == errno.ENOTTY and request == k.VIDIOC_QUERYCAP:
            return CameraError(
                f"{self.path} is no video device ({name}: {code}). Remedy: give the link of a camera, in /dev/v4l/by-id."
            )
        return CameraError(f"camera {self.path}: {name} failed: {error.strerror} ({code}).")

    def check_kind(self) -> None:
        """Make sure that it is a camera that streams, with one plane per frame."""
        capability = k.Capability()
        self._ask(k.VIDIOC_QUERYCAP, capability)
        has = capability.capabilities
        if has & k.CAP_DEVICE_CAPS:
            has = capability.device_caps
        if not has & k.CAP_VIDEO_CAPTURE or not has & k.CAP_STREAMING:
            card = capability.card.decode("utf-8", "replace")
            raise CameraError(
                f"{self.path} ({card}) is no single-plane streaming camera (capabilities 0x{has:08x}). "
                "Remedy: give its capture node, whose by-id name ends in video-index0."
            )

    def set_format(self, wanted: str | None, width: int | None, height: int | None) -> Layout:
        """Set the pixel format and the size; without a size the camera keeps its own. A camera that answers with another is
        refused."""
        name = self._chosen(wanted)
        format_ = k.Format(type=k.BUF_TYPE_VIDEO_CAPTURE)
        self._ask(k.VIDIOC_G_FMT, format_)
        pix = format_.fmt.pix
        size = (width or pix.width, height or pix.height)
        pix.width, pix.height = size
        pix.pixelformat, pix.field = k.fourcc(name), k.FIELD_NONE
        pix.bytesperline = pix.sizeimage = 0
        self._ask(k.VIDIOC_S_FMT, format_)
        if (pix.width, pix.height) != size or pix.pixelformat != k.fourcc(name):
            raise CameraError(
                f"camera {self.path} was set to {size[0]} x {size[1]} {name} and is {pix.width} x {pix.height} "
                f"{k.fourcc_name(pix.pixelformat)}. Remedy: set a size that it has (v4l2-ctl --list-formats-ext)."
            )
        return Layout(name, pix.height, pix.width, 0 if name == "MJPG" else pix.bytesperline)

    def set_rate(self, rate_hz: float) -> int:
        """Set the frame rate and read it back; 0 leaves it. Returns the frame period in nanoseconds, 0 where nobody knows."""
        parameters = k.StreamParameters(type=k.BUF_TYPE_VIDEO_CAPTURE)
        try:
            self.ask(k.VIDIOC_G_PARM, parameters)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise self.explain(error, k.VIDIOC_G_PARM) from None
        capture = parameters.parm.capture
        if rate_hz:
            if not capture.capability & k.CAP_TIMEPERFRAME:
                raise CameraError(f"camera {self.path} has no frame rate to set to {rate_hz:g} Hz. Remedy: rate_hz: 0.")
            capture.timeperframe = k.Fraction(1000, round(rate_hz * 1000))
            self._ask(k.VIDIOC_S_PARM, parameters)
        period = capture.timeperframe
        if rate_hz and period.numerator and abs(period.denominator / period.numerator / rate_hz - 1) > _RATE_TOLERANCE:
            actual = period.denominator / period.numerator
            raise CameraError(f"camera {self.path} was set to {rate_hz:g} Hz and is at {actual:g} Hz. Remedy: a rate that it has.")
        return period.numerator * 1_000_000_000 // period.denominator if period.denominator else 0

    def start(self, buffers: int) -> None:
        """Have the driver make buffers, map and queue all of them, start the stream."""
        request = k.RequestBuffers(count=buffers, type=k.BUF_TYPE_VIDEO_CAPTURE, memory=k.MEMORY_MMAP)
        self._ask(k.VIDIOC_REQBUFS, request)
        if request.count < 2:
            raise CameraError(f"camera {self.path} gives {request.count} of {buffers} buffers, too few to stream.")
        for index in range(request.count):
            self._map(index)
        for index in range(request.count):
            self.requeue(index)
        self._ask(k.VIDIOC_STREAMON, ctypes.c_int(k.BUF_TYPE_VIDEO_CAPTURE))
        self._is_streaming = True

    def dequeue(self, timeout_s: float) -> k.Buffer | None:
        """Wait for a frame and take its buffer, which must be requeued; None where none came in time."""
        try:
            if not self._kernel.select(self._fd, timeout_s):
                return None
            buffer = _buffer(0)
            self.ask(k.VIDIOC_DQBUF, buffer)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise self.explain(error, k.VIDIOC_DQBUF) from None
        return buffer

    def requeue(self, index: int) -> None:
        self._ask(k.VIDIOC_QBUF, _buffer(index))

    def frame(self, buffer: k.Buffer) -> Pixels:
        """The bytes the driver says it wrote, read-only; valid until the buffer is requeued, and to be let go by then."""
        mapping = self._maps[buffer.index]
        return np.frombuffer(mapping, np.uint8, min(buffer.bytesused, len(mapping)))

    def close(self) -> None:
        """Stop the stream, unmap, give the buffers back, close. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._is_streaming:
            self._try(fd, k.VIDIOC_STREAMOFF, ctypes.c_int(k.BUF_TYPE_VIDEO_CAPTURE))
        had_buffers = bool(self._maps)
        while self._maps:
            try:
                self._maps.pop().close()
            except (BufferError, OSError, ValueError):
                pass  # somebody still looks at it (a traceback, say); it is unmapped when he lets go
        if had_buffers:
            self._try(fd, k.VIDIOC_REQBUFS, k.RequestBuffers(type=k.BUF_TYPE_VIDEO_CAPTURE, memory=k.MEMORY_MMAP))
        try:
            self._kernel.close(fd)
        except OSError:
            pass  # it is gone either way

    def _chosen(self, wanted: str | None) -> str:
        offered = self._formats()
        for name in (wanted,) if wanted else _PREFERRED:
            if name in offered:
                return name
        usable = ", ".join(name for name in offered if name in FORMATS) or "none that the station reads"
        asked = wanted or f"one of {', '.join(_PREFERRED)}"
        raise CameraError(f"camera {self.path} has no {asked}. Remedy: set pixel_format to one that it has: {usable}.")

    def _formats(self) -> list[str]:
        names: list[str] = []
        for index in range(_MOST_FORMATS):
            description = k.FormatDescription(index=index, type=k.BUF_TYPE_VIDEO_CAPTURE)
            try:
                self.ask(k.VIDIOC_ENUM_FMT, description)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    break
                raise self.explain(error, k.VIDIOC_ENUM_FMT) from None
            names.append(k.fourcc_name(description.pixelformat))
        return names

    def _map(self, index: int) -> None:
        buffer = _buffer(index)
        self._ask(k.VIDIOC_QUERYBUF, buffer)
        try:
            self._maps.append(self._kernel.mmap(self._fd, buffer.length, buffer.m.offset))
        except (OSError, ValueError) as error:  # ValueError: a length of nothing
            raise CameraError(f"camera {self.path}: its buffer of {buffer.length} bytes cannot be mapped: {error}") from None

    def _ask(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        try:
            self.ask(request, argument)
        except OSError as error:
            raise self.explain(error, request) from None

    def _try(self, fd: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        try:
            self._kernel.ioctl(fd, request, argument)
        except OSError:
            pass  # an unplugged camera refuses; there is nothing left to stop


def _buffer(index: int) -> k.Buffer:
    return k.Buffer(index=index, type=k.BUF_TYPE_VIDEO_CAPTURE, memory=k.MEMORY_MMAP)
