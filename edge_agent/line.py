"""One inspection point, trigger to delivery.

Threads of a line:
  grab     (`_grab`)     waits for triggers, registers each with the publisher, fills frame slots. Camera calls stay here.
  inspect  (`_inspect`)  checks the picture, prepares tensors, submits them, measures maps, judges, hands over evidence.
  engine   (OpenVINO's)  computes; its callback only puts the tensor slot into the inspect thread's queue.
Threads around it: publisher (deadlines, verdicts), evidence (PNG), outbox writer, sender, main.

One part: `_take_trigger` -> `_expose` -> `_begin` -> `_submit` -> engine -> `_on_map` -> `_conclude`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from edge_agent.bundle import Bundle, Inspection
from edge_agent.camera.base import Camera
from edge_agent.errors import CameraError, EdgeAgentError, EndOfImages, EngineError, Reason
from edge_agent.events import say
from edge_agent.inference.base import TensorSlot
from edge_agent.plc.parts import OFFLINE, LineBook
from edge_agent.plc.publisher import Publisher
from edge_agent.records import FAULT, LATE, Frame, Judgement, Part
from edge_agent.ring import Ring

Observe = Callable[[Inspection, Judgement], None]
Picture = tuple[Part, Bundle, Frame]
_STOP = object()
_TICK_S = 0.1
_BACK_OFF_S = (0.2, 0.5, 1, 2, 5)


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


class Line:
    """Owns its camera, ring and threads. `observe` sees every judged part while its frame and map are still there."""

    def __init__(
        self,
        book: LineBook,
        camera: Camera,
        frames: int,
        bundle: Bundle,
        publisher: Publisher,
        evidence: Observe,
        budget: Budget,
    ) -> None:
        self.book = book
        self.camera = camera
        self.ring = Ring(frames, camera.max_pixels)
        self.bundle = bundle
        self._publisher = publisher
        self._evidence = evidence
        self._budget = budget
        self._work: queue.SimpleQueue[Picture | TensorSlot | object] = queue.SimpleQueue()
        self._pending: deque[Inspection] = deque()  # inspections with tensors still to submit, oldest first
        self._in_flight = 0
        self._stitching: Inspection | None = None  # the part whose tiles are on the canvases
        self._announced: deque[tuple[Part, Bundle]] = deque()  # triggers from outside, registered before the camera knows
        self._announcing = threading.Lock()
        self._stale = 0  # triggers the camera still holds whose parts were given up
        self._stopping = threading.Event()
        self.finished = threading.Event()  # no more triggers will come
        book.identity = bundle.identity
        grabber = threading.Thread(target=self._grab, name=f"grab-{book.name}", daemon=True)
        inspector = threading.Thread(target=self._inspect, name=f"inspect-{book.name}", daemon=True)
        self.threads = (grabber, inspector)

    def start(self) -> None:
        for thread in reversed(self.threads):
            thread.start()

    def stop_triggers(self) -> None:
        """Take no further trigger; what is registered is still judged."""
        self._stopping.set()
        self.threads[0].join(timeout=10)

    def close(self) -> None:
        """End the inspect thread after everything queued, then the camera."""
        self._work.put(_STOP)
        self.threads[1].join(timeout=10)
        self.camera.close()

    def trigger(self, part_id: str) -> None:
        """Register a part at once and have the camera take its picture. Raises CameraError where the camera takes no trigger."""
        with self._announcing:
            if self.book.ready and not self.finished.is_set():
                self.camera.trigger(part_id)
                self._announced.append(self._register(part_id))
            else:
                self._publisher.fault(self._register(part_id)[0], Reason.NOT_READY)

    def _register(self, part_id: str) -> tuple[Part, Bundle]:
        bundle = self.bundle
        return self._publisher.trigger(self.book, part_id, bundle.identity), bundle

    def _give_up_announced(self) -> None:
        """No picture will be taken for these: they are FAULT not_ready now rather than late. The camera still owes their words."""
        with self._announcing:
            self._stale += len(self._announced)
            while self._announced:
                self._publisher.fault(self._announced.popleft()[0], Reason.NOT_READY)

    def _next_part(self, part_id: str) -> tuple[Part, Bundle] | None:
        """The part the camera speaks of: announced, or new; None where it was given up meanwhile."""
        with self._announcing:
            if self._stale:
                self._stale -= 1
                return None
            return self._announced.popleft() if self._announced else self._register(part_id)

    def swap(self, bundle: Bundle) -> None:
        """Judge every trigger from here on by `bundle`; parts on their way keep theirs."""
        self.bundle = bundle
        self.book.identity = bundle.identity

    # --- grab thread ----------------------------------------------------------------------------------------------
    def _grab(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                self.camera.open()
                if attempt:
                    say("camera.recovered", line=self.book.name, camera=self.camera.name)
                self._set_ready()
                self._grab_until_stopped()
                break
            except EndOfImages:
                break
            except CameraError as error:
                self._set_not_ready(str(error), attempt)
                self._stopping.wait(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
                attempt += 1
            except Exception as error:
                self._set_not_ready(f"{type(error).__name__}: {error}", attempt)
                self._stopping.wait(1)
                attempt += 1
        self.finished.set()
        self._give_up_announced()

    def _set_ready(self) -> None:
        self.book.ready, self.book.why_not_ready = True, ""
        say("line.ready", line=self.book.name, recipe=self.bundle.identity.recipe, engine=self.bundle.identity.engine_id)

    def _set_not_ready(self, why: str, attempt: int) -> None:
        self.book.ready, self.book.why_not_ready = False, why
        self._give_up_announced()
        if attempt == 0:
            say("camera.failed", line=self.book.name, camera=self.camera.name, why=why)
            say("line.not_ready", line=self.book.name, why=why)

    def _grab_until_stopped(self) -> None:
        slot: int | None = None
        try:
            while not self._stopping.is_set() and not self._budget.is_spent:
                if slot is None:
                    slot = self.ring.lease()
                    if slot is None and not self.camera.is_live:
                        self.ring.wait_for_room(max(1, self.ring.slots // 4), _TICK_S)
                        continue
                part_id = self.camera.wait_for_trigger(_TICK_S)
                if part_id is None or not self._budget.take():
                    continue
                due = self._next_part(part_id)
                if due is not None:
                    slot = self._expose(*due, self.ring.lease() if slot is None else slot)
        finally:
            if slot is not None:
                self.ring.give_back(slot)

    def _expose(self, part: Part, bundle: Bundle, slot: int | None) -> int | None:
        """Fill the slot and pass it on; return the slot where it is still ours."""
        if self.book.mode == OFFLINE:
            self._publisher.fault(part, Reason.NOT_READY)
            return slot
        if slot is None:
            self._publisher.fault(part, Reason.OVERRUN)
            return None
        try:
            memory = self.ring.view(slot)
            exposure = self.camera.fill(memory)
        except CameraError as error:
            say("camera.failed", line=self.book.name, part=part.part_id, why=str(error))
            self._publisher.fault(part, Reason.BAD_FRAME)
            return slot
        pixels = memory[: exposure.rows * exposure.cols].reshape(exposure.rows, exposure.cols)
        self._work.put((part, bundle, Frame(slot, pixels, exposure.frame_id, exposure.name)))
        return None

    # --- inspect thread -------------------------------------------------------------------------------------------
    def _inspect(self) -> None:
        stopping = False
        while not (stopping and not self._in_flight and not self._pending):
            try:
                item = self._work.get(timeout=_TICK_S)
            except queue.Empty:
                self._submit()  # another line may have returned a tensor slot meanwhile
                continue
            if item is _STOP:
                stopping = True
            elif isinstance(item, TensorSlot):
                self._on_map(item)
            else:
                self._begin(*item)  # type: ignore[misc]
            self._submit()

    def _begin(self, part: Part, bundle: Bundle, frame: Frame) -> None:
        """Look at the picture; a bad one needs no engine, nor does one whose time is over: it would only make the next late."""
        inspection = bundle.begin(part, frame)
        if time.monotonic_ns() >= part.deadline_ns:
            return self._conclude(inspection, LATE)
        try:
            fault = inspection.look()
        except EdgeAgentError as error:
            say("camera.failed", line=self.book.name, part=part.part_id, why=str(error))
            return self._conclude(inspection, Judgement(FAULT, (Reason.BAD_FRAME.value,)))
        except Exception as error:
            say("part.failed", line=self.book.name, part=part.part_id, exc_info=error)
            return self._conclude(inspection, Judgement(FAULT, (Reason.INTERNAL.value,)))
        if fault is not None:
            return self._conclude(inspection, fault)
        self._pending.append(inspection)
        return None

    def _submit(self) -> None:
        """Give the engine as much as it has slots for, oldest part first."""
        while self._pending:
            inspection = self._pending[0]
            if inspection.is_untouched and time.monotonic_ns() >= inspection.part.deadline_ns:
                self._pending.popleft()
                self._conclude(inspection, LATE)
                continue
            if self._stitching is not None and self._stitching is not inspection and inspection.is_stitched:
                return  # the canvases serve one part at a time
            segmenter = inspection.bundle.segmenter
            slot = segmenter.lease()
            if slot is None:
                return
            try:
                inspection.submit(slot, self._work.put)
            except EngineError as error:
                self._pending.popleft()
                segmenter.release(slot)
                self._engine_failed(inspection, error)
                continue
            self._in_flight += 1
            if inspection.is_stitched:
                self._stitching = inspection
            if inspection.all_submitted:
                self._pending.popleft()

    def _on_map(self, slot: TensorSlot) -> None:
        inspection: Inspection = slot.ticket[0]
        self._in_flight -= 1
        judgement: Judgement | None = None
        try:
            judgement = None if inspection.is_concluded else inspection.take_map(slot)
        except EngineError as error:
            self._engine_failed(inspection, error)
        except Exception as error:
            say("part.failed", line=self.book.name, part=inspection.part.part_id, exc_info=error)
            self._conclude(inspection, Judgement(FAULT, (Reason.INTERNAL.value,)))
        if judgement is not None:
            self._conclude(inspection, judgement)
        inspection.bundle.segmenter.release(slot)

    def _engine_failed(self, inspection: Inspection, error: EngineError) -> None:
        say("engine.failed", line=self.book.name, part=inspection.part.part_id, why=str(error))
        self._conclude(inspection, Judgement(FAULT, (Reason.ENGINE.value,)))

    def _conclude(self, inspection: Inspection, judgement: Judgement) -> None:
        """Offer the outcome, then the evidence, then give the frame slot back; once per part."""
        if inspection.is_concluded:
            return
        inspection.is_concluded = True
        if self._stitching is inspection:
            self._stitching = None
        self._publisher.judged(inspection.part, judgement)
        try:
            self._evidence(inspection, judgement)
        except Exception as error:
            say("part.failed", line=self.book.name, part=inspection.part.part_id, exc_info=error)
        self.ring.give_back(inspection.frame.slot)
