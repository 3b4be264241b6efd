"""Parts announced before their picture, and whose a picture is that comes by itself. Time decides: nothing else is known of it.

An announced part waits. One that became a FAULT before its picture came leaves a claim, since that picture must still come. What
a picture is, or the word that one is lost, is said by the parts announced within the window around its trigger:

| announced within the window | the picture, or the loss, is |
|---|---|
| nothing | a new part's; who announces that part now comes too late and is refused |
| one part that waits | that part's |
| one claim | nobody's: its part has had its outcome |
| several | nobody's: each that waits is FAULT ambiguous; the oldest of all is struck off, the others leave claims |

A loss whose time is not known is taken to be of the oldest's time. What waits too long is FAULT no_frame, and leaves no claim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.bundle import Bundle
from edge_agent.errors import Reason
from edge_agent.records import Part

Registered = tuple[Part, Bundle]


@dataclass(slots=True)
class _Entry:
    registered: Registered
    is_waiting: bool = True  # False: a claim


class Announced:
    """Several threads may use it, one at a time: whoever calls holds a lock. Times are monotonic, ns.

    `register` makes a new part of a trigger at the time given, or says None where no part is wanted."""

    def __init__(self, window_ns: int, register: Callable[[int], Registered | None], fault: Callable[[Part, Reason], None]) -> None:
        self._window_ns = window_ns
        self._register = register
        self._fault = fault
        self._entries: dict[str, _Entry] = {}  # by the word given to the camera; oldest first
        self._shown: deque[tuple[int, Part]] = deque()  # parts of late that nobody had announced, by their trigger

    def __len__(self) -> int:
        """How many wait, and how many claims there are."""
        return len(self._entries)

    @property
    def is_waited_for(self) -> bool:
        return any(entry.is_waiting for entry in self._entries.values())

    def add(self, word: str, registered: Registered) -> None:
        self._entries[word] = _Entry(registered)

    def take(self, word: str) -> Registered | None:
        """The part that was announced by this word; None where it was given up."""
        entry = self._entries.pop(word, None)
        return entry.registered if entry else None

    def shown_before(self, now_ns: int) -> Part | None:
        """The part that a picture of about now was taken for, since nobody had announced it."""
        return next((part for at_ns, part in self._shown if abs(at_ns - now_ns) <= self._window_ns), None)

    def of_picture(self, trigger_ns: int) -> Registered | None:
        """Whose a picture is that was triggered then; None where it is nobody's."""
        near = [word for word, entry in self._entries.items() if abs(_time(entry) - trigger_ns) <= self._window_ns]
        if not near:
            return self._new(trigger_ns)
        oldest = self._entries.pop(near[0])
        if len(near) == 1:
            return oldest.registered if oldest.is_waiting else None
        for entry in (oldest, *(self._entries[word] for word in near[1:])):
            self._end(entry, Reason.AMBIGUOUS)
        return None

    def of_loss(self, trigger_ns: int) -> Registered | None:
        """Whose a lost picture is, and None where that part has had its outcome. `trigger_ns` is 0 where it is not known."""
        if not trigger_ns and self._entries:
            trigger_ns = _time(next(iter(self._entries.values())))
        return self.of_picture(trigger_ns)

    def expire(self, oldest_ns: int) -> None:
        """Give up what was announced before `oldest_ns`."""
        for word in [word for word, entry in self._entries.items() if _time(entry) < oldest_ns]:
            self._end(self._entries.pop(word), Reason.NO_FRAME)

    def give_up(self, reason: Reason) -> None:
        """No picture comes any more for anything announced."""
        for entry in self._entries.values():
            self._end(entry, reason)
        self._entries.clear()

    def _new(self, trigger_ns: int) -> Registered | None:
        registered = self._register(trigger_ns)
        if registered is not None:
            while self._shown and self._shown[0][0] < trigger_ns - 2 * self._window_ns:
                self._shown.popleft()
            self._shown.append((trigger_ns or registered[0].trigger_ns, registered[0]))
        return registered

    def _end(self, entry: _Entry, reason: Reason) -> None:
        if entry.is_waiting:
            entry.is_waiting = False
            self._fault(entry.registered[0], reason)


def _time(entry: _Entry) -> int:
    return entry.registered[0].trigger_ns
