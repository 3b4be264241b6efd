"""The verdicts of late, for a subscriber that missed some, and who acknowledged what."""

from __future__ import annotations

import itertools

Key = tuple[str, int, int]  # line, epoch, seq


class ReplayBuffer:
    """The last `limit` verdicts as published. Lives on the publisher thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.acknowledged = 0
        self._verdicts: dict[Key, bytes] = {}
        self._waiting: dict[Key, int] = {}  # insertion order is order of publishing
        self._let_go: dict[str, int] = {}  # by line: when the first was published that made room and that nobody had acknowledged

    def add(self, key: Key, verdict: bytes, now_ns: int, is_live: bool = True) -> None:
        """Keep one published verdict; the oldest makes room."""
        verdicts = self._verdicts
        verdicts[key] = verdict
        if is_live:
            self._waiting[key] = now_ns
        if len(verdicts) > self.limit:
            oldest = next(iter(verdicts))
            del verdicts[oldest]
            waited_since_ns = self._waiting.pop(oldest, None)
            if waited_since_ns is not None:
                self._let_go.setdefault(oldest[0], waited_since_ns)

    def acknowledge(self, line: str, epoch: int, seqs: tuple[int, ...]) -> int:
        """Note acknowledgements; return how many were new."""
        new = sum(self._waiting.pop((line, epoch, seq), None) is not None for seq in seqs)
        self.acknowledged += new
        if new:
            self._let_go.pop(line, None)  # somebody acknowledges again
        return new

    def oldest_waiting_ns(self) -> int | None:
        """When the oldest verdict was published that waits for an acknowledgement; where the line has had none since, that one too
        which is kept no more."""
        return min((*self._let_go.values(), *itertools.islice(self._waiting.values(), 1)), default=None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def find(self, line: str, epoch: int, seqs: tuple[int, ...], most_bytes: int) -> tuple[list[bytes], list[int]]:
        """Return verdicts asked for, together at most so many bytes but one at least, and the seqs not kept (any more)."""
        found: list[bytes] = []
        missing = []
        for seq in dict.fromkeys(seqs):
            verdict = self._verdicts.get((line, epoch, seq))
            if verdict is None:
                missing.append(seq)
            elif not found or len(verdict) <= most_bytes:
                found.append(verdict)
                most_bytes -= len(verdict)
        return found, missing
