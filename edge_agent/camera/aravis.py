"""GigE Vision and USB3 Vision through Aravis. A frame slot is the driver's buffer: nothing is copied where the camera sends Mono8.

Everything here runs on the camera's own thread. Nothing relies on the driver to say that something is missing: a picture that
does not come is told by a gap in the frame ids, by the camera's own count of trigger pulses, or by time.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from typing import Any

from edge_agent.camera import aravis_features as features
from edge_agent.camera.aravis_library import STATUS, SUCCESS, find_devices, library
from edge_agent.camera.aravis_pulses import Delay, Pulses
from edge_agent.camera.aravis_stream import Buffers, open_stream
from edge_agent.camera.base import Arrival, Due, Exposure, Lost, Picture
from edge_agent.camera.pixelformats import converter
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError, Reason
from edge_agent.records import Pixels

_LAST_ID = 65_535  # of 16 bit frame ids; the next is 1, as 0 is never used
_MOST_MISSING = 1000  # a larger step is a camera that began anew, not lost pictures
_MOST_PENDING = 256
_COUNT_EVERY_S = 0.05
_SILENCES = 20  # free run: so many missing frame times, and at least a second, mean that nothing comes any more


class AravisCamera:
    """One camera. See `settings.AravisCamera` for what can be set."""

    is_live = True

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.trigger_mode: str = settings.trigger
        self.counts_triggers = settings.trigger != "hardware" or settings.counter is not None
        self.frame_timeout_s = settings.frame_timeout_ms / 1000
        self.max_pixels = 0
        self._settings = settings
        self._camera = 0
        self._buffers: Buffers | None = None
        self._words: queue.Queue[str] = queue.Queue(_MOST_PENDING)  # software triggers asked for
        self._counters: dict[str, int] = {}
        self._connection: tuple[int, Any] | None = None

    # --- opening and closing --------------------------------------------------------------------------------------
    def open(self) -> None:
        self.close()
        arv = self._arv = library()
        address = self._settings.address or _address_of(self._settings.serial or "")
        try:
            self._camera = arv.call("camera_new", address)
            arv.call("camera_stop_acquisition", self._camera)  # a station that was killed left it running
            self._rows, self._cols = features.set_region(arv, self._camera, self._settings)
            features.set_up(arv, self._camera, self._settings)
            features.set_trigger(arv, self._camera, self._settings)
            self._convert = converter(self._settings.pixel_format)
            payload = int(arv.call("camera_get_payload", self._camera))
            self.max_pixels = self._rows * self._cols if self._convert else max(payload, self._rows * self._cols)
            stream = open_stream(arv, self._camera, self._settings, payload)
            self._buffers = Buffers(arv, stream, payload, self._settings.buffers if self._convert else 0)
            device = arv.call("camera_get_device", self._camera)
            self._lost_control = False
            self._connection = arv.connect(device, "control-lost", self._on_control_lost)
            self._begin()
            arv.call("camera_start_acquisition", self._camera)
        except CameraError as error:
            self.close()
            raise CameraError(f"camera {self.name} at {address}: {error}") from None

    def _begin(self) -> None:
        """Nothing has come yet."""
        now = time.monotonic()
        self._ready: deque[Arrival] = deque()
        self._free: deque[tuple[int, Pixels]] = deque()  # lent slots, where the picture is converted into one
        self._last_id = 0
        self._failed = 0  # incomplete buffers since the last complete one
        self._failure: CameraError | None = None  # raised once all that is known has been told
        self._pulses = Pulses(self.frame_timeout_s)
        self._delay = Delay()
        self._next_count = now
        self._asked_s = 0.0  # software: when the outstanding trigger was given
        self._heard_s = now
        self._finish_s = 0.0  # when the station began to stop
        self._underruns = 0
        self._counters = dict.fromkeys(("pictures", "incomplete", "missing", "stale", "overruns"), 0)

    def _on_control_lost(self) -> None:
        self._lost_control = True  # on a thread of the library's

    def close(self) -> None:
        """Let go of the camera: it can be opened again at once, by anybody."""
        camera, self._camera = self._camera, 0
        buffers, self._buffers = self._buffers, None
        if not camera:
            return
        arv = self._arv
        try:
            if buffers is not None and self._failure is None:  # one that does not answer would only keep us waiting
                arv.call("camera_stop_acquisition", camera)
        except CameraError:
            pass  # it is gone: what was to be stopped has stopped
        if buffers is not None:
            buffers.close()
        if self._connection is not None:
            arv.disconnect(arv.call("camera_get_device", camera), self._connection)
            self._connection = None
        arv.unref(camera)

    # --- slots and pictures ---------------------------------------------------------------------------------------
    def lend(self, slot: int, memory: Pixels) -> None:
        assert self._buffers is not None
        if self._convert:
            self._free.append((slot, memory))
        else:
            self._buffers.lend(slot, memory)

    def trigger(self, part_id: str) -> None:
        if self._settings.trigger != "software":
            raise CameraError(
                f"camera {self.name} has trigger {self._settings.trigger}; set cameras.*.trigger: software to trigger it"
            )
        try:
            self._words.put_nowait(part_id)
        except queue.Full:
            raise CameraError(f"camera {self.name} has {_MOST_PENDING} triggers waiting, the most; trigger slower") from None

    def counters(self) -> dict[str, int]:
        return {**self._counters, **(self._buffers.statistics() if self._buffers else {})}

    def wait(self, timeout_s: float) -> Arrival | None:
        if self._ready:
            return self._ready.popleft()
        if self._failure is not None:
            raise self._failure
        try:
            if self._lost_control:
                raise CameraError(f"camera {self.name} does not answer any more, or began anew")
            if self._settings.trigger == "software" and not self._asked_s:
                return self._ask(timeout_s)
            self._receive(min(timeout_s, _COUNT_EVERY_S))
            self._look_at_the_clock()
        except CameraError as error:
            self._end(error)
        return self._ready.popleft() if self._ready else None

    def finish(self) -> bool:
        """Take what has come, and read the counter: each pulse up to now is told, by its picture or by time."""
        try:
            if self._failure is None:
                self._take_rest(time.monotonic())
        except CameraError as error:
            self._end(error)
        if self._ready:
            return False
        if self._failure is not None or self._settings.trigger != "hardware":
            return True
        is_over = time.monotonic() > self._finish_s + self.frame_timeout_s + 2 * _COUNT_EVERY_S
        return is_over or (self._settings.counter is not None and not self._pulses.rest())

    def _take_rest(self, now: float) -> None:
        """Where all counted pulses are told, whether there are more is for the counter to say."""
        is_first, self._finish_s = not self._finish_s, self._finish_s or now
        while is_first and self._receive(0):
            pass
        is_counted = self._settings.trigger == "hardware" and self._settings.counter is not None
        if is_counted and not self._ready and (is_first or not self._pulses.rest()):
            self._count_pulses(now)

    def _end(self, error: CameraError) -> None:
        """Tell what has come already, and of the pulses counted that nothing has come of; then the error."""
        words = str(error)
        self._failure = error if words.startswith("camera ") else CameraError(f"camera {self.name}: {words}")
        with contextlib.suppress(CameraError):
            while self._receive(0):
                pass
        if self._settings.counter is not None and self._settings.trigger == "hardware" and (rest := self._pulses.rest()):
            self._tell_missing(rest, f"{rest} triggers were counted when the camera was lost")

    def _ask(self, timeout_s: float) -> Arrival | None:
        """Have the camera take the next picture asked for: one at a time, so that there is no doubt whose it is."""
        try:
            word = self._words.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._arv.call("camera_software_trigger", self._camera)
        self._asked_s = time.monotonic()
        return Due(word)

    def _receive(self, timeout_s: float) -> bool:
        """Take the next buffer there is; False where none came in time."""
        assert self._buffers is not None
        buffer = self._buffers.pop(timeout_s)
        if buffer:
            self._take(buffer)
        return bool(buffer)

    def _take(self, buffer: int) -> None:
        assert self._buffers is not None
        self._heard_s = time.monotonic()
        status = self._buffers.status(buffer)
        if status != SUCCESS:
            self._failed += 1
            self._counters["incomplete"] += 1
            self._buffers.push(buffer)
            if self._pulses.news(1):
                why, at_ns = f"a picture is {STATUS[min(status, len(STATUS) - 1)]}", self._pulses.seen_ns(self._pulses.told + 1)
                self._tell(Lost(Reason.BAD_FRAME, why, trigger_ns=at_ns))
            return
        sent_ns = self._buffers.system_ns(buffer) - (time.time_ns() - time.monotonic_ns())  # the wall clock may be set at any time
        is_counted = self._settings.trigger == "hardware"
        late_ns = self._delay.ns(self._buffers.camera_ns(buffer), sent_ns) if is_counted else 0
        began_ns = sent_ns - late_ns - int((self._settings.exposure_time_us or 0) * 1000)
        if self._is_stale(buffer, began_ns):
            self._counters["stale"] += 1
            self._buffers.push(buffer)
            return
        if late_ns > self.frame_timeout_s * 1e9:
            self._buffers.push(buffer)
            self._tell(Lost(Reason.NO_FRAME, f"a picture came {late_ns / 1e6:.0f} ms late", trigger_ns=began_ns))
            return
        rows, cols = self._buffers.size(buffer)
        if (rows, cols) != (self._rows, self._cols):
            self._buffers.push(buffer)
            why = f"a picture has {cols}x{rows} pixels instead of {self._cols}x{self._rows}"
            self._tell(Lost(Reason.BAD_FRAME, why, trigger_ns=began_ns))
            return
        if self._buffers.is_torn(buffer):
            self._counters["incomplete"] += 1
            self._buffers.push(buffer)
            self._tell(Lost(Reason.BAD_FRAME, "a picture ended early", trigger_ns=began_ns))
            return
        self._hand_over(buffer, min(began_ns, time.monotonic_ns()))

    def _is_stale(self, buffer: int, began_ns: int) -> bool:
        """True for a picture that came before, or, after a software trigger, was taken before it."""
        assert self._buffers is not None
        frame_id = self._buffers.frame_id(buffer)
        if self._settings.trigger == "software":
            self._last_id = frame_id
            return not self._asked_s or began_ns < (self._asked_s - 0.002) * 1e9
        step = (frame_id - self._last_id) % _LAST_ID if self._last_id else 1
        if not step:
            return True
        if step > _MOST_MISSING:
            raise CameraError(f"camera {self.name}: the frame ids went from {self._last_id} to {frame_id}; it began anew")
        missing = self._pulses.news(max(0, step - 1 - self._failed))
        self._last_id, self._failed = frame_id, 0
        if missing > 0:
            self._tell_missing(missing, f"frame ids are missing before {self._last_id}")
        if self._pulses.is_given_up(began_ns / 1e9):
            return True
        self._pulses.has_shown()
        return False

    def _tell_missing(self, count: int, why: str, trigger_ns: int = 0) -> None:
        """Pictures that never came: for want of a free slot, or nobody knows why."""
        assert self._buffers is not None
        underruns = self._buffers.statistics().get("underruns", 0)
        is_overrun, self._underruns = underruns > self._underruns, underruns
        self._counters["overruns" if is_overrun else "missing"] += count
        at_ns = trigger_ns or self._pulses.seen_ns(self._pulses.told + count)
        self._tell(Lost(Reason.OVERRUN if is_overrun else Reason.NO_FRAME, why, count, at_ns))

    def _hand_over(self, buffer: int, began_ns: int) -> None:
        assert self._buffers is not None
        exposure = Exposure(self._rows, self._cols, self._buffers.frame_id(buffer))
        if not self._convert:
            slot = self._buffers.keep(buffer)
        elif not self._free:
            self._buffers.push(buffer)
            self._counters["overruns"] += 1
            return self._tell(Lost(Reason.OVERRUN, trigger_ns=began_ns))
        else:
            slot, memory = self._free.popleft()
            self._convert(self._buffers.memory(buffer), memory[: self._rows * self._cols].reshape(self._rows, self._cols))
            self._buffers.push(buffer)
        self._counters["pictures"] += 1
        self._tell(Picture(slot, exposure, began_ns))
        return None

    def _tell(self, arrival: Picture | Lost) -> None:
        self._pulses.told += arrival.count if isinstance(arrival, Lost) else 1
        self._asked_s = 0.0
        self._ready.append(arrival)

    # --- what time tells ------------------------------------------------------------------------------------------
    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        settings = self._settings
        if settings.trigger == "software":
            if self._asked_s and not self._ready and now - self._asked_s > self.frame_timeout_s:
                self._counters["missing"] += 1
                self._tell(Lost(Reason.NO_FRAME, f"no picture within {settings.frame_timeout_ms:g} ms of the trigger"))
        elif settings.trigger == "hardware":
            if settings.counter is not None and now >= self._next_count:
                self._count_pulses(now)
        elif now - self._heard_s > max(1.0, _SILENCES / (settings.frame_rate_hz or 20)):
            raise CameraError(f"camera {self.name} runs free and has sent nothing for {now - self._heard_s:.1f} s")

    def _count_pulses(self, now: float) -> None:
        """Compare the camera's own count of trigger pulses with the triggers told; what is older than a picture may be is lost."""
        self._next_count = now + _COUNT_EVERY_S
        device = self._arv.call("camera_get_device", self._camera)
        if not self._pulses.read(now, int(self._arv.call("device_get_integer_feature_value", device, "CounterValue"))):
            raise CameraError(f"camera {self.name} counts its triggers from 0 again: it began anew")
        while self._receive(0):  # whatever came while the camera did not answer is not lost
            pass
        told = self._pulses.told
        if lost := self._pulses.overdue(time.monotonic()):
            why = f"the camera counted {told + lost} triggers, of {told} there was word"
            self._tell_missing(lost, why, self._pulses.given_up_ns)


def _address_of(serial: str) -> str:
    """Where the camera with this serial number answers. Raises CameraError."""
    found = find_devices()
    for device in found:
        if device["serial"] == serial:
            return device["id"] if device["protocol"] == "USB3Vision" else device["address"]
    known = ", ".join(device["serial"] for device in found) or "none"
    raise CameraError(f"no camera has the serial number {serial} (found: {known}). Look at its cable, or give its address.")
