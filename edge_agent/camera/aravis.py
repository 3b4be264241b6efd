"""GigE Vision and USB3 Vision through Aravis. A frame slot is the driver's buffer: nothing is copied where the camera sends Mono8.

Everything here runs on the camera's own thread. Nothing relies on the driver to say that something is missing: a picture that
does not come is told by a gap in the frame ids, by the camera's own count of trigger pulses, or by time. Nothing here waits for the
camera's answer once it is open: it is asked on a thread of its own (`aravis_channel`).
"""

from __future__ import annotations

import time
from collections import deque

from edge_agent.camera import aravis_features as features
from edge_agent.camera.aravis_channel import COUNT_EVERY_S, Channel
from edge_agent.camera.aravis_clock import Clock, Taken
from edge_agent.camera.aravis_control import Control
from edge_agent.camera.aravis_find import address_of
from edge_agent.camera.aravis_ids import BEGAN_ANEW, FrameIds
from edge_agent.camera.aravis_library import STATUS, SUCCESS, library
from edge_agent.camera.aravis_pulses import NEARLY_S, Between, Pulses
from edge_agent.camera.aravis_stream import Buffers, open_stream
from edge_agent.camera.aravis_words import connect, counts_something_else, in_words
from edge_agent.camera.base import Arrival, Due, Exposure, Lost, Picture
from edge_agent.camera.pixelformats import converter
from edge_agent.camera.triggers import Triggers
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError, Reason
from edge_agent.records import Pixels

_LOOK = "Look at its cable and its power; it is opened again by itself."
_SILENCES = 20  # free run: so many missing frame times, and at least a second, mean that nothing comes any more


