"""Parts announced before their picture, and whose a picture is that comes by itself. Time decides: nothing else is known of it.

An announced part waits. One that became a FAULT before its picture came leaves a claim, since that picture must still come. What
a picture is, or the word that one is lost, is said by the parts announced within the window around its trigger:

| announced within the window | the picture, or the loss, is |
|---|---|
| nothing | a new part's; who announces that part now comes too late and is refused |
| one part that waits | that part's |
| one claim | nobody's: its part has had its outcome |
| several | nobody's: each that waits is FAULT ambiguous; the oldest of all is struck off, the others leave claims |

A loss whose time is not known is taken to be of the oldest's time. Where the window holds nothing, a loss that was triggered at any
time between two readings of a slow counter is that of the oldest claim between them. What waits too long is FAULT no_frame; where
the camera itself will still say that the picture is lost, it leaves a claim until that must have been said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from edge_agent.bundle import Bundle
from edge_agent.errors import Reason
from edge_agent.records import Part

_MOMENT_NS = 20_000_000


class Registered(NamedTuple):
    """A part that the publisher knows, and the bundle of its trigger, which judges it."""

    part: Part
    bundle: Bundle


@dataclass(slots=True)
class _Entry:
    registered: Registered
    is_waiting: bool = True  # False: a claim


class Announced:
    """Several threads may use it, one at a time: whoever calls holds a lock. Times are monotonic, ns.

    `register` makes a new part of a trigger at the time given, or says None where no part is wanted. Pictures of a camera that is
    not live wait for the station: none is given up for its deadline, which is not the camera's fault."""

    def __init__(
        self,
        window_ns: int,
        register: Callable[[int], Registered | None],
        fault: Callable[[Part, Reason], None],
        is_live: bool = True,
    ) -> None:
        self._is_live = is_live
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
        return entry.registered if entry and entry.is_waiting else None

    def shown_before(self, now_ns: int) -> Part | None:
        """The part that a picture of about now was taken for, since nobody had announced it."""
        return next((part for at_ns, part in self._shown if abs(at_ns - now_ns) <= self._window_ns), None)

    def of_picture(self, trigger_ns: int) -> Registered | None:
        """Whose a picture is that was triggered then; None where it is nobody's."""
        return self._of(trigger_ns, trigger_ns)

    def _of(self, trigger_ns: int, clock_ns: int) -> Registered | None:
        """A new part's clock runs from `clock_ns`."""
        near = self._near(trigger_ns, trigger_ns)
        if not near:
            return self._new(clock_ns)
        oldest = self._entries.pop(near[0])
        if len(near) == 1:
            return oldest.registered if oldest.is_waiting else None
        for entry in (oldest, *(self._entries[word] for word in near[1:])):
            self._end(entry, Reason.AMBIGUOUS)
        return None

    def of_loss(self, trigger_ns: int, clock_ns: int, since_ns: int = 0) -> Registered | None:
        """Whose a lost picture is, and None where that part has had its outcome. `trigger_ns` is 0 where it is not known; it may
        be as early as `since_ns`, if that is given; a new part's clock runs from `clock_ns`, 0 for now."""
        if not trigger_ns and self._entries:
            trigger_ns = clock_ns = _time(next(iter(self._entries.values())))
        if since_ns and not self._near(trigger_ns, trigger_ns):
            claim = next((word for word in self._near(since_ns, trigger_ns) if not self._entries[word].is_waiting), "")
            if claim:
                del self._entries[claim]
                return None
        return self._of(trigger_ns, clock_ns)

    def _near(self, since_ns: int, trigger_ns: int) -> list[str]:
        """The words of those announced between these times or within the window around them."""
        first_ns, last_ns = since_ns - self._window_ns, trigger_ns + self._window_ns
        return [word for word, entry in self._entries.items() if first_ns <= _time(entry) <= last_ns]

    def next_end_ns(self, wait_ns: int) -> int:
        """When the next of those that wait is to be given up; 0 where none waits."""
        return min((self._end_ns(entry, wait_ns) for entry in self._entries.values() if entry.is_waiting), default=0)

    def expire(self, now_ns: int, wait_ns: int, claim_ns: int) -> list[Part]:
        """Give up, and return, what was announced `wait_ns` ago or is about to be late, and forget what was `claim_ns` ago."""
        ended = [entry for entry in self._entries.values() if entry.is_waiting and self._end_ns(entry, wait_ns) <= now_ns]
        for entry in ended:
            self._end(entry, Reason.NO_FRAME)
        for word in [word for word, entry in self._entries.items() if not entry.is_waiting and _time(entry) + claim_ns <= now_ns]:
            del self._entries[word]
        return [entry.registered.part for entry in ended]

    def give_up(self, reason: Reason) -> int:
        """No picture comes any more for anything announced; say of how many that waited."""
        count = sum(entry.is_waiting for entry in self._entries.values())
        for entry in self._entries.values():
            self._end(entry, reason)
        self._entries.clear()
        return count

    def _end_ns(self, entry: _Entry, wait_ns: int) -> int:
        """A picture that comes less than a moment before the deadline is judged by nobody."""
        part = entry.registered.part
        end_ns = part.trigger_ns + wait_ns
        return min(end_ns, max(part.trigger_ns, part.deadline_ns - _MOMENT_NS)) if self._is_live else end_ns

    def _new(self, trigger_ns: int) -> Registered | None:
        registered = self._register(trigger_ns)
        if registered is not None:
            at_ns = trigger_ns or registered.part.trigger_ns
            while self._shown and self._shown[0][0] < at_ns - 2 * self._window_ns:
                self._shown.popleft()
            self._shown.append((at_ns, registered.part))
        return registered

    def _end(self, entry: _Entry, reason: Reason) -> None:
        if entry.is_waiting:
            entry.is_waiting = False
            self._fault(entry.registered.part, reason)


def _time(entry: _Entry) -> int:
    return entry.registered.part.trigger_ns
