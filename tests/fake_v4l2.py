"""A V4L2 driver in memory, below the camera's system calls: what vb2 and uvcvideo do, with a clock that moves in `select` only.

Its buffers are real mappings of a memory file. Frames are put on a schedule; a frame that finds no queued buffer is numbered
and lost, as in the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_agent.camera import v4l2_kernel as k

MS = 1_000_000
SOE_MONOTONIC = k.BUF_FLAG_TIMESTAMP_MONOTONIC | k.BUF_FLAG_TSTAMP_SRC_SOE
_WORDS = {"GREY": 1, "Y16": 2, "Y10": 2, "Y12": 2, "YUYV": 2, "UYVY": 2, "NV12": 1}


@dataclass
class FakeControl:
    """One control; `keeps` is a value that it falls back to, whatever it is set to; `governs` is inactive unless it is `free`."""

    id: int
    name: str
    minimum: int = 0
    maximum: int = 255
    value: int = 0
    type: int = 1
    flags: int = 0
    keeps: int | None = None
    governs: str = ""
    free: int = 1


@dataclass
class FakeFrame:
    """A frame on its way: what the driver will say of it. None: as a well-behaved one does."""

    payload: bytes
    flags: int = SOE_MONOTONIC
    bytesused: int | None = None
    stamp_ns: int | None = None
    sequence: int | None = None


@dataclass
class Open:
    """One open file of the fake."""

    node: Path
    count: int = 0
    queued: deque[int] = field(default_factory=deque)
    done: deque[tuple[int, FakeFrame]] = field(default_factory=deque)
    is_streaming: bool = False


class FakeKernel(k.Kernel):
    """One camera at /dev/video0, serial ABC123, with everything a test may want to spoil."""

    def __init__(self, root: Path, formats: tuple[str, ...] = ("YUYV", "MJPG"), padding: int = 0) -> None:
        self.devices, self.classes = root / "dev", root / "sys" / "class"
        self.now_ns = 1_000 * MS
        self.formats, self.padding = formats, padding
        self.sizes = {(64, 48), (32, 16)}
        self.rates = (10.0, 30.0)
        self.size, self.format, self.rate = (64, 48), formats[0], 30.0
        self.controls: dict[str, FakeControl] = {}
        self.capabilities = k.CAP_VIDEO_CAPTURE | k.CAP_STREAMING
        self.errors: dict[int, int] = {}  # ioctl: errno it answers with
        self.is_unplugged = self.is_held = False
        self.buffer_flags = SOE_MONOTONIC
        self.sequence = -1
        self.schedule: deque[tuple[int, FakeFrame | Callable[[], None]]] = deque()
        self.files: dict[int, Open] = {}
        self.maps: list[mmap.mmap] = []
        self.log: list[str] = []
        self._memory = os.memfd_create("fake-v4l2")
        self.add("video0", "ABC123", "usb-Maker_Cam_ABC123-video-index0")

    # --- the world around the camera ---------------------------------------------------------------------------------
    def add(self, node: str, serial: str, link: str, index: int = 0) -> None:
        usb = self.classes.parent / "devices" / f"usb-{node}"
        (usb / "interface").mkdir(parents=True)
        (usb / "serial").write_text(serial + "\n")
        entry = self.classes / node
        entry.mkdir(parents=True)
        (entry / "device").symlink_to(usb / "interface")
        (entry / "index").write_text(f"{index}\n")
        by_id = self.devices / "v4l" / "by-id"
        by_id.mkdir(parents=True, exist_ok=True)
        (self.devices / node).write_text("")
        (by_id / link).symlink_to(self.devices / node)

    def at(self, after_ms: float, what: FakeFrame | Callable[[], None]) -> None:
        """Schedule something so long after what was scheduled last, or after now."""
        last_ns = self.schedule[-1][0] if self.schedule else self.now_ns
        self.schedule.append((last_ns + int(after_ms * MS), what))

    def shoot(self, *levels: int, every_ms: float = 33, **changes: object) -> None:
        """Schedule one frame of each gray level."""
        for level in levels:
            self.at(every_ms, FakeFrame(self.encode(np.full(self.size[::-1], level, np.uint8)), **changes))  # type: ignore[arg-type]

    def encode(self, gray: np.ndarray) -> bytes:
        """Lay a picture out in the format that is set, with noise where no luma is."""
        rows, cols = gray.shape
        lines = np.full((rows, self.stride), 0xA5, np.uint8)
        if self.format in ("YUYV", "UYVY"):
            lines[:, (0 if self.format == "YUYV" else 1) : 2 * cols : 2] = gray
        elif self.format in ("Y16", "Y12", "Y10"):
            bits = int(self.format[1:])
            words = gray.astype("<u2") << (bits - 8) | (1 << (bits - 8)) - 1
            lines[:, : 2 * cols] = words.view(np.uint8).reshape(rows, 2 * cols)
        else:
            lines[:, :cols] = gray
        more = b"\x80" * (self.stride * rows // 2) if self.format == "NV12" else b""
        return lines.tobytes() + more

    @property
    def stride(self) -> int:
        return 0 if self.format in ("MJPG", "H264") else self.size[0] * _WORDS.get(self.format, 0) + self.padding

    @property
    def sizeimage(self) -> int:
        return 1 << 16 if not self.stride else self.stride * self.size[1] * (3 if self.format == "NV12" else 2) // 2

    def unplug(self) -> None:
        self.is_unplugged = True

    @property
    def file(self) -> Open:
        """The only open file."""
        (only,) = self.files.values()
        return only

    @property
    def is_clean(self) -> bool:
        """Nothing is open, nothing is mapped."""
        return not self.files and all(mapping.closed for mapping in self.maps)

    # --- system calls ------------------------------------------------------------------------------------------------
    def monotonic_ns(self) -> int:
        return self.now_ns

    def open(self, path: Path) -> int:
        if self.is_unplugged:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        fd = os.open("/dev/null", os.O_RDWR)
        self.files[fd] = Open(path)
        return fd

    def close(self, fd: int) -> None:
        del self.files[fd]
        os.close(fd)

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        self.maps.append(mmap.mmap(self._memory, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset))
        return self.maps[-1]

    def select(self, fd: int, timeout_s: float) -> bool:
        end_ns = self.now_ns + int(timeout_s * 1e9)
        self.now_ns += 1000
        while not self.is_unplugged and not self.files[fd].done:
            if not self.schedule or self.schedule[0][0] > end_ns:
                self.now_ns = max(self.now_ns, end_ns)
                return False
            at_ns, what = self.schedule.popleft()
            self.now_ns = max(self.now_ns, at_ns)
            self._expose(self.files[fd], what, at_ns) if isinstance(what, FakeFrame) else what()
        return True

    def _expose(self, file: Open, frame: FakeFrame, at_ns: int) -> None:
        self.sequence = (self.sequence + 1 if frame.sequence is None else frame.sequence) % 2**32
        if not file.is_streaming or not file.queued:
            return
        index = file.queued.popleft()
        os.pwrite(self._memory, frame.payload[: self.sizeimage], index * self._spacing)
        done = FakeFrame(frame.payload, frame.flags, frame.bytesused, frame.stamp_ns or at_ns, self.sequence)
        file.done.append((index, done))

    @property
    def _spacing(self) -> int:
        return -(-self.sizeimage // mmap.PAGESIZE) * mmap.PAGESIZE

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        name = k.NAMES[request]
        self.log.append(name)
        code = errno.ENODEV if self.is_unplugged else self.errors.get(request, 0)
        if self.is_held and request in (k.VIDIOC_S_FMT, k.VIDIOC_REQBUFS, k.VIDIOC_STREAMON):
            code = errno.EBUSY
        code = code or getattr(self, name.lower())(self.files[fd], argument) or 0
        if code:
            raise OSError(code, os.strerror(code))

    def vidioc_querycap(self, file: Open, it: k.Capability) -> None:
        whole = k.CAP_VIDEO_CAPTURE | k.CAP_STREAMING  # of the device, whose other node has only metadata
        it.card, it.capabilities = b"Fake Cam", whole | k.CAP_DEVICE_CAPS
        it.device_caps = self.capabilities

    def vidioc_enum_fmt(self, file: Open, it: k.FormatDescription) -> int | None:
        if it.index >= len(self.formats):
            return errno.EINVAL
        it.pixelformat = k.fourcc(self.formats[it.index])
        return None

    def vidioc_g_fmt(self, file: Open, it: k.Format) -> None:
        pix = it.fmt.pix
        (pix.width, pix.height), pix.pixelformat = self.size, k.fourcc(self.format)
        pix.bytesperline, pix.sizeimage = self.stride, self.sizeimage

    def vidioc_s_fmt(self, file: Open, it: k.Format) -> None:
        pix = it.fmt.pix
        self.size = min(self.sizes, key=lambda size: abs(size[0] - pix.width) + abs(size[1] - pix.height))
        if k.fourcc_name(pix.pixelformat) in self.formats:
            self.format = k.fourcc_name(pix.pixelformat)
        self.vidioc_g_fmt(file, it)

    def vidioc_g_parm(self, file: Open, it: k.StreamParameters) -> None:
        it.parm.capture.capability = k.CAP_TIMEPERFRAME if self.rates else 0
        it.parm.capture.timeperframe = k.Fraction(round(1e7 / self.rate), 10_000_000)

    def vidioc_s_parm(self, file: Open, it: k.StreamParameters) -> None:
        asked = it.parm.capture.timeperframe
        self.rate = min(self.rates, key=lambda rate: abs(rate - asked.denominator / asked.numerator))
        self.vidioc_g_parm(file, it)

    def vidioc_reqbufs(self, file: Open, it: k.RequestBuffers) -> int | None:
        if not it.count:
            if any(not mapping.closed for mapping in self.maps):
                return errno.EBUSY
            file.count = 0
            return None
        file.count = it.count = min(it.count, 32)
        os.ftruncate(self._memory, file.count * self._spacing)
        return None

    def vidioc_querybuf(self, file: Open, it: k.Buffer) -> int | None:
        if it.index >= file.count:
            return errno.EINVAL
        it.length, it.m.offset, it.flags = self.sizeimage, it.index * self._spacing, self.buffer_flags
        return None

    def vidioc_qbuf(self, file: Open, it: k.Buffer) -> int | None:
        if it.index >= file.count or it.index in file.queued or it.memory != k.MEMORY_MMAP:
            return errno.EINVAL
        file.queued.append(it.index)
        return None

    def vidioc_dqbuf(self, file: Open, it: k.Buffer) -> int | None:
        if not file.is_streaming:
            return errno.EINVAL
        if not file.done:
            return errno.EAGAIN
        it.index, frame = file.done.popleft()
        it.flags, it.sequence, it.length = frame.flags, frame.sequence, self.sizeimage
        it.bytesused = len(frame.payload) if frame.bytesused is None else frame.bytesused
        it.timestamp.tv_sec, rest_ns = divmod(frame.stamp_ns or 0, 1_000_000_000)
        it.timestamp.tv_usec = rest_ns // 1000
        return None

    def vidioc_streamon(self, file: Open, it: ctypes.c_int) -> None:
        file.is_streaming = True

    def vidioc_streamoff(self, file: Open, it: ctypes.c_int) -> None:
        file.is_streaming = False
        file.queued.clear()
        file.done.clear()

    # --- controls ----------------------------------------------------------------------------------------------------
    def add_control(self, name: str, **values: object) -> FakeControl:
        control = FakeControl(0x0098_0900 + len(self.controls), name, **values)  # type: ignore[arg-type]
        self.controls[name] = control
        return control

    def _control(self, number: int) -> FakeControl | None:
        return next((control for control in self.controls.values() if control.id == number), None)

    def vidioc_query_ext_ctrl(self, file: Open, it: k.QueryExtControl) -> int | None:
        last = it.id & ~k.CTRL_FLAG_NEXT_CTRL
        later = sorted((control for control in self.controls.values() if control.id > last), key=lambda control: control.id)
        if not later:
            return errno.EINVAL
        control = later[0]
        it.id, it.type, it.name, it.flags = control.id, control.type, control.name.encode(), control.flags
        it.minimum, it.maximum, it.step = control.minimum, control.maximum, 1
        for other in self.controls.values():
            if other.governs == control.name and other.value != other.free:
                it.flags |= k.CTRL_FLAG_INACTIVE
        return None

    vidioc_queryctrl = vidioc_query_ext_ctrl

    def vidioc_s_ctrl(self, file: Open, it: k.Control) -> int | None:
        return self._set(it.id, it.value)

    def vidioc_g_ctrl(self, file: Open, it: k.Control) -> int | None:
        control = self._control(it.id)
        if control is None or control.type == k.CTRL_TYPE_INTEGER64:
            return errno.EINVAL
        it.value = control.value
        return None

    def vidioc_s_ext_ctrls(self, file: Open, it: k.ExtControls) -> int | None:
        return self._set(it.controls[0].id, it.controls[0].u.value64)

    def vidioc_g_ext_ctrls(self, file: Open, it: k.ExtControls) -> int | None:
        control = self._control(it.controls[0].id)
        if control is None:
            return errno.EINVAL
        it.controls[0].u.value64 = control.value
        return None

    def _set(self, number: int, value: int) -> int | None:
        control = self._control(number)
        if control is None:
            return errno.EINVAL
        if control.flags & k.CTRL_FLAG_GRABBED:
            return errno.EBUSY
        control.value = value if control.keeps is None else control.keeps
        return None