class AravisCamera:
    """One camera. See `settings.AravisCamera` for what can be set."""

    is_live = True

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.trigger_mode: str = settings.trigger
        self.counts_triggers = settings.trigger != "hardware" or settings.counter is not None
        self._has_counter = settings.trigger == "hardware" and settings.counter is not None
        self.frame_timeout_s = settings.frame_timeout_ms / 1000
        self.max_pixels = 0
        self.exposure_ns = 0  # known once open
        self._settings = settings
        self._camera = 0
        self._buffers: Buffers | None = None
        self._triggers = Triggers(settings.name, settings.trigger)
        self._counters: dict[str, int] = {}
        self._channel: Channel | None = None
        self._who = f"camera {settings.name}"
        self._control: Control | None = None

    # --- opening and closing --------------------------------------------------------------------------------------
    def open(self) -> None:
        self.close()
        arv = self._arv = library()
        address = self._settings.address or address_of(self._settings.serial or "")
        try:
            self._who = f"camera {self.name} at {address}"
            self._camera = connect(arv, address, self._settings.heartbeat_ms)
            self._require_serial()
            arv.call("camera_stop_acquisition", self._camera)  # a station that was killed left it running
            self._set_up()
            self._convert = converter(self._settings.pixel_format)
            payload = int(arv.call("camera_get_payload", self._camera))
            self.max_pixels = self._rows * self._cols if self._convert else max(payload, self._rows * self._cols)
            stream = open_stream(arv, self._camera, self._settings, payload)
            self._buffers = Buffers(arv, stream, payload, self._settings.buffers if self._convert else 0)
            self._control = Control(arv, self._camera)
            self._begin()
            arv.call("camera_start_acquisition", self._camera)
            if self._latch is not None:
                self._clock.is_told(*self._latch.ask(arv, self._camera))
            self._channel = Channel(self.name, arv, self._camera, self._latch)
        except CameraError as error:
            self.close()
            raise self._named(error) from None

    def _named(self, error: CameraError) -> CameraError:
        return CameraError(f"{self._who}: {in_words(str(error), self._settings.heartbeat_ms)}")

    def _require_serial(self) -> None:
        """Raise CameraError where another camera answers than the one looked for: the list changes while others look."""
        wanted = self._settings.serial
        if wanted is not None:
            features.require("serial", wanted, self._arv.call("camera_get_device_serial_number", self._camera))

    def _set_up(self) -> None:
        """Everything in the settings, the region once more at the end: other features may have changed it."""
        arv, camera, settings = self._arv, self._camera, self._settings
        features.set_up(arv, camera, settings)
        self._rows, self._cols, self._size = features.set_region(arv, camera, settings)
        features.set_trigger(arv, camera, settings)
        if self._has_counter:
            features.set_counter(arv, camera, settings)
        features.require_region(arv, camera, settings, self._rows, self._cols)
        self._latch = features.find_latch(arv, camera) if self._has_counter or settings.trigger == "software" else None

    def _begin(self) -> None:
        """Nothing has come yet."""
        now = time.monotonic()
        self._ready: deque[Arrival] = deque()
        self._free: deque[tuple[int, Pixels]] = deque()  # lent slots, where the picture is converted into one
        self._ids = FrameIds()
        self._failed = 0  # incomplete buffers since the last complete one
        self._failure: CameraError | None = None  # raised once all that is known has been told
        self._pulses = Pulses(self.frame_timeout_s)
        self._clock = Clock()
        self._asked_s = 0.0  # software: when the outstanding trigger was given
        self._until_s = 0.0  # and until when its picture may come
        self._told_when_counted = 0  # triggers told when the counter was last asked for
        self._heard_s, self._silence_s = now, max(1.0, _SILENCES * features.frame_period_s(self._arv, self._camera))
        self.exposure_ns = int(features.exposure_us(self._arv, self._camera) * 1000)
        self._after_pulse_s = self.exposure_ns / 1e9 + (self._settings.trigger_delay_us or 0) / 1e6
        self._finish_s = 0.0  # when the station began to stop
        self._underruns = 0
        self._counters = dict.fromkeys(("pictures", "incomplete", "missing", "stale", "overruns", "told_twice"), 0)

    def close(self) -> None:
        """Let go of the camera: it can be opened again at once, by anybody."""
        self._triggers.forget()
        camera, self._camera = self._camera, 0
        buffers, self._buffers = self._buffers, None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
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
        if self._control is not None:
            self._control.close()
            self._control = None
        arv.unref(camera)

    # --- slots and pictures ---------------------------------------------------------------------------------------
    def lend(self, slot: int, memory: Pixels) -> None:
        assert self._buffers is not None
        if self._convert:
            self._free.append((slot, memory))
        else:
            self._buffers.lend(slot, memory)

    def trigger(self, part_id: str) -> None:
        self._triggers.put(part_id)

    def counters(self) -> dict[str, int]:
        return {**self._counters, **(self._buffers.statistics() if self._buffers else {})}

    def wait(self, timeout_s: float) -> Arrival | None:
        if self._ready:
            return self._ready.popleft()
        if self._failure is not None:
            raise self._failure
        try:
            if self._control is not None and self._control.is_lost:
                raise CameraError(f"it does not answer any more, or began anew. {_LOOK}")
            if self._settings.trigger == "software" and not self._asked_s:
                return self._ask(timeout_s)
            self._receive(timeout_s if self._settings.trigger == "free_run" else min(timeout_s, COUNT_EVERY_S))
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
        is_over = time.monotonic() > self._finish_s + self.frame_timeout_s + 2 * COUNT_EVERY_S
        return is_over or (self._has_counter and not self._pulses.rest())

    def _take_rest(self, now: float) -> None:
        """Where all counted pulses are told, whether there are more is for the counter to say."""
        is_first, self._finish_s = not self._finish_s, self._finish_s or now
        while is_first and self._receive(0):
            pass
        if self._has_counter and not self._ready and (is_first or not self._pulses.rest()):
            self._told_when_counted = self._pulses.told
            if (counted := self._open_channel.count_now(self.frame_timeout_s)) is not None:
                self._compare(*counted)

    def _end(self, error: CameraError) -> None:
        """Tell what has come already, and of the pulses counted that nothing has come of; then the error."""
        self._failure = self._named(error)
        while True:
            try:
                if not self._receive(0):
                    break
            except CameraError:
                continue  # of one more picture from a camera that began anew
        if self._has_counter and (rest := self._pulses.rest()):
            self._tell_missing(rest, f"{rest} triggers were counted when the camera was lost")

    def _ask(self, timeout_s: float) -> Arrival | None:
        """Have the camera take the next picture asked for: one at a time, so that there is no doubt whose it is."""
        word = self._triggers.next(timeout_s)
        if word is None:
            self._look_at_its_clock(time.monotonic())
            return None
        self._asked_s = time.monotonic()
        self._until_s = self._asked_s + self.frame_timeout_s
        self._open_channel.fire()
        return Due(word)

    def _receive(self, timeout_s: float) -> bool:
        """Take the next buffer there is; False where none came in time."""
        assert self._buffers is not None
        buffer = self._buffers.pop(timeout_s)
        if buffer:
            self._take(buffer)
        return bool(buffer)

    def _take(self, buffer: int) -> None:
        """Make an arrival of a buffer, unless it is one that has been given up, or that nobody asked for."""
        assert self._buffers is not None
        self._heard_s = time.monotonic()
        if status := self._buffers.status(buffer):
            return self._take_failed(buffer, status)
        sent_ns = self._buffers.system_ns(buffer) - (time.time_ns() - time.monotonic_ns())  # the wall clock may be set at any time
        taken = self._clock.taken(camera_ns := self._buffers.camera_ns(buffer), sent_ns)
        if not self._is_next(buffer, frame_id := self._buffers.frame_id(buffer), camera_ns) or self._is_anothers(taken):
            self._counters["stale"] += 1
            return self._buffers.push(buffer)
        began_ns = min(taken.likely_ns - self.exposure_ns, time.monotonic_ns())
        if self._has_counter:
            self._pulses.came(self._clock.surely_ns(taken) / 1e9 - self._after_pulse_s)
        if lost := self._flaw(buffer, taken.late_ns, began_ns):
            self._buffers.push(buffer)
            return self._tell(lost)
        return self._hand_over(buffer, frame_id, began_ns)

    def _take_failed(self, buffer: int, status: int) -> None:
        """What is in it, and its id, may be an older picture's: it counts, and no more."""
        assert self._buffers is not None and status != SUCCESS
        self._failed += 1
        self._counters["incomplete"] += 1
        self._buffers.push(buffer)
        is_wanted = self._settings.trigger != "software" or self._asked_s
        if self._pulses.news(1) and is_wanted:
            why = f"a picture did not come whole: {STATUS[min(status, len(STATUS) - 1)]}"
            since_ns, at_ns = self._pulses.seen_ns(self._pulses.told + 1)
            self._tell(Lost(Reason.BAD_FRAME, why, 1, at_ns, since_ns))

    def _is_next(self, buffer: int, frame_id: int, camera_ns: int) -> bool:
        """False for a picture seen before. Tells what its id says is missing before it; raises CameraError where it says that
        the camera began anew. A software trigger's picture is known by its time alone."""
        assert self._buffers is not None
        if self._settings.trigger == "software":
            return True
        step = self._ids.step(frame_id, camera_ns)
        if step == BEGAN_ANEW:
            self._buffers.push(buffer)
            self._tell(Lost(Reason.NO_FRAME, "a picture is of a camera that began anew"))
            raise CameraError(f"the frame ids went from {self._ids.last} to {frame_id}; it began anew")
        if step > 1 and (missing := self._pulses.news(max(0, step - 1 - self._failed))):
            self._tell_missing(missing, f"of {missing} pictures before frame id {frame_id} nothing came")
        self._failed = 0 if step else self._failed
        return bool(step)

    def _is_anothers(self, taken: Taken) -> bool:
        """True for a picture of a trigger before the one that waits. While one is owed the picture is as old as it may be."""
        if self._settings.trigger == "free_run":
            return False
        taken_s = (taken.earliest_ns if self._pulses.owed else taken.likely_ns) / 1e9
        if self._settings.trigger == "hardware":
            is_anothers = self._pulses.is_given_up(taken_s - self.exposure_ns / 1e9)
        elif is_anothers := not self._asked_s or not (fired_s := self._open_channel.fired_s) or taken_s < fired_s - NEARLY_S:
            self._pulses.pay()
        if not is_anothers:
            self._pulses.has_shown()
        return is_anothers

    def _flaw(self, buffer: int, late_ns: int, began_ns: int) -> Lost | None:
        """Why a complete buffer is no picture to judge."""
        assert self._buffers is not None
        rows, cols, size = self._buffers.extent(buffer)
        if self._settings.trigger == "hardware" and late_ns > self.frame_timeout_s * 1e9:
            return Lost(Reason.NO_FRAME, f"a picture came {late_ns / 1e6:.0f} ms late", trigger_ns=began_ns)
        if (rows, cols) != (self._rows, self._cols):
            why = f"a picture has {cols}x{rows} pixels instead of {self._cols}x{self._rows}"
            return Lost(Reason.BAD_FRAME, why, trigger_ns=began_ns)
        if size < self._size:
            self._counters["incomplete"] += 1
            return Lost(Reason.BAD_FRAME, "a picture ended early", trigger_ns=began_ns)
        return None

    def _tell_missing(self, count: int, why: str, between_ns: Between | None = None) -> None:
        """Pictures that never came: for want of a free slot, or nobody knows why."""
        assert self._buffers is not None
        underruns = self._buffers.statistics().get("underruns", 0)
        is_overrun, self._underruns = underruns > self._underruns, underruns
        self._counters["overruns" if is_overrun else "missing"] += count
        since_ns, at_ns = between_ns or self._pulses.seen_ns(self._pulses.told + count)
        self._tell(Lost(Reason.OVERRUN if is_overrun else Reason.NO_FRAME, why, count, at_ns, since_ns))

    def _hand_over(self, buffer: int, frame_id: int, began_ns: int) -> None:
        assert self._buffers is not None
        exposure = Exposure(self._rows, self._cols, frame_id)
        if not self._convert:
            slot = self._buffers.slot[buffer]
        elif not self._free:
            self._buffers.push(buffer)
            self._counters["overruns"] += 1
            return self._tell(Lost(Reason.OVERRUN, "no frame slot was free when the picture came", trigger_ns=began_ns))
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
        if self._settings.trigger == "software":
            self._look_at_its_clock(now)
            self._open_channel.look_at_trigger()
            if self._asked_s and not self._ready and now > self._until_s:
                self._give_up()
        elif self._settings.trigger == "hardware":
            if self._has_counter:
                self._look_at_its_clock(now)
                self._look_at_its_counter(now)
        elif now - self._heard_s > self._silence_s:
            raise CameraError(f"it runs free and has sent nothing for {now - self._heard_s:.1f} s. {_LOOK}")

    def _give_up(self) -> None:
        """No picture for the software trigger. Should it come yet, the camera's clock tells; without one nothing more may come."""
        self._counters["missing"] += 1
        has_no_answer = self._open_channel.give_up_trigger()
        within = f"within {self._settings.frame_timeout_ms:g} ms"
        why = f"the camera did not answer the trigger {within}" if has_no_answer else f"no picture {within} of the trigger"
        self._tell(Lost(Reason.NO_FRAME, why))
        self._pulses.give_up(1)
        if has_no_answer:
            raise CameraError(f"it did not answer a trigger {within}. {_LOOK}")
        if not self._clock.is_known:
            raise CameraError(f"{why}, and it has no clock by which to tell a late one: it is opened anew")

    @property
    def _open_channel(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def _look_at_its_clock(self, now: float) -> None:
        """What the camera stamps is compared with what was given up: how its clock goes is asked now and then."""
        if (told := self._open_channel.look_at_clock(now)) is not None:
            self._clock.is_told(*told)

    def _look_at_its_counter(self, now: float) -> None:
        if not self._open_channel.is_counting:
            self._told_when_counted = self._pulses.told
        if (counted := self._open_channel.look_at_counter(now)) is not None:
            self._compare(*counted)

    def _compare(self, pulses: int, asked_s: float, at_s: float) -> None:
        """Hold the camera's own count of trigger pulses against the triggers told; what is older than a picture may be is lost."""
        if not self._pulses.read(asked_s, at_s, pulses):
            raise CameraError("it counts its triggers from 0 again: it began anew")
        self._counters["told_twice"] += self._pulses.take_back(self._told_when_counted)
        if self._pulses.counts_something_else:
            self._has_counter = self.counts_triggers = False
            raise CameraError(counts_something_else(self._settings.counter))
        while self._receive(0):  # what has come already is not lost
            pass
        told = self._pulses.told
        if lost := self._pulses.overdue(time.monotonic()):
            why = f"the camera counted {told + lost} triggers, of {told} there was word"
            self._tell_missing(lost, why, self._pulses.given_up_ns)
