"""A camera that does what a test says."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from edge_agent.camera.base import Arrival, Exposure, Picture
from edge_agent.errors import CameraError
from edge_agent.records import Pixels


class Script:
    """A camera that does what is put into `acts`: an arrival, an error to raise, or a call to make. `Shown` fills a lent slot."""

    name = "scripted"
    is_live = True
    counts_triggers = True

    def __init__(self, trigger_mode: str = "free_run", frame_timeout_s: float = 0.2, side: int = 8) -> None:
        self.side = side
        self.max_pixels = side * side
        self.trigger_mode = trigger_mode
        self.frame_timeout_s = frame_timeout_s
        self.acts: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._kept: object = None  # a picture that has no slot yet
        self.lent: list[tuple[int, Pixels]] = []
        self.opened = self.closed = self.finishing = 0
        self.refuses_to_open: list[str] = []
        self.asked: list[str] = []
        self.owes = 0  # so many arrivals a stop has to wait for

    def open(self) -> None:
        self.opened += 1
        if self.refuses_to_open:
            raise CameraError(self.refuses_to_open.pop())

    def lend(self, slot: int, memory: Pixels) -> None:
        self.lent.append((slot, memory))

    def wait(self, timeout_s: float) -> Arrival | None:
        try:
            act = self._kept or self.acts.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._kept = act if getattr(act, "__name__", "") == "picture" and not self.lent else None
        if self._kept is not None:
            time.sleep(0.001)  # until a slot is lent for it
            return None
        self.owes = max(0, self.owes - 1)
        if isinstance(act, Exception):
            raise act
        return act() if callable(act) else act  # type: ignore[return-value]

    def show(self, level: int, trigger_ns: int = 0) -> Callable[[], Picture]:
        def picture() -> Picture:
            slot, memory = self.lent.pop()
            memory[: self.side * self.side] = level
            return Picture(slot, Exposure(self.side, self.side, level), trigger_ns)

        return picture

    def trigger(self, part_id: str) -> None:
        self.asked.append(part_id)

    def finish(self) -> bool:
        self.finishing += 1
        return not self.owes

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.closed += 1
        self.lent.clear()


def bundle_of(identity: Any) -> Any:
    """A bundle as far as a grabber knows it: who judges, whether it may, and the engine's size, which no frame has."""
    return SimpleNamespace(identity=identity, refusal="", segmenter=SimpleNamespace(rows=0, cols=0))
