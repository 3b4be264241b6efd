"""One camera's thread: it lends the camera empty slots and gives every trigger its picture, or a FAULT that says why not.

A trigger becomes known in one of four ways: the camera says that a part is due; a picture comes by itself; the camera says
that a picture is lost; or somebody announced the part on the control socket. Whichever is first registers the part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edge_agent.bundle import Bundle
from edge_agent.camera.base import Camera, Due, Lost, Picture
from edge_agent.errors import CameraError, EndOfImages, Reason
from edge_agent.events import say
from edge_agent.plc.parts import OFFLINE, LineBook
from edge_agent.pulse import Pulse
from edge_agent.records import Frame, Identity, Judgement, Part
from edge_agent.ring import Ring


class Registrar(Protocol):
    """Where triggers and outcomes go: the publisher, or one view of a line of several."""

    def trigger(self, line: LineBook, part_id: str, identity: Identity | None, trigger_ns: int) -> Part: ...

    def judged(self, part: Part, judgement: Judgement) -> None: ...

    def fault(self, part: Part, reason: Reason) -> None: ...


Registered = tuple[Part, Bundle]
Deliver = Callable[[tuple[Part, Bundle, Frame]], None]
_TICK_S = 0.1
_LAST_S = 0.5  # a stop waits so long for pictures of parts that are triggered already
_BACK_OFF_S = (0.2, 0.5, 1, 2, 5)
_HARDWARE = "hardware"
_COUNT_EVERY_S = 0.5
_OPENING_S = 120.0  # a driver may take so long to find, open or let go of a camera that is away
_PREVIEWED = 2  # pictures that are judged at a time in a preview


class Budget:
    """How many triggers a run may take; 0 is without end. Shared by all lines of a daemon."""

    def __init__(self, parts: int) -> None:
        self._left = parts or -1
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            return True

    @property
    def is_spent(self) -> bool:
        return self._left == 0


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
        self._window_ns = int(announce_window_s * 1e9)
        self._lent: set[int] = set()
        self._due: Registered | None = None
        self._is_due = False  # the camera owes the picture of a part that it said was due
        self._announced: dict[str, Registered] = {}  # by the word given to the camera; oldest first
        self._words = 0
        self._attempt = 0  # openings since a camera last had something to say
        self._lock = threading.Lock()  # of `_announced`, and of what goes with it
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"grab-{book.name}", daemon=True)
        self.pulse = Pulse(self.thread.name)

    def ask_to_stop(self) -> None:
        """Take no further trigger; returns at once."""
        self._stopping.set()

    def stop(self, patience_s: float = 10) -> None:
        """Take no further trigger, and wait for the camera's end. Slots that a driver hangs on to are never used again."""
        self.ask_to_stop()
        self.thread.join(patience_s)
        if self.thread.is_alive() and self.ring is not None:
            for slot in tuple(self._lent):
                self.ring.quarantine(slot)
            say("camera.hangs", line=self.book.name, camera=self.camera.name, slots=len(self._lent))

    def trigger(self, part_id: str) -> None:
        """Register a part at once. A software trigger has the camera take its picture; a hardware trigger is thereby announced.

        Raises CameraError where the camera takes neither."""
        if self.camera.trigger_mode == "free_run":
            raise CameraError(f"camera {self.camera.name} runs free; set cameras.*.trigger: software to trigger it")
        with self._lock:
            if not self.book.ready or self.finished.is_set() or self._stopping.is_set():
                return self._publisher.fault(self._register(part_id)[0], Reason.NOT_READY)
            self._words += 1
            word = f"\0{self._words}"
            if self.camera.trigger_mode != _HARDWARE:
                self.camera.trigger(word)
            if not self._budget.take():
                raise CameraError(f"line {self.book.name} has taken all the parts of this run; start it without a number of parts")
            self._announced[word] = self._register(part_id)
        return None

    # --- the camera's thread --------------------------------------------------------------------------------------
    def _run(self) -> None:
        why = "stopped"
        while not self._stopping.is_set():
            self.pulse.beat(_OPENING_S)
            try:
                self.camera.open()
                self._fit_ring()
                if self._attempt:
                    say("camera.recovered", line=self.book.name, camera=self.camera.name)
                self._set_ready()
                self._grab()
                why = "took all the parts of this run"
                break
            except EndOfImages as error:
                why = str(error)
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
        self.book.ready, self.book.why_not_ready = False, why
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

    def _set_ready(self) -> None:
        self.book.ready, self.book.why_not_ready = True, ""
        self.book.verified = self.camera.counts_triggers
        if not self.book.verified:
            say("line.unverified", line=self.book.name, camera=self.camera.name)
        identity = self._bundle().identity
        say("line.ready", line=self.book.name, recipe=identity.recipe, engine=identity.engine_id)

    def _set_not_ready(self, why: str) -> None:
        self.book.ready, self.book.why_not_ready = False, why
        self._give_up(Reason.NO_FRAME)
        if not self._attempt:
            say("camera.failed", line=self.book.name, camera=self.camera.name, why=why)
            say("line.not_ready", line=self.book.name, why=why)

    def _take_back(self) -> None:
        """Close the camera; what it was lent is the ring's again."""
        self.camera.close()
        for slot in self._lent:
            assert self.ring is not None
            self.ring.give_back(slot)
        self._lent.clear()

    def _grab(self) -> None:
        assert self.ring is not None
        ring, camera = self.ring, self.camera
        until_s = 0.0
        while True:
            self.pulse.beat()
            if self._stopping.is_set() or self._budget.is_spent:
                until_s = until_s or time.monotonic() + _LAST_S
                if not (self._is_due or self._announced) or time.monotonic() > until_s:
                    return
            while (camera.is_live or not self._lent) and (slot := ring.lease()) is not None:
                self._lent.add(slot)
                camera.lend(slot, ring.view(slot))
            if not self._lent and not camera.is_live and not self._is_due:
                ring.wait_for_room(max(1, ring.slots // 4), _TICK_S)
                continue
            arrival = camera.wait(_TICK_S)
            if self._announced:
                self._expire()
            if arrival is None or self._count_at_s < time.monotonic():
                self._count_at_s = time.monotonic() + _COUNT_EVERY_S
                self.counters = camera.counters()
            if arrival is not None:
                self._attempt = 0
                self._take(arrival)

    def _take(self, arrival: Due | Picture | Lost) -> None:
        if isinstance(arrival, Due):
            self._is_due, self._due = True, self._registered_for(arrival.part_id)
        elif isinstance(arrival, Picture):
            self._take_picture(arrival)
        else:
            self._take_lost(arrival)

    def _registered_for(self, part_id: str) -> Registered | None:
        """The announced part whose word this is, or a new one; None where it was given up, or no more parts are wanted."""
        if part_id.startswith("\0"):
            with self._lock:
                return self._announced.pop(part_id, None)
        return self._fresh(part_id)

    def _fresh(self, part_id: str = "", trigger_ns: int = 0) -> Registered | None:
        """A new part, unless a preview leaves it out or the run has all its parts."""
        return self._register(part_id, trigger_ns) if not self._is_left_out() and self._budget.take() else None

    def _take_due(self) -> Registered | None:
        """The part that the camera said was due: this is the word it owed."""
        registered, self._is_due, self._due = self._due, False, None
        return registered

    def _is_left_out(self) -> bool:
        """True in a preview while two pictures are being judged: the next that comes after them is newer."""
        if not self._keeps_latest_only:
            return False
        assert self.ring is not None
        return self.ring.slots - self.ring.free - len(self._lent) >= _PREVIEWED

    def _register(self, part_id: str, trigger_ns: int = 0) -> Registered:
        bundle = self._bundle()
        return self._publisher.trigger(self.book, part_id, bundle.identity, trigger_ns), bundle

    def _take_picture(self, picture: Picture) -> None:
        """Pass the picture on with its part."""
        assert self.ring is not None
        registered = self._take_due() if self._is_due else self._matching(picture.trigger_ns or time.monotonic_ns())
        self._lent.discard(picture.slot)
        if registered is None or self.book.mode == OFFLINE:
            self.ring.give_back(picture.slot)
            if registered is None:
                self.skipped += 1
            else:
                self._publisher.fault(registered[0], Reason.NOT_READY)
            return
        exposure = picture.exposure
        pixels = self.ring.view(picture.slot)[: exposure.rows * exposure.cols].reshape(exposure.rows, exposure.cols)
        self._deliver((*registered, Frame(picture.slot, pixels, exposure.frame_id, exposure.name, self.camera.is_live)))

    def _matching(self, trigger_ns: int) -> Registered | None:
        """The part of a picture that came by itself: one announced at about that time, or a new one.

        Where two were announced within the window nobody knows whose it is: both are FAULT ambiguous."""
        if self._announced:
            with self._lock:
                near = {w: r for w, r in self._announced.items() if abs(r[0].trigger_ns - trigger_ns) <= self._window_ns}
                for word in near:
                    del self._announced[word]
            if len(near) == 1:
                return next(iter(near.values()))
            for part, _ in near.values():
                self._publisher.fault(part, Reason.AMBIGUOUS)
            if near:
                return None
        return self._fresh(trigger_ns=trigger_ns)

    def _take_lost(self, lost: Lost) -> None:
        """One FAULT for each trigger without a picture: first those that are known, then those nobody knew of until now."""
        if lost.why:
            say(
                "camera.lost",
                line=self.book.name,
                camera=self.camera.name,
                reason=lost.reason.value,
                why=lost.why,
                count=lost.count,
            )
        for _ in range(lost.count):
            if self._is_due:
                registered = self._take_due()
            elif self._keeps_latest_only:
                registered = None  # nobody misses it in a preview
            else:
                registered = self._oldest_announced() or self._fresh()
            if registered is not None:
                reason = Reason.NOT_READY if self.book.mode == OFFLINE else lost.reason
                self._publisher.fault(registered[0], reason)

    def _oldest_announced(self) -> Registered | None:
        """Hardware: the part that a lost picture was announced for. Should it be the next one's, that is a FAULT, never a PASS."""
        if self.camera.trigger_mode != _HARDWARE:
            return None
        with self._lock:
            return self._announced.pop(next(iter(self._announced))) if self._announced else None

    def _expire(self) -> None:
        """A part announced whose picture can no longer come is FAULT no_frame now.

        A camera that counts its triggers gets as long again, to say itself that one is lost: saying both makes two parts of one."""
        is_told = self.camera.trigger_mode == _HARDWARE and self.camera.counts_triggers
        oldest_ns = time.monotonic_ns() - int(min(self.camera.frame_timeout_s, 1e8) * (2e9 if is_told else 1e9))
        with self._lock:
            for word in [w for w, (part, _) in self._announced.items() if part.trigger_ns < oldest_ns]:
                self._publisher.fault(self._announced.pop(word)[0], Reason.NO_FRAME)

    def _give_up(self, reason: Reason) -> None:
        """No picture comes any more for what was triggered."""
        with self._lock:
            waiting = [*self._announced.values(), *([self._due] if self._due else [])]
            self._announced.clear()
        self._is_due, self._due = False, None
        for part, _ in waiting:
            self._publisher.fault(part, reason)
