"""States that somebody should hear of once when they turn, and once when they turn back."""

from __future__ import annotations

from edge_agent.events import say
from edge_agent.plc.replay import ReplayBuffer
from edge_agent.plc.sockets import PlcSockets
from edge_agent.records import FAULT, NG
from edge_agent.settings import PlcSettings

_GRACE_NS = 2_000_000_000  # a gateway gets this long after the start before its absence is an alarm


class Alarms:
    """The alarms of the PLC link. Lives on the publisher thread; `active` goes out with every heartbeat."""

    def __init__(self, settings: PlcSettings) -> None:
        self.active: set[str] = set()
        self._settings = settings
        self._started_ns = 0
        self._dropped = 0
        self._dropped_ns = 0
        self._ng_limit: dict[str, int] = {}
        self._ng_run: dict[str, int] = {}

    def limit_ng_run(self, line: str, limit: int) -> None:
        """Set how many NG in a row raise an alarm; 0 is never."""
        self._ng_limit[line] = limit
        if not limit:
            self._ng_run[line] = 0
            self.turn(f"ng_in_a_row/{line}", False, "line.ng_in_a_row", "line.ng_run_ended", line=line, run=0)

    def turn(self, name: str, is_on: bool, on: str, off: str, **values: object) -> None:
        """Log the state if it turned."""
        if is_on == (name in self.active):
            return
        (self.active.add if is_on else self.active.discard)(name)
        say(on if is_on else off, **values)

    def note_outcome(self, line: str, outcome: str) -> None:
        """Count the run of NG; a PASS ends it, a FAULT says nothing of the process."""
        limit = self._ng_limit.get(line, 0)
        if not limit or outcome == FAULT:
            return
        run = self._ng_run.get(line, 0) + 1 if outcome == NG else 0
        self._ng_run[line] = run
        self.turn(f"ng_in_a_row/{line}", run >= limit, "line.ng_in_a_row", "line.ng_run_ended", line=line, run=run)

    def look(self, sockets: PlcSockets, replay: ReplayBuffer, now_ns: int) -> None:
        """Judge the link once per heartbeat."""
        self._started_ns = self._started_ns or now_ns
        if now_ns - self._started_ns > _GRACE_NS and self._settings.expect_subscriber:
            self.turn("unsubscribed", sockets.subscribers == 0, "plc.unsubscribed", "plc.subscribed")
        limit_ns = int(self._settings.expect_acknowledgement_s * 1e9)
        oldest = replay.look_for_oldest()
        is_overdue = bool(limit_ns) and oldest is not None and now_ns - oldest > limit_ns
        self.turn("unacknowledged", is_overdue, "plc.unacknowledged", "plc.acknowledged", waiting=replay.waiting)
        if sockets.dropped > self._dropped:
            self._dropped, self._dropped_ns = sockets.dropped, now_ns
        is_slow = bool(self._dropped_ns) and now_ns - self._dropped_ns < 1_000_000_000
        self.turn("slow_subscriber", is_slow, "plc.slow_subscriber", "plc.subscriber_recovered", dropped=sockets.dropped)
