"""One line of the log for each part; at high rates for fewer, and a count of the others."""

from __future__ import annotations

from edge_agent.events import is_said, say
from edge_agent.records import PASS
from edge_agent.wire import Verdict

MOST_PER_S = 250  # of whatever outcome: journald drops what comes beyond 10000 lines in 30 s, and others speak, too
_SECOND_NS = 1_000_000_000


class PartLog:
    """Lives on the publisher's thread, which hands each line to the log's thread: neither a disk nor journald is waited for.

    Each second the first lines are written: those of PASS while they are fewer than `parts_per_s`, any while they are fewer than
    `MOST_PER_S`. What was left out is told at the end of that second."""

    def __init__(self, parts_per_s: int) -> None:
        self._limit = parts_per_s
        self._is_said = is_said("part.judged")
        self._end_ns = 0
        self._written = 0
        self._left_out: dict[str, int] = {}

    def note(self, verdict: Verdict, now_ns: int) -> None:
        """Say the part's outcome, or count it."""
        if not self._is_said:
            return
        if now_ns >= self._end_ns:
            self.tell()
            self._end_ns, self._written = now_ns + _SECOND_NS, 0
        if self._written >= (self._limit if verdict.outcome == PASS else MOST_PER_S):
            self._left_out[verdict.outcome] = self._left_out.get(verdict.outcome, 0) + 1
            return
        self._written += 1
        _say(verdict)

    def look(self, now_ns: int) -> None:
        """Tell what a second left out, though no part has come after it."""
        if self._left_out and now_ns >= self._end_ns:
            self.tell()

    def tell(self) -> None:
        """Tell what was left out until now."""
        if self._left_out:
            counts = {outcome.lower(): n for outcome, n in self._left_out.items()}
            say("part.left_out", count=sum(counts.values()), **counts)
            self._left_out.clear()


def _say(verdict: Verdict) -> None:
    say(
        "part.judged",
        line=verdict.line,
        part=verdict.part_id,
        epoch=verdict.epoch,
        seq=verdict.seq,
        outcome=verdict.outcome,
        reasons=verdict.reasons,
        latency_ms=verdict.latency_ms,
        stages_ms=verdict.stages_ms,
        **({"shadow": True} if verdict.shadow else {}),
        **({"challenge": verdict.challenge} if verdict.challenge else {}),
    )
