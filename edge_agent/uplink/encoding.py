"""Copies the pictures that are kept of parts, encodes them aside and queues them. A full pool, or no memory, is a declared loss,
never a wait."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading

import cv2
import msgspec
import numpy as np

from edge_agent.errors import OUT_OF_MEMORY
from edge_agent.events import say
from edge_agent.pulse import Pulse
from edge_agent.records import PASS, Pixels
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import NG_PRIORITY, PASS_PRIORITY, PICTURE
from edge_agent.wire import PictureNote

_BUFFERS = 32
_CLOSES_S = 5.0
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_Job = tuple[PictureNote, int, tuple[int, ...]]  # note, buffer, shape


class EvidenceWorker:
    """A thread and `_BUFFERS` reused buffers. Each grows once to the largest picture it has held."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._buffers = [np.empty(0, np.uint8) for _ in range(_BUFFERS)]
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(_BUFFERS):
            self._free.put(index)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.refused = 0
        self._is_failing = self._is_over = False
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self.pulse = Pulse(self._thread.name)
        self._thread.start()

    def offer(self, note: PictureNote, pixels: Pixels) -> bool:
        """Copy (rows, cols) uint8 pixels at once; False, the loss declared, where pool or memory has no room, or there are none."""
        try:
            if not pixels.size:
                return self.refuse()
            index = self._free.get_nowait()
        except queue.Empty:
            return self.refuse()
        try:
            if self._buffers[index].size < pixels.size:
                self._buffers[index] = np.empty(pixels.size, np.uint8)
        except MemoryError:
            self._free.put(index)
            return self.refuse()
        np.copyto(self._buffers[index][: pixels.size].reshape(pixels.shape), pixels)
        self._jobs.put((note, index, pixels.shape))
        return True

    def refuse(self) -> bool:
        """Declare a picture lost that has no copy here; False."""
        self.refused += 1
        self._outbox.declare_lost(PICTURE)
        return False

    def close(self, patience_s: float = _CLOSES_S) -> None:
        """Encode what was taken, then end; what takes longer is declared lost, but for the one under way. May be called twice."""
        if self._is_over:
            return
        self._is_over = True
        self._jobs.put(None)
        self._thread.join(patience_s)
        if self._thread.is_alive():
            left = self._drop_jobs()
            self._outbox.declare_lost(PICTURE, left)
            say("station.given_up", what="evidence", why=f"{left} pictures are not encoded in time, and declared lost.")

    def _drop_jobs(self) -> int:
        left = 0
        with contextlib.suppress(queue.Empty):  # the thread may have come to the end meanwhile
            while self._jobs.get_nowait() is not None:
                left += 1
            self._jobs.put(None)
        return left

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self.pulse.beat()
            self._encode(*job)
            self.pulse.rest()

    def _encode(self, note: PictureNote, index: int, shape: tuple[int, ...]) -> None:
        pixels = self._buffers[index][: shape[0] * shape[1]].reshape(shape)
        try:
            data = cv2.imencode(".png", pixels, _PNG)[1].tobytes()
        except (cv2.error, MemoryError) as error:
            self._outbox.declare_lost(PICTURE)
            self._tell(note, str(error) or OUT_OF_MEMORY)
            return
        finally:
            self._free.put(index)
        self._tell(note, "")
        priority = PASS_PRIORITY if note.outcome == PASS else NG_PRIORITY
        digest = hashlib.sha256(data).hexdigest()
        self._outbox.put_picture(msgspec.msgpack.encode(msgspec.structs.replace(note, sha256=digest)), data, priority)

    def _tell(self, note: PictureNote, why: str) -> None:
        """Say that pictures cannot be encoded, and when they can again."""
        if bool(why) == self._is_failing:
            return
        self._is_failing = bool(why)
        if why:
            say("evidence.refused", line=note.line, part=note.part_id, why=why)
        else:
            say("evidence.recovered", line=note.line, part=note.part_id)
