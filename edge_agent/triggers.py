"""A line's triggers: each becomes a part once, and what the camera says of it afterwards is that part's.

A trigger becomes known in one of four ways: the camera says that a part is due; a picture comes by itself; the camera says
that a picture is lost; or somebody announced the part on the control socket. Whichever is first registers the part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edge_agent.announced import Announced, Registered
from edge_agent.bundle import Bundle
from edge_agent.camera.base import Camera
from edge_agent.errors import CameraError, Reason
from edge_agent.plc.parts import LineBook
from edge_agent.records import Identity, Judgement, Part

_HARDWARE = "hardware"
_NEARLY_LATE_NS = 50_000_000
_SLOW_COUNT_NS = 10_000_000_000  # a camera that does not answer for so long is given up


class Registrar(Protocol):
    """Where triggers and outcomes go: the publisher, or one view of a line of several."""

    def trigger(self, line: LineBook, part_id: str, identity: Identity | None, trigger_ns: int) -> Part: ...

    def judged(self, part: Part, judgement: Judgement) -> None: ...

    def fault(self, part: Part, reason: Reason) -> None: ...


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


class Triggers:
    """Of one camera. `trigger` and `shut` may be called from any thread, all else from the camera's own.

    Triggers are taken from `open` on until `shut`, after which none is registered any more that anybody would have to give up.
    `bundle` is what judges by now; `is_left_out` tells of a preview that the next picture is nobody's."""

    def __init__(
        self,
        book: LineBook,
        camera: Camera,
        registrar: Registrar,
        budget: Budget,
        bundle: Callable[[], Bundle],
        announce_window_s: float,
        is_left_out: Callable[[], bool],
    ) -> None:
        self.camera = camera
        self._book = book
        self._registrar = registrar
        self._budget = budget
        self._bundle = bundle
        self._is_left_out = is_left_out
        window_ns = int(announce_window_s * 1e9)
        self._announced = Announced(window_ns, lambda at_ns: self._fresh(trigger_ns=at_ns), registrar.fault, camera.is_live)
        self.is_due = False  # the camera owes the picture of a part that it said was due
        self._due: Registered | None = None
        self._words = 0
        self._is_shut = False
        self._lock = threading.Lock()  # of `_announced`, of being ready, and of what goes with them

    # --- any thread -----------------------------------------------------------------------------------------------
    def require_trigger(self) -> None:
        """Raise CameraError where nobody can trigger the camera, or announce its part."""
        if self.camera.trigger_mode == "free_run":
            raise CameraError(f"camera {self.camera.name} runs free; set cameras.*.trigger: software to trigger it")

    def trigger(self, part_id: str) -> None:
        """Register a part at once. A software trigger has the camera take its picture; a hardware trigger is thereby announced.

        Raises CameraError where the camera takes neither, and where the part's picture has come already."""
        self.require_trigger()
        with self._lock:
            if not self._book.ready or self._is_shut:
                return self._registrar.fault(self._register(part_id).part, Reason.NOT_READY)
            self._words += 1
            word = f"\0{self._words}"
            if self.camera.trigger_mode != _HARDWARE:
                self.camera.trigger(word)
            elif (shown := self._announced.shown_before(time.monotonic_ns())) is not None:
                raise CameraError(
                    f"part {part_id} is announced after its picture, which is part {shown.part_id} of line {self._book.name} now; "
                    "announce a part before its picture comes"
                )
            if not self._budget.take():
                raise CameraError(f"line {self._book.name} has taken all the parts of this run; start it without a number of parts")
            self._announced.add(word, self._register(part_id))
        return None

    def shut(self, why: str) -> None:
        """Be not ready from here on, and take no further trigger."""
        with self._lock:
            self._is_shut = True
            self._book.ready, self._book.why_not_ready = False, why

    # --- the camera's thread --------------------------------------------------------------------------------------
    def open(self, refusal: str) -> bool:
        """The camera delivers: ready, unless there is a refusal. False where the line is about to stop, and stays as it is."""
        with self._lock:
            if not self._is_shut:
                self._book.ready, self._book.why_not_ready = not refusal, refusal
            return not self._is_shut

    def come_due(self, part_id: str) -> None:
        """The camera said that a part is due: the next it says, a picture or its loss, is of this one."""
        self.is_due, self._due = True, self._registered_for(part_id)

    def of_picture(self, trigger_ns: int) -> Registered | None:
        """Whose a picture is that was triggered then; None where it is nobody's."""
        if self.is_due:
            return self._take_due()
        with self._lock:
            return self._announced.of_picture(trigger_ns)

    def of_loss(self, trigger_ns: int, since_ns: int) -> Registered | None:
        """Whose a lost picture is, and None where that part has had its outcome, or no part is wanted. Times as `Lost` has them."""
        if self.is_due:
            return self._take_due()
        clock_ns = trigger_ns if self._is_in_time(trigger_ns) else 0
        if self.camera.trigger_mode != _HARDWARE:
            return self._fresh(trigger_ns=clock_ns)
        with self._lock:
            return self._announced.of_loss(trigger_ns, clock_ns, since_ns)

    def expire(self) -> list[Part]:
        """Give up, and return, what was announced and whose picture can no longer come, or not in time: FAULT no_frame.

        A camera that counts its triggers has yet to say itself that one is lost, however slowly: that is the same part's."""
        if not len(self._announced):
            return []
        is_told = self.camera.trigger_mode == _HARDWARE and self.camera.counts_triggers
        claim_ns = 2 * self._wait_ns + _SLOW_COUNT_NS if is_told else self._wait_ns
        with self._lock:
            return self._announced.expire(time.monotonic_ns(), self._wait_ns, claim_ns)

    def give_up(self, reason: Reason) -> int:
        """No picture comes any more for what was triggered; return of how many parts."""
        with self._lock:
            count = self._announced.give_up(reason)
        due = self._take_due()
        if due is not None:
            self._registrar.fault(due.part, reason)
        return count + (due is not None)

    def patience_s(self, most_s: float) -> float:
        """Until the next announced part is to be given up, where that is soon."""
        if not len(self._announced):
            return most_s
        with self._lock:
            end_ns = self._announced.next_end_ns(self._wait_ns)
        return min(most_s, max(0.001, (end_ns - time.monotonic_ns()) / 1e9)) if end_ns else most_s

    @property
    def is_told(self) -> bool:
        """True where the camera owes nothing of all that was triggered."""
        with self._lock:
            return not (self.is_due or self._announced.is_waited_for)

    @property
    def _wait_ns(self) -> int:
        return int(min(self.camera.frame_timeout_s, 1e8) * 1e9)

    def _registered_for(self, part_id: str) -> Registered | None:
        """The announced part whose word this is, or a new one; None where it was given up, or no more parts are wanted."""
        if part_id.startswith("\0"):
            with self._lock:
                return self._announced.take(part_id)
        return self._fresh(part_id)

    def _fresh(self, part_id: str = "", trigger_ns: int = 0) -> Registered | None:
        """A new part, unless a preview leaves it out or the run has all its parts."""
        return self._register(part_id, trigger_ns) if not self._is_left_out() and self._budget.take() else None

    def _register(self, part_id: str, trigger_ns: int = 0) -> Registered:
        bundle = self._bundle()
        return Registered(self._registrar.trigger(self._book, part_id, bundle.identity, trigger_ns), bundle)

    def _take_due(self) -> Registered | None:
        """The part that the camera said was due: this is the word it owed."""
        registered, self.is_due, self._due = self._due, False, None
        return registered

    def _is_in_time(self, trigger_ns: int) -> bool:
        """False where a part triggered then would be late by now: its clock runs from here, and its reason says what happened."""
        return time.monotonic_ns() + _NEARLY_LATE_NS < trigger_ns + int(self._bundle().identity.deadline_ms * 1e6)
