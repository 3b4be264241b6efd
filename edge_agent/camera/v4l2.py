"""Cameras of Linux's V4L2, UVC cameras above all, by a binding of our own: it sees lost and torn frames, and unplugging.

A camera runs at its own rate; a software trigger takes the first picture whose exposure began after it, for all that is known:
drivers stamp a frame with the monotonic clock when its first data come (uvcvideo), which is after the exposure, or when its
last have come. An exposure takes a frame period at most and the data another, so one or two of them are taken off the stamp.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.base import Arrival, Exposure
from edge_agent.camera.delivery import Delivery, Shot
from edge_agent.camera.v4l2_controls import set_controls
from edge_agent.camera.v4l2_device import Device
from edge_agent.camera.v4l2_find import find_by_link, find_by_serial
from edge_agent.camera.v4l2_gray import Layout, write_gray
from edge_agent.camera_settings import V4l2Camera as V4l2Settings
from edge_agent.errors import CameraError, Reason
from edge_agent.records import Pixels

_FUTURE_NS = 1_000_000_000  # a stamp so far ahead is of another clock (uvcvideo's clock parameter)
_SEQUENCES = 2**32


class V4l2Camera:
    """One V4L2 camera. `kernel` is where the system calls go."""

    is_live = True
    frame_timeout_s = math.inf  # every trigger is answered, at the latest when the camera has been silent for too long
    counts_triggers = True

    def __init__(self, settings: V4l2Settings, kernel: k.Kernel | None = None) -> None:
        self.name = settings.name
        self.trigger_mode: str = settings.trigger
        self.max_pixels = 0
        self._settings = settings
        self._kernel = kernel or k.Kernel()
        self._delivery = Delivery(settings.name, settings.trigger)
        self._device: Device | None = None
        self._layout = Layout("GREY", 0, 0)
        self._period_ns = 0
        self._sequence: int | None = None  # of the last frame taken
        self._taken_ns = 0  # the last frame's stamp
        self._heard_ns = 0  # when the last frame came, or the stream began

    def open(self) -> None:
        self._let_go()
        self._device = Device(self._kernel, self._found())
        try:
            self._start(self._device)
        except BaseException:
            self._let_go()
            raise

    def lend(self, slot: int, memory: Pixels) -> None:
        self._delivery.lend(slot, memory)

    def wait(self, timeout_s: float) -> Arrival | None:
        return self._delivery.wait(timeout_s, self._watch, lambda: self._kernel.monotonic_ns() / 1e9)

    def trigger(self, part_id: str) -> None:
        self._delivery.trigger(part_id, self._kernel.monotonic_ns())

    def finish(self) -> bool:
        return self._delivery.is_told

    def counters(self) -> dict[str, int]:
        return dict(self._delivery.counts)

    def close(self) -> None:
        self._delivery.close()
        self._let_go()

    def _found(self) -> Path:
        s = self._settings
        if s.serial:
            return find_by_serial(self._kernel, s.serial)
        link = Path(s.path) if s.path else self._kernel.devices / "v4l" / "by-id" / str(s.by_id)
        return find_by_link(self._kernel, link)

    def _start(self, device: Device) -> None:
        s = self._settings
        device.check_kind()
        self._layout = device.set_format(s.pixel_format, s.width, s.height)
        self._period_ns = device.set_rate(s.rate_hz)
        set_controls(device, s.controls)
        device.start(s.buffers)
        self.max_pixels = self._layout.rows * self._layout.cols
        self._sequence = None
        self._taken_ns = 0
        self._heard_ns = self._kernel.monotonic_ns()
        self._delivery.start()

    def _watch(self, timeout_s: float) -> None:
        """Take one frame, if one comes in time, and give its buffer back to the driver whatever happens."""
        if self._device is None:
            raise CameraError(f"camera {self.name} is not open")
        buffer = self._device.dequeue(timeout_s)
        now_ns = self._kernel.monotonic_ns()
        if buffer is None:
            silence_s = (now_ns - self._heard_ns) / 1e9
            if self._settings.silence_s and silence_s >= self._settings.silence_s:
                raise CameraError(f"camera {self._device.path} delivers nothing for {silence_s:.1f} s. Remedy: look at its cable.")
            return
        self._heard_ns = now_ns
        try:
            self._take(self._device, buffer, now_ns)
        finally:
            self._device.requeue(buffer.index)

    def _take(self, device: Device, buffer: k.Buffer, now_ns: int) -> None:
        taken_ns = self._stamp(device, buffer, now_ns)
        self._count_missing(buffer.sequence)
        begun_ns = self._begun_ns(buffer, taken_ns)
        write = partial(self._write, device, buffer)
        flaw = self._flaw(buffer, (now_ns - taken_ns) / 1e6)
        self._delivery.show(Shot(taken_ns, begun_ns, write, flaw))

    def _begun_ns(self, buffer: k.Buffer, taken_ns: int) -> int:
        """When the exposure began at the earliest; 0 where nobody knows. In dim light a camera may be slower than its rate."""
        before_ns, self._taken_ns = self._taken_ns, taken_ns
        period_ns = max(self._period_ns, taken_ns - before_ns if before_ns else 0)
        periods = 1 if buffer.flags & k.BUF_FLAG_TSTAMP_SRC_MASK == k.BUF_FLAG_TSTAMP_SRC_SOE else 2
        return taken_ns - period_ns * periods if period_ns else 0

    def _stamp(self, device: Device, buffer: k.Buffer, now_ns: int) -> int:
        """When the frame was taken, monotonic. A camera that cannot say it cannot be trusted with parts."""
        is_monotonic = buffer.flags & k.BUF_FLAG_TIMESTAMP_MASK == k.BUF_FLAG_TIMESTAMP_MONOTONIC
        taken_ns = int(buffer.timestamp.tv_sec) * 1_000_000_000 + int(buffer.timestamp.tv_usec) * 1000
        if not is_monotonic or taken_ns > now_ns + _FUTURE_NS:
            raise CameraError(
                f"camera {device.path} does not stamp its frames with the monotonic clock (flags 0x{buffer.flags:x}, "
                f"{taken_ns / 1e9:.3f} s at {now_ns / 1e9:.3f} s), so a stale one could not be told. "
                "Remedy: set uvcvideo's parameter clock to CLOCK_MONOTONIC."
            )
        return taken_ns

    def _count_missing(self, sequence: int) -> None:
        """Report frames that the driver numbered and nobody got. A number that did not rise says nothing: a driver began anew."""
        if self._sequence is not None:
            missing = (sequence - self._sequence - 1) % _SEQUENCES
            if 0 < missing < _SEQUENCES // 2:
                why = f"{missing} frames before number {sequence} were lost on their way"
                self._delivery.lose(Reason.NO_FRAME, why, missing)
        self._sequence = sequence

    def _flaw(self, buffer: k.Buffer, age_ms: float) -> str:
        if buffer.flags & k.BUF_FLAG_ERROR:
            return f"the driver marks frame {buffer.sequence} as damaged"
        if buffer.bytesused < self._layout.least_bytes:
            return f"frame {buffer.sequence} has {buffer.bytesused} bytes, a whole one has at least {self._layout.least_bytes}"
        if age_ms > self._settings.stale_ms:
            self._delivery.counts["stale"] += 1
            return f"frame {buffer.sequence} is stale: {age_ms:.0f} ms old, stale_ms allows {self._settings.stale_ms:g}"
        return ""

    def _write(self, device: Device, buffer: k.Buffer, slot: Pixels) -> Exposure:
        write_gray(self._layout, device.frame(buffer), slot)
        return Exposure(self._layout.rows, self._layout.cols, int(buffer.sequence))

    def _let_go(self) -> None:
        if self._device is not None:
            self._device.close()
        self._device = None
