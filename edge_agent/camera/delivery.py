"""What live cameras have in common: lent slots, waiting arrivals, and software triggers that each get exactly one answer.

The camera's own thread does everything here but `trigger`, which may come from any.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from edge_agent.camera.base import Arrival, Due, Exposure, Lost, Picture
from edge_agent.camera.triggers import MOST_PENDING, not_by_software, too_many
from edge_agent.errors import CameraError, EndOfImages, Reason
from edge_agent.records import Pixels


class BadFrame(Exception):
    """A picture that came and cannot be used; the message says why."""


class Shot(msgspec.Struct, frozen=True):
    """A picture that the source has. `write` puts it into a slot and says what it is, or raises BadFrame; `flaw` is why it
    is not worth writing. `begun_ns` is when it was begun at the latest, which says which triggers it may answer."""

    taken_ns: int
    begun_ns: int
    write: Callable[[Pixels], Exposure]
    flaw: str = ""


class Delivery:
    """Turns shots into arrivals. In software mode a shot answers the oldest trigger before it; nobody's shot is ignored.

    A second trigger before the same shot is lost: what it wanted to see is on a picture that another part has. Every
    accepted trigger is answered by one Due and one Picture or Lost, the last ones before the failure is raised."""

    def __init__(self, camera: str, trigger: str) -> None:
        self.is_software = trigger == "software"
        self.counts: Counter[str] = Counter()
        self._camera = camera
        self._lent: deque[tuple[int, Pixels]] = deque()
        self._ready: deque[Arrival] = deque()
        self._asked: deque[tuple[str, int]] = deque()
        self._refusal = "is not open"
        self._lock = threading.Lock()
        self._failure: CameraError | EndOfImages | None = None

    def start(self) -> None:
        """Take triggers from here on."""
        self._failure = None
        self.counts.clear()
        with self._lock:
            self._refusal = ""

    def lend(self, slot: int, memory: Pixels) -> None:
        self._lent.append((slot, memory))

    @property
    def has_room(self) -> bool:
        return bool(self._lent)

    def trigger(self, part_id: str, now_ns: int) -> None:
        """Note a trigger. Raises CameraError in another mode, where too many wait, or where the camera does not deliver."""
        if not self.is_software:
            raise not_by_software(self._camera, "free_run")
        with self._lock:
            if self._refusal:
                raise CameraError(f"camera {self._camera} takes no trigger: it {self._refusal}")
            if len(self._asked) >= MOST_PENDING:
                raise too_many(self._camera)
            self._asked.append((part_id, now_ns))

    def wait(self, timeout_s: float, step: Callable[[float], None], clock_s: Callable[[], float]) -> Arrival | None:
        """Let the source take `step`s, each of at most so many seconds, until something happened or the time is over."""
        until_s = clock_s() + timeout_s
        arrival = self.next()
        while arrival is None:
            left_s = until_s - clock_s()
            try:
                step(max(0.0, left_s))
            except CameraError as error:
                self.fail(error)
            arrival = self.next()
            if left_s <= 0:
                break
        return arrival

    def next(self) -> Arrival | None:
        """Return what happened, oldest first; after the last of it raise the failure, if there was one."""
        if self._ready:
            return self._ready.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    @property
    def is_told(self) -> bool:
        """True when no arrival waits to be taken."""
        return not self._ready

    def show(self, shot: Shot) -> None:
        """Make arrivals of a picture."""
        if not self.is_software:
            self._ready.append(self._put(shot, shot.taken_ns))
            return
        asked = self._asked_before(shot.begun_ns)
        if not asked:
            self.counts["unasked"] += 1
            return
        part_id, asked_ns = asked[0]
        self._ready += [Due(part_id), self._put(shot, asked_ns)]
        why = "a trigger before it has the only picture taken after both; trigger slower"
        for late_id, _ in asked[1:]:
            self.counts["overtriggered"] += 1
            self._ready += [Due(late_id), Lost(Reason.NO_FRAME, why)]

    def name_due(self, part_id: str) -> None:
        """Announce the part that the next shot shows, where the source knows its name."""
        self._ready.append(Due(part_id))

    def lose(self, reason: Reason, why: str, count: int) -> None:
        """Report pictures that never came. Software triggers are not concerned: each gets its own answer."""
        self.counts["missing" if reason is Reason.NO_FRAME else reason.value] += count
        if not self.is_software:
            self._ready.append(Lost(reason, why, count))

    def oldest_trigger(self) -> tuple[str, int] | None:
        """Take the oldest waiting trigger, its part id and time, before there is a picture for it; None where nobody triggered."""
        with self._lock:
            return self._asked.popleft() if self._asked else None

    def show_now(self, shot: Shot) -> None:
        """Make an arrival of a picture whose trigger has been taken already."""
        self._ready.append(self._put(shot, shot.taken_ns))

    def fail(self, error: CameraError | EndOfImages) -> None:
        """Answer every waiting trigger; then `next` raises this error until the next start."""
        self._failure = error
        for part_id, _ in self._refuse(f"ended: {error}"):
            self._ready += [Due(part_id), Lost(Reason.NO_FRAME, str(error))]

    def close(self) -> None:
        """Forget slots, arrivals and triggers."""
        self._refuse("is closed")
        self._lent.clear()
        self._ready.clear()

    def _put(self, shot: Shot, trigger_ns: int) -> Picture | Lost:
        if shot.flaw:
            return self._lost(Reason.BAD_FRAME, shot.flaw)
        if not self._lent:
            return self._lost(Reason.OVERRUN, "no frame slot was free when the picture came")
        slot, memory = self._lent[0]
        try:
            exposure = shot.write(memory)
        except BadFrame as error:
            return self._lost(Reason.BAD_FRAME, str(error))
        self._lent.popleft()
        self.counts["pictures"] += 1
        return Picture(slot, exposure, trigger_ns)

    def _lost(self, reason: Reason, why: str) -> Lost:
        self.counts[reason.value] += 1
        return Lost(reason, why)

    def _asked_before(self, begun_ns: int) -> list[tuple[str, int]]:
        asked = []
        with self._lock:
            while self._asked and self._asked[0][1] < begun_ns:
                asked.append(self._asked.popleft())
        return asked

    def _refuse(self, why: str) -> list[tuple[str, int]]:
        with self._lock:
            self._refusal = why
            asked = list(self._asked)
            self._asked.clear()
        return asked
