"""Watches over the stages and tells the service manager: ready, how the lines do, and that every stage gets on.

Called by the main thread. systemd ends a daemon that it no longer hears from, with SIGABRT, and faulthandler then leaves every
thread's traceback in the log; so nothing is said while a stage stands still, and the reason goes out at once. A collector that
cannot be reached, a line without triggers, a camera that is away and a full disk are no such reasons.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from edge_agent.events import say
from edge_agent.listening import is_here
from edge_agent.notify import Building, Watchdog, notify, watchdog_s
from edge_agent.plc.parts import STARTING, LineBook
from edge_agent.pulse import Pulse

_LIMIT_S = 10.0  # a stage that stands still for so long is stalled, where systemd does not say how long it waits
_TELL_S = 1.0
_STARTING_S = 10.0  # a camera that takes longer to open does not hold up who waits for the service


class Supervision:
    """`look` is called every few hundredths of a second, for as long as the lines run; `views` are the books of their cameras.
    `addresses` are listened on."""

    def __init__(
        self,
        books: Iterable[LineBook],
        pulses: Iterable[Pulse],
        views: Iterable[LineBook] = (),
        building: Building | None = None,
        addresses: Iterable[str] = (),
    ) -> None:
        self.refusal = ""  # why the last reload was refused; the status says it, too
        self._building = building or Building()
        self._building.tells_status = False
        self._books = list(books)
        self._pulses = list(pulses)
        self._views = list(views)
        self._addresses = list(addresses)
        self._awaited = self._absent()  # who listens has said so
        self._watchdog = Watchdog()
        self._limit_s = watchdog_s() / 2 or _LIMIT_S
        self._tell_at_s = self._ready_at_s = 0.0
        self._is_ready = False
        self._stalled: set[str] = set()
        self._counts = Counts(self._books)
        self._telling = threading.Lock()  # over the status: what was refused is told by another thread

    def look(self) -> None:
        """Say what turned, and what is due to the service manager."""
        stalled = {pulse.name: seconds for pulse in self._pulses if (seconds := pulse.stalled_s(self._limit_s))}
        self._say_turns(stalled)
        now_s = time.monotonic()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _TELL_S
            self._counts.take(now_s)
            self._look_for_addresses()
            self._tell(now_s)
        if not self._is_ready:
            self._tell_ready(now_s)
        if not stalled:
            self._watchdog.feed()

    def _tell_ready(self, now_s: float) -> None:
        """The service is up when every line is Ready, or has said why not."""
        self._ready_at_s = self._ready_at_s or now_s + _STARTING_S
        if now_s >= self._ready_at_s or not any(book.state() == "Error" and book.why == STARTING for book in self._views):
            # Where it could not be told, it is at the next look: without it there is no start.
            self._is_ready = self._tell(now_s, READY=1)

    def tell_refusal(self, why: str) -> None:
        """Have the status say from here on that a reload was refused, '' that it was not; systemd is told before this returns."""
        self.refusal = why
        self._tell(time.monotonic())

    def _tell(self, now_s: float, **more: int) -> bool:
        """False where the service manager could not be told."""
        with self._telling:
            return notify(**more, STATUS=self._status(now_s))

    def _say_turns(self, stalled: dict[str, float]) -> None:
        for name in stalled.keys() - self._stalled:
            say("station.stalled", thread=name, seconds=round(stalled[name], 1))
            notify(STATUS=f"stalled: the thread {name} does not get on", WATCHDOG="trigger")
        for name in self._stalled - stalled.keys():
            say("station.stall_ended", thread=name)
        self._stalled = set(stalled)

    def _look_for_addresses(self) -> None:
        awaited, before = self._absent(), self._awaited
        for address in self._addresses:
            if (address in awaited) != (address in before):
                say("network.address_awaited" if address in awaited else "network.address_here", address=address)
        self._awaited = awaited

    def _absent(self) -> list[str]:
        return [each for each in self._addresses if not is_here(each)]

    def _status(self, now_s: float) -> str:
        lines = "; ".join(_told(book) for book in self._books)
        stalled = "".join(f"; stalled: {name}" for name in sorted(self._stalled))
        awaited = [f"no interface has the address of {each} now" for each in self._awaited]
        notes = "".join(f"; {text}" for text in (self.refusal, self._building.text, *awaited) if text)
        return f"{lines}; {self._counts.rate_hz:.1f} parts/s; {self._counts.last_fault(now_s)}{stalled}{notes}"


def _told(book: LineBook) -> str:
    state = book.state()
    why = f" ({book.why})" if state == "Error" else ""
    return f"{book.name} {state}{why}" + (f", next is the master part {book.challenge}" if book.challenge else "")


class Counts:
    """The lines' rate and their last FAULT, from their counters as they were at each look."""

    def __init__(self, books: list[LineBook]) -> None:
        self.rate_hz = 0.0
        self._books = books
        self._parts = 0
        self._reasons: dict[str, int] = {}
        self._at_s = 0.0
        self._fault, self._fault_at_s = "", 0.0

    def take(self, now_s: float) -> None:
        """Note the counters at a monotonic time."""
        parts = sum(sum(book.outcomes.values()) for book in self._books)
        if self._at_s:
            self.rate_hz = (parts - self._parts) / max(now_s - self._at_s, 1e-3)
        self._parts, self._at_s = parts, now_s
        for book in self._books:
            for reason, count in list(book.reasons.items()):
                if count > self._reasons.get(f"{book.name}/{reason}", 0):
                    self._reasons[f"{book.name}/{reason}"] = count
                    self._fault, self._fault_at_s = f"{book.name} {reason}", now_s

    def last_fault(self, now_s: float) -> str:
        return f"last fault {self._fault}, {now_s - self._fault_at_s:.0f} s ago" if self._fault else "no fault"
