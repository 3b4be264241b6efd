"""One inspection point, trigger to delivery.

Threads of a line:
  grab     (`Grabber`)   the camera's own: registers each trigger with the publisher, brings its picture in a frame slot.
  inspect  (`_inspect`)  checks the picture, prepares tensors, submits them, measures maps, judges, hands over evidence.
  engine   (OpenVINO's, or `gpu`)  computes; its callback only puts the tensor slot into the inspect thread's queue. What failed
                         in OpenVINO is put there by `watch-engine`.
Threads around it: publisher (deadlines, verdicts), evidence (PNG), outbox writer, sender, main.

One part: `Grabber` -> `_begin` -> `_submit` -> engine -> `_on_map` -> `_conclude`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from edge_agent.bundle import Bundle, Inspection
from edge_agent.camera.base import Camera
from edge_agent.errors import EdgeAgentError, EngineError, Reason
from edge_agent.events import say
from edge_agent.grabber import Grabber
from edge_agent.inference.base import Segmenter, TensorSlot
from edge_agent.inference.prepare import RegionError
from edge_agent.plc.parts import LineBook
from edge_agent.pulse import Pulse
from edge_agent.records import LATE, Frame, Judgement, Part, Pixels, fault_of, late_instead
from edge_agent.settings import LineSettings
from edge_agent.triggers import Budget, Registrar

Observe = Callable[[Inspection, Judgement], None]
Picture = tuple[Part, Bundle, Frame]
_STOP, _TURN = object(), object()  # in the inspect thread's queue: end; a tensor slot is kept for this line
_TICK_S = 0.1
_NO_SLOT = -1


class Line:
    """Its grabber brings pictures with their parts; its inspect thread judges them. `observe` sees every judged part while its
    frame and map are still there."""

    def __init__(
        self,
        book: LineBook,
        camera: Camera,
        settings: LineSettings,
        bundle: Bundle,
        publisher: Registrar,
        evidence: Observe,
        budget: Budget,
    ) -> None:
        self.book = book
        self.bundle = bundle
        self.guard_ms = settings.deadline_guard_ms
        self.is_view = bool(settings.views)
        self._publisher = publisher
        self._evidence = evidence
        self._work: queue.SimpleQueue[Picture | TensorSlot | object] = queue.SimpleQueue()
        self._pending: deque[Inspection] = deque()  # inspections with tensors still to submit, oldest first
        self._in_flight = 0
        self.frames = 0  # pictures that came here with their part
        self._waiting_for: Segmenter | None = None  # the engine whose next free slot is this line's
        self._wake = partial(self._work.put, _TURN)
        self._stitching: Inspection | None = None  # the part whose tiles are on the canvases
        window_s, is_preview = settings.announce_window_ms / 1000, settings.delivery == "latest"
        self.grabber = Grabber(
            book, camera, settings.frames, publisher, budget, lambda: self.bundle, self._work.put, window_s, is_preview
        )
        book.identity = bundle.identity
        self._inspector = threading.Thread(target=self._inspect, name=f"inspect-{book.name}", daemon=True)
        self.threads = (self.grabber.thread, self._inspector)
        self.pulse = Pulse(self._inspector.name)

    def start(self) -> None:
        self._inspector.start()
        self.grabber.thread.start()

    def judge(self, part: Part, bundle: Bundle, pixels: Pixels, name: str) -> None:
        """Judge a picture (rows, cols) uint8 that came from no camera: a master part's. It needs no frame slot."""
        self._work.put((part, bundle, Frame(_NO_SLOT, pixels, 0, name, is_live=False)))

    def close(self, patience_s: float = 10) -> None:
        """End the inspect thread after everything queued, and wait for that. The grabber has stopped before."""
        self._work.put(_STOP)
        self._inspector.join(patience_s)

    @property
    def waiting(self) -> int:
        """Pictures that wait for the engine, and those in it."""
        return self._work.qsize() + len(self._pending) + self._in_flight

    def swap(self, bundle: Bundle) -> None:
        """Judge every trigger from here on by `bundle`; parts on their way keep theirs."""
        self.bundle = bundle
        self.book.identity = bundle.identity

    # --- inspect thread -------------------------------------------------------------------------------------------
    def _inspect(self) -> None:
        stopping = False
        while not (stopping and not self._in_flight and not self._pending):
            try:
                item = self._work.get(timeout=_TICK_S)
            except queue.Empty:
                if not self._in_flight:
                    self.pulse.beat()  # nothing to do; an engine that owes a map must give it
                self._submit()  # lets go of pictures whose time is over
                continue
            if not self._in_flight or isinstance(item, TensorSlot):
                self.pulse.beat()
            if item is _STOP:
                stopping = True
            elif item is _TURN:
                pass
            elif isinstance(item, TensorSlot):
                self._on_map(item)
            else:
                self._begin(*item)  # type: ignore[misc]
            self._submit()
            if not self._pending:
                self._wait_for(None)  # what waited is late meanwhile: the slot is another line's

    def _begin(self, part: Part, bundle: Bundle, frame: Frame) -> None:
        """Look at the picture; a bad one needs no engine, nor does one whose time is over: it would only make the next late.

        That one is looked at too: the next picture may be the same again."""
        self.frames += 1
        inspection = bundle.begin(part, frame)
        try:
            fault = inspection.look()
        except RegionError:  # said once, for the recipe and the shape of its frames
            return self._conclude(inspection, fault_of(Reason.BAD_FRAME))
        except EdgeAgentError as error:
            say("camera.failed", line=self.book.name, part=part.part_id, why=str(error))
            return self._conclude(inspection, fault_of(Reason.BAD_FRAME))
        except Exception as error:
            say("part.failed", line=self.book.name, part=part.part_id, exc_info=error)
            return self._conclude(inspection, fault_of(Reason.INTERNAL))
        if time.monotonic_ns() >= part.deadline_ns:
            fault = LATE
        if fault is not None:
            return self._conclude(inspection, fault)
        self._pending.append(inspection)
        return None

    def _submit(self) -> None:
        """Give the engine as much as it has slots for, oldest part first."""
        while self._pending:
            inspection = self._pending[0]
            if inspection.is_concluded:  # by one tile's error; the others are not needed any more
                self._pending.popleft()
                continue
            if inspection.is_untouched and time.monotonic_ns() >= inspection.part.deadline_ns:
                self._pending.popleft()
                self._conclude(inspection, LATE)
                continue
            if self._stitching is not None and self._stitching is not inspection and inspection.is_stitched:
                return  # the canvases serve one part at a time
            segmenter = inspection.bundle.segmenter
            slot = segmenter.lease(self._wake)
            if slot is None:
                self._wait_for(segmenter)
                return
            try:
                inspection.submit(slot, self._work.put)
            except EngineError as error:
                self._pending.popleft()
                segmenter.release(slot, self._wake)
                self._engine_failed(inspection, error)
                continue
            self._in_flight += 1
            if inspection.is_stitched:
                self._stitching = inspection
            if inspection.all_submitted:
                self._pending.popleft()

    def _wait_for(self, segmenter: Segmenter | None) -> None:
        """The next free slot of this engine is the line's; one that it waited for at another it leaves to other lines."""
        if self._waiting_for is not None and self._waiting_for is not segmenter:
            self._waiting_for.forgo(self._wake)
        self._waiting_for = segmenter

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
            self._conclude(inspection, fault_of(Reason.INTERNAL))
        if judgement is not None:
            self._conclude(inspection, judgement)
        inspection.bundle.segmenter.release(slot, self._wake)

    def _engine_failed(self, inspection: Inspection, error: EngineError) -> None:
        say("engine.failed", line=self.book.name, part=inspection.part.part_id, why=str(error))
        self._conclude(inspection, fault_of(Reason.ENGINE))

    def _conclude(self, inspection: Inspection, judgement: Judgement) -> None:
        """Offer the outcome, then the evidence, then give the frame slot back; once per part."""
        if inspection.is_concluded:
            return
        inspection.is_concluded = True
        if time.monotonic_ns() >= inspection.part.deadline_ns:
            judgement = late_instead(judgement)  # as the publisher will: record and evidence say the same
        if self._stitching is inspection:
            self._stitching = None
        self._publisher.judged(inspection.part, judgement)
        try:
            self._evidence(inspection, judgement)
        except Exception as error:
            say("part.failed", line=self.book.name, part=inspection.part.part_id, exc_info=error)
        if inspection.frame.slot != _NO_SLOT:
            ring = self.grabber.ring
            assert ring is not None
            ring.give_back(inspection.frame.slot)


def trigger(views: Sequence[Line], part_id: str) -> None:
    """Trigger all views of a line, or none where one cannot be. Raises CameraError."""
    for view in views:
        view.grabber.triggers.require_trigger()
    for view in views:
        view.grabber.triggers.trigger(part_id)
