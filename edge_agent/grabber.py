"""One camera's thread: it opens the camera, lends it empty slots and gives every trigger its picture, or a FAULT that says why."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable

from edge_agent.bundle import Bundle
from edge_agent.camera.base import Camera, Due, Lost, Picture
from edge_agent.errors import REASON_MEANINGS, CameraError, EndOfImages, Reason
from edge_agent.events import say
from edge_agent.plc.parts import OFFLINE, LineBook
from edge_agent.pulse import Pulse
from edge_agent.records import Frame, Part
from edge_agent.ring import Ring
from edge_agent.triggers import Budget, Registrar, Triggers

Deliver = Callable[[tuple[Part, Bundle, Frame]], None]
_TICK_S = 0.1
_LAST_S, _LONGEST_S = 0.5, 8.0  # so long at least, and at most, a stop waits for pictures of what is triggered already
_BACK_OFF_S = (0.2, 0.5, 1, 2, 5)
_COUNT_EVERY_S = 0.5
_MOST_NAMED = 5  # parts in a line of the log, causes of a failure
_FIGURES = re.compile(r"[\d.]+")  # in which the same cause differs each time
_OPENING_S = 120.0  # a driver may take so long to find, open or let go of a camera that is away
_PREVIEWED = 2  # pictures that are judged at a time in a preview


class Grabber:
    """Owns a line's camera and its frame slots. `trigger` may be called from any thread."""

    def __init__(
        self,
        book: LineBook,
        camera: Camera,
        frames: int,
        publisher: Registrar,
        budget: Budget,
        bundle: Callable[[], Bundle],
        deliver: Deliver,
        announce_window_s: float,
        keeps_latest_only: bool = False,
    ) -> None:
        self.book = book
        self.camera = camera
        self.ring: Ring | None = None  # made when the camera has told its size
        self.finished = threading.Event()  # no more triggers will come
        self.skipped = 0  # pictures of parts given up meanwhile, or left out of a preview
        self.counters: dict[str, int] = {}  # the camera's, of late
        self._frames = frames
        self._publisher = publisher
        self._budget = budget
        self._bundle = bundle
        self._deliver = deliver
        self._keeps_latest_only = keeps_latest_only
        self._count_at_s = 0.0
        self.triggers = Triggers(book, camera, publisher, budget, bundle, announce_window_s, self._is_left_out)
        self.lent: set[int] = set()  # slots that the camera may fill
        self._met: Bundle | None = None  # the one that the line's readiness and the engine's knowledge of the slots are for
        self._attempt = 0  # openings since a camera last had something to say
        self._causes: set[str] = set()  # why it failed since, without the figures, as far as that has been said
        self._last_s = 0.0  # when a stop gives up what the camera still owes
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"grab-{book.name}", daemon=True)
        self.pulse = Pulse(self.thread.name)

    def ask_to_stop(self) -> None:
        """Be not ready, and take no further trigger; returns at once."""
        self.triggers.shut("stopping")
        self._stopping.set()

    def stop(self, patience_s: float = 10) -> None:
        """Take no further trigger, and wait for the camera's end. Slots that a driver hangs on to are never used again."""
        self.ask_to_stop()
        self.thread.join(patience_s)
        if self.thread.is_alive() and self.ring is not None:
            slots = sum(self.ring.quarantine(slot) for slot in tuple(self.lent))
            say("camera.hangs", line=self.book.name, camera=self.camera.name, slots=slots)

    # --- the camera's thread --------------------------------------------------------------------------------------
    def _run(self) -> None:
        why = "stopped"
        while not self._stopping.is_set():
            self.pulse.beat(_OPENING_S)
            try:
                self.camera.open()
                self._fit_ring()
                self._set_ready()
                self._grab()
                why = "took all the parts of this run"
                break
            except EndOfImages as error:
                why, self.counters = str(error), self.camera.counters()
                break
            except CameraError as error:
                self._set_not_ready(str(error))
            except Exception as error:
                self._set_not_ready(f"{type(error).__name__}: {error}")
            finally:
                self.pulse.beat(_OPENING_S)
                self._take_back()
            self.pulse.rest()
            self._stopping.wait(_BACK_OFF_S[min(self._attempt, len(_BACK_OFF_S) - 1)])
            self._attempt += 1
        self.pulse.rest()
        self.triggers.shut(why)
        self.finished.set()
        self._give_up(Reason.NOT_READY)

    def _fit_ring(self) -> None:
        size = self.camera.max_pixels
        if self.ring is None:
            self.ring = Ring(self._frames, size)
        elif size > self.ring.slot_bytes:
            raise CameraError(
                f"camera {self.camera.name} now has pictures of {size} pixels, its frame slots {self.ring.slot_bytes}; "
                "set its region back, or start the station again"
            )

    def _meet(self, bundle: Bundle) -> None:
        """A bundle judges from here on: its engine learns of the slots where a frame is its tensor, the line may turn ready."""
        assert self.ring is not None
        known, self._met = self._met, bundle
        engine = bundle.segmenter
        if (known is None or known.segmenter is not engine) and self.ring.slot_bytes == engine.rows * engine.cols:
            engine.adopt(self.ring.memory)
        if known is not None and known.refusal != bundle.refusal:
            self._set_ready()

    def _set_ready(self) -> None:
        """The camera is open: ready, unless the engine is missing or too slow, or the line is about to stop."""
        bundle = self._bundle()
        self._meet(bundle)
        if not self.triggers.open(bundle.refusal):
            return
        self.book.verified = self.camera.counts_triggers
        if self._causes:
            self._causes.clear()
            say("camera.recovered", line=self.book.name, camera=self.camera.name)
        if bundle.refusal:
            say("line.not_ready", line=self.book.name, why=bundle.refusal)
            return
        if not self.book.verified:
            say("line.unverified", line=self.book.name, camera=self.camera.name)
        identity = self._bundle().identity
        say("line.ready", line=self.book.name, recipe=identity.recipe, engine=identity.engine_id)

    def _set_not_ready(self, why: str) -> None:
        self.book.ready, self.book.why_not_ready = False, why
        self._give_up(Reason.NO_FRAME)
        had, cause = len(self._causes), _FIGURES.sub("", why)
        if cause not in self._causes and had < _MOST_NAMED:
            self._causes.add(cause)
            say("camera.failed", line=self.book.name, camera=self.camera.name, why=why)
        if not had:
            say("line.not_ready", line=self.book.name, why=f"camera {self.camera.name} does not deliver: camera.failed says why")

    def _take_back(self) -> None:
        """Close the camera; what it was lent is the ring's again."""
        self.camera.close()
        for slot in self.lent:
            assert self.ring is not None
            self.ring.give_back(slot)
        self.lent.clear()

    def _grab(self) -> None:
        assert self.ring is not None
        ring, camera = self.ring, self.camera
        while not self._is_over():
            self.pulse.beat()
            if self._bundle() is not self._met:
                self._meet(self._bundle())
            while (camera.is_live or not self.lent) and (slot := ring.lease()) is not None:
                self.lent.add(slot)
                camera.lend(slot, ring.view(slot))
            if not self.lent and not camera.is_live and not self.triggers.is_due:
                ring.wait_for_room(max(1, ring.slots // 4), _TICK_S)
                continue
            arrival = camera.wait(self.triggers.patience_s(_TICK_S))
            self._expire()
            if arrival is None or self._count_at_s < time.monotonic():
                self._count_at_s = time.monotonic() + _COUNT_EVERY_S
                self.counters = camera.counters()
            if arrival is not None:
                self._attempt = 0
                self._take(arrival)

    def _is_over(self) -> bool:
        """True when nothing more is wanted and all that was triggered has been told, or takes too long."""
        is_stopping = self._stopping.is_set()
        if not (is_stopping or self._budget.is_spent):
            return False
        if not self._last_s:
            timeout_s = self.camera.frame_timeout_s if math.isfinite(self.camera.frame_timeout_s) else 0.0
            self._last_s = time.monotonic() + min(max(_LAST_S, 2 * timeout_s), _LONGEST_S)
        is_told = (self.camera.finish() if is_stopping else True) and self.triggers.is_told
        return is_told or time.monotonic() > self._last_s

    def _take(self, arrival: Due | Picture | Lost) -> None:
        if isinstance(arrival, Due):
            self.triggers.come_due(arrival.part_id)
        elif isinstance(arrival, Picture):
            self._take_picture(arrival)
        else:
            self._take_lost(arrival)

    def _take_picture(self, picture: Picture) -> None:
        """Pass the picture on with its part."""
        assert self.ring is not None
        registered = self.triggers.of_picture(picture.trigger_ns or time.monotonic_ns())
        self.lent.discard(picture.slot)
        if registered is None or self.book.mode == OFFLINE or registered.bundle.refusal:
            self.ring.give_back(picture.slot)
            if registered is None:
                self.skipped += 1
            else:
                self._publisher.fault(registered.part, Reason.NOT_READY)
            return
        if (late_ns := time.monotonic_ns() - registered.part.deadline_ns) > 0:
            waited_ms = (time.monotonic_ns() - registered.part.trigger_ns) / 1e6
            why = f"the picture came {waited_ms:.0f} ms after its trigger, {late_ns / 1e6:.0f} ms after the last time to judge it"
            self._say_lost(Reason.LATE, why)
        exposure = picture.exposure
        pixels = self.ring.view(picture.slot)[: exposure.rows * exposure.cols].reshape(exposure.rows, exposure.cols)
        self._deliver((*registered, Frame(picture.slot, pixels, exposure.frame_id, exposure.name, self.camera.is_live)))

    def _take_lost(self, lost: Lost) -> None:
        """One FAULT for each trigger without a picture: first those that are known, then those nobody knew of until now."""
        self._say_lost(lost.reason, lost.why or REASON_MEANINGS[lost.reason], lost.count)
        for _ in range(lost.count):
            if self._keeps_latest_only and not self.triggers.is_due:
                continue  # nobody misses it in a preview
            registered = self.triggers.of_loss(lost.trigger_ns, lost.since_ns)
            if registered is not None:
                reason = Reason.NOT_READY if self.book.mode == OFFLINE else lost.reason
                self._publisher.fault(registered.part, reason)

    def _say_lost(self, reason: Reason, why: str, count: int = 1) -> None:
        say("camera.lost", line=self.book.name, camera=self.camera.name, reason=reason.value, why=why, count=count)

    def _expire(self) -> None:
        """A part announced whose picture can no longer come, or not in time, is FAULT no_frame now."""
        if ended := self.triggers.expire():
            named = ", ".join(part.part_id for part in ended[:_MOST_NAMED]) + ("..." if len(ended) > _MOST_NAMED else "")
            timeout_s = self.camera.frame_timeout_s
            limit = f"within {timeout_s * 1000:g} ms or the deadline" if math.isfinite(timeout_s) else "before the deadline"
            self._say_lost(Reason.NO_FRAME, f"announced, and no picture came {limit}: part {named}", len(ended))

    def _give_up(self, reason: Reason) -> None:
        """No picture comes any more for what was triggered."""
        if count := self.triggers.give_up(reason):
            self._say_lost(reason, f"nothing came of them any more: {self.book.why_not_ready}", count)

    def _is_left_out(self) -> bool:
        """True in a preview while two pictures are being judged: the next that comes after them is newer."""
        if not self._keeps_latest_only:
            return False
        assert self.ring is not None
        return self.ring.slots - self.ring.free - len(self.lent) >= _PREVIEWED
