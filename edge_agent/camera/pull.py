"""What cameras without a driver have in common: a part is due by the clock or by a software trigger; its picture is read then."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque

from edge_agent.camera.base import Arrival, Due, Exposure, Lost, Picture
from edge_agent.camera.pace import Pace
from edge_agent.errors import CameraError, Reason
from edge_agent.records import Pixels

_ANY = Due()


class PullCamera(ABC):
    """Says that a part is due before it makes the picture, so that the part's clock runs meanwhile."""

    frame_timeout_s = math.inf
    counts_triggers = True

    def __init__(self, name: str, max_pixels: int, rate_hz: float, trigger: str) -> None:
        self.name = name
        self.max_pixels = max_pixels
        self.trigger_mode = trigger
        self._pace = Pace(name, rate_hz, trigger)
        self.is_live = self._pace.is_live
        self._lent: deque[tuple[int, Pixels]] = deque()  # used in turn, as a driver does
        self._is_due = False
        self._counters = {"pictures": 0, "unreadable": 0, "overruns": 0}

    @abstractmethod
    def _advance(self, part_id: str) -> str:
        """Go to the next picture; return the part id: the one given, or the source's own. Raises EndOfImages."""

    @abstractmethod
    def _fill(self, slot: int, memory: Pixels) -> Exposure:
        """Put the picture into the slot. Raises CameraError where it cannot be read."""

    def lend(self, slot: int, memory: Pixels) -> None:
        self._lent.append((slot, memory))

    def wait(self, timeout_s: float) -> Arrival | None:
        if self._is_due:
            self._is_due = False
            return self._expose()
        part_id = self._pace.wait(timeout_s)
        if part_id is None:
            return None
        part_id = self._advance(part_id)
        self._is_due = True
        return Due(part_id) if part_id else _ANY

    def _expose(self) -> Picture | Lost:
        if not self._lent:
            self._counters["overruns"] += 1
            return Lost(Reason.OVERRUN)
        slot, memory = self._lent[0]
        try:
            exposure = self._fill(slot, memory)
        except CameraError as error:
            self._counters["unreadable"] += 1
            return Lost(Reason.BAD_FRAME, str(error))
        self._lent.popleft()
        self._counters["pictures"] += 1
        return Picture(slot, exposure)

    def trigger(self, part_id: str) -> None:
        self._pace.trigger(part_id)

    def finish(self) -> bool:
        return not self._is_due

    def counters(self) -> dict[str, int]:
        return dict(self._counters)

    def close(self) -> None:
        self._lent.clear()
        self._is_due = False
        self._pace.forget()
