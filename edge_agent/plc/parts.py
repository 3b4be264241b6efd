"""The book of parts: every trigger gets a number, a deadline and exactly one outcome.

Triggers come from grab threads; claims from the publisher thread alone. Nothing here blocks, reads a clock or opens
anything but the journal's slot.
"""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.records import FAULT, NG, PASS, Identity, Part
from edge_agent.wire import PART_ID_BYTES

STARTING = "starting"  # why a line is not ready whose camera has not said a word yet
ONLINE, OFFLINE, SHADOW = "online", "offline", "shadow"
MODES = (ONLINE, OFFLINE, SHADOW)


class TriggerLog(Protocol):
    """Where a trigger is stored before the part is inspected: the journal."""

    epoch: int

    def open_part(self, seq: int, trigger_time_us: int, line: bytes, part_id: bytes, shadow: bool = False) -> int: ...


@dataclass(slots=True)
class LineBook:
    """One line's state and numbers. `published_through` is the seq up to which every part has its outcome published.

    Any thread reads it. The line's threads, or its joiner, write whether it is ready and by what it judges (`identity`); whoever
    opens a part, under the `PartBook`'s lock, writes `triggers` and takes `challenge`; the rest is the publisher's thread's."""

    name: str
    mode: str = ONLINE
    ready: bool = False
    why_not_ready: str = STARTING
    hold: str = ""  # why no part may pass, whatever the cameras do: a challenge that failed
    challenge: str = ""  # the master part that comes next
    is_preview: bool = False  # it leaves pictures out, and is never online
    verified: bool = True  # a second source counts the line's triggers
    identity: Identity | None = None
    triggers: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: {PASS: 0, NG: 0, FAULT: 0})
    reasons: dict[str, int] = field(default_factory=dict)  # of FAULT
    broken_rules: dict[str, int] = field(default_factory=dict)  # of NG
    discarded: int = 0
    published_through: int = 0
    out_of_order: set[int] = field(default_factory=set)

    @property
    def open(self) -> int:
        return self.triggers - sum(self.outcomes.values())

    def close_seq(self, seq: int) -> None:
        """Note that `seq` is published and move `published_through` as far as there is no gap."""
        if seq != self.published_through + 1:
            self.out_of_order.add(seq)
            return
        self.published_through = seq
        while self.out_of_order and self.published_through + 1 in self.out_of_order:
            self.published_through += 1
            self.out_of_order.remove(self.published_through)

    def state(self) -> str:
        """The line's state in the words of OPC 40100-1."""
        if self.mode == OFFLINE:
            return "Initialized"
        return "Ready" if self.ready and not self.hold else "Error"

    @property
    def why(self) -> str:
        """Why the line is not Ready: its camera or engine, or what holds it."""
        return self.hold if self.ready else self.why_not_ready


class PartBook:
    """All open parts of the station and their deadlines."""

    def __init__(self, journal: TriggerLog, lines: list[LineBook], guard_ns: dict[str, int]) -> None:
        self.epoch = journal.epoch
        self.lines = {line.name: line for line in lines}
        self._guard_ns = guard_ns
        self._line_bytes = {line.name: line.name.encode() for line in lines}
        self._journal = journal
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], Part] = {}
        self._deadlines: list[tuple[int, int, str]] = []

    def open_part(
        self, line: LineBook, part_id: str, now_ns: int, wall_us: int, identity: Identity | None = None, challenge: str = ""
    ) -> Part:
        """Register a trigger: number it, store it in the journal, start its clock. The line, or the caller, has an identity.

        `challenge` names the master part whose stored picture this is; one that was announced for the line is its next part."""
        identity = identity or line.identity
        assert identity is not None
        deadline_ns = now_ns + int(identity.deadline_ms * 1e6) - self._guard_ns[line.name]
        part_id = fit_part_id(part_id) if part_id else ""
        with self._lock:
            line.triggers += 1
            seq = line.triggers
            is_brought = not challenge and bool(line.challenge)
            if is_brought:
                challenge, line.challenge = line.challenge, ""
            part = Part(
                line.name,
                self.epoch,
                seq,
                part_id or str(seq),
                wall_us,
                now_ns,
                deadline_ns,
                identity,
                line.mode == SHADOW or bool(challenge),
                challenge,
                is_brought,
            )
            raw = part.part_id.encode()
            part.journal_ticket = self._journal.open_part(seq, wall_us, self._line_bytes[line.name], raw, part.shadow)
            self._open[line.name, seq] = part
            heapq.heappush(self._deadlines, (deadline_ns, seq, line.name))
        return part

    def claim(self, part: Part) -> bool:
        """Take the part's one outcome: True for the first claim, False for every later one."""
        return self._open.pop((part.line, part.seq), None) is not None

    def expired(self, now_ns: int) -> list[Part]:
        """Return the open parts whose deadline, less the guard, has come."""
        late = []
        with self._lock:
            deadlines = self._deadlines
            while deadlines and (deadlines[0][0] <= now_ns or (deadlines[0][2], deadlines[0][1]) not in self._open):
                _, seq, line = heapq.heappop(deadlines)
                part = self._open.get((line, seq))
                if part is not None:
                    late.append(part)
        return late

    def next_deadline_ns(self) -> int | None:
        deadlines = self._deadlines
        return deadlines[0][0] if deadlines else None

    def is_open(self, part: Part) -> bool:
        return (part.line, part.seq) in self._open

    def open_parts(self) -> list[Part]:
        return list(self._open.values())


def fit_part_id(part_id: str) -> str:
    """Return the id as every message and file can carry it: at most 64 bytes of UTF-8, no zero byte, nothing unencodable."""
    raw = part_id.encode("utf-8", "replace").replace(b"\0", b"?")
    return raw[:PART_ID_BYTES].decode("utf-8", "ignore")
