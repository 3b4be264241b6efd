"""What Linux's video capture interface looks like: structs, ioctl numbers, and the five system calls a camera needs.

Source: the kernel's include/uapi/linux/videodev2.h and include/uapi/asm-generic/ioctl.h, 64 bit. The calls stand in one
class, so that a test can put another one under the camera.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import time
from collections.abc import Sequence
from ctypes import c_char, c_int, c_int32, c_int64, c_long, c_uint8, c_uint32, c_uint64
from pathlib import Path
from typing import Any

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
FIELD_NONE = 1
CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_STREAMING = 0x0400_0000
CAP_DEVICE_CAPS = 0x8000_0000
CAP_TIMEPERFRAME = 0x1000
BUF_FLAG_ERROR = 0x0040
BUF_FLAG_TIMESTAMP_MASK = 0xE000
BUF_FLAG_TIMESTAMP_MONOTONIC = 0x2000
BUF_FLAG_TSTAMP_SRC_MASK = 0x7_0000
BUF_FLAG_TSTAMP_SRC_SOE = 0x1_0000
CTRL_TYPE_BUTTON, CTRL_TYPE_INTEGER64, CTRL_TYPE_CTRL_CLASS, CTRL_TYPE_STRING = 4, 5, 6, 7
CTRL_COMPOUND_TYPES = 0x0100
CTRL_FLAG_DISABLED, CTRL_FLAG_GRABBED, CTRL_FLAG_READ_ONLY = 0x01, 0x02, 0x04
CTRL_FLAG_INACTIVE, CTRL_FLAG_WRITE_ONLY = 0x10, 0x40
CTRL_FLAG_NEXT_CTRL = 0x8000_0000
_WRITE, _READ = 1, 2


class Capability(ctypes.Structure):
    _fields_ = [
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FormatDescription(ctypes.Structure):
    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class PixelFormat(ctypes.Structure):
    _fields_ = [
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    ]


class _FormatUnion(ctypes.Union):
    _fields_ = [("pix", PixelFormat), ("raw_data", c_uint8 * 200), ("alignment", ctypes.c_void_p)]


class Format(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("fmt", _FormatUnion)]


class Fraction(ctypes.Structure):
    _fields_ = [("numerator", c_uint32), ("denominator", c_uint32)]


class CaptureParameters(ctypes.Structure):
    _fields_ = [
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    ]


class _ParametersUnion(ctypes.Union):
    _fields_ = [("capture", CaptureParameters), ("raw_data", c_uint8 * 200)]


class StreamParameters(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("parm", _ParametersUnion)]


class RequestBuffers(ctypes.Structure):
    _fields_ = [
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    ]


class Timestamp(ctypes.Structure):
    _fields_ = [("tv_sec", c_long), ("tv_usec", c_long)]


class _TimeCode(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("flags", c_uint32), ("time", c_uint8 * 8)]


class _BufferUnion(ctypes.Union):
    _fields_ = [("offset", c_uint32), ("userptr", ctypes.c_ulong), ("fd", c_int32)]


class Buffer(ctypes.Structure):
    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", Timestamp),
        ("timecode", _TimeCode),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferUnion),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    ]


class Control(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("value", c_int32)]


class _ExtControlUnion(ctypes.Union):
    _layout_ = "ms"  # what Python 3.14 wants to be told with _pack_; without bit fields it is GCC's packed layout
    _pack_ = 1
    _fields_ = [("value", c_int32), ("value64", c_int64)]


class ExtControl(ctypes.Structure):
    _layout_ = "ms"
    _pack_ = 1
    _fields_ = [("id", c_uint32), ("size", c_uint32), ("reserved2", c_uint32), ("u", _ExtControlUnion)]


class ExtControls(ctypes.Structure):
    _fields_ = [
        ("which", c_uint32),
        ("count", c_uint32),
        ("error_idx", c_uint32),
        ("request_fd", c_int32),
        ("reserved", c_uint32),
        ("controls", ctypes.POINTER(ExtControl)),
    ]


class QueryControl(ctypes.Structure):
    _fields_ = [
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int32),
        ("maximum", c_int32),
        ("step", c_int32),
        ("default_value", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 2),
    ]


class QueryExtControl(ctypes.Structure):
    _fields_ = [
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int64),
        ("maximum", c_int64),
        ("step", c_uint64),
        ("default_value", c_int64),
        ("flags", c_uint32),
        ("elem_size", c_uint32),
        ("elems", c_uint32),
        ("nr_of_dims", c_uint32),
        ("dims", c_uint32 * 4),
        ("reserved", c_uint32 * 32),
    ]


def _ioc(direction: int, number: int, argument: type[Any]) -> int:
    """The kernel's _IOC for type 'V': direction in bits 30-31, size in 16-29, type in 8-15, number in 0-7."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


VIDIOC_QUERYCAP = _ioc(_READ, 0, Capability)
VIDIOC_ENUM_FMT = _ioc(_READ | _WRITE, 2, FormatDescription)
VIDIOC_G_FMT = _ioc(_READ | _WRITE, 4, Format)
VIDIOC_S_FMT = _ioc(_READ | _WRITE, 5, Format)
VIDIOC_REQBUFS = _ioc(_READ | _WRITE, 8, RequestBuffers)
VIDIOC_QUERYBUF = _ioc(_READ | _WRITE, 9, Buffer)
VIDIOC_QBUF = _ioc(_READ | _WRITE, 15, Buffer)
VIDIOC_DQBUF = _ioc(_READ | _WRITE, 17, Buffer)
VIDIOC_STREAMON = _ioc(_WRITE, 18, c_int)
VIDIOC_STREAMOFF = _ioc(_WRITE, 19, c_int)
VIDIOC_G_PARM = _ioc(_READ | _WRITE, 21, StreamParameters)
VIDIOC_S_PARM = _ioc(_READ | _WRITE, 22, StreamParameters)
VIDIOC_G_CTRL = _ioc(_READ | _WRITE, 27, Control)
VIDIOC_S_CTRL = _ioc(_READ | _WRITE, 28, Control)
VIDIOC_QUERYCTRL = _ioc(_READ | _WRITE, 36, QueryControl)
VIDIOC_G_EXT_CTRLS = _ioc(_READ | _WRITE, 71, ExtControls)
VIDIOC_S_EXT_CTRLS = _ioc(_READ | _WRITE, 72, ExtControls)
VIDIOC_QUERY_EXT_CTRL = _ioc(_READ | _WRITE, 103, QueryExtControl)

NAMES = {value: name for name, value in globals().items() if name.startswith("VIDIOC_")}


def fourcc(code: str) -> int:
    """The number of a four-letter pixel format; shorter names are padded with blanks, as V4L2 does."""
    return int.from_bytes(code.ljust(4).encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The letters of a pixel format's number."""
    return number.to_bytes(4, "little").decode("ascii", "replace").rstrip()


class Kernel:
    """The real system calls. All raise OSError; none blocks but `select`, for as long as it is told."""

    devices: Path = Path("/dev")
    classes: Path = Path("/sys/class/video4linux")

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure | c_int) -> None:
        """Send one request; the kernel answers in `argument`. Repeated where a signal cut it short."""
        while True:
            try:
                fcntl.ioctl(fd, request, argument, True)
                return
            except InterruptedError:
                continue

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)

    def select(self, fd: int, timeout_s: float) -> bool:
        """Wait until a buffer can be taken, or the device has something to complain of; False after the timeout.

        poll, because select takes no descriptor above 1023."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def close(self, fd: int) -> None:
        os.close(fd)

    def monotonic_ns(self) -> int:
        """The clock V4L2 stamps frames with."""
        return time.monotonic_ns()


def pointer_to(controls: Sequence[ExtControl]) -> Any:
    """Return a C array of the controls, for `ExtControls.controls`; the caller keeps it alive."""
    return (ExtControl * len(controls))(*controls)
