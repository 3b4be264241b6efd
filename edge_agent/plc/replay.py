"""The verdicts of late, for a subscriber that missed some, and who acknowledged what."""

from __future__ import annotations

Key = tuple[str, int, int]  # line, epoch, seq


class ReplayBuffer:
    """The last `limit` verdicts as published. Lives on the publisher thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.acknowledged = 0
        self._verdicts: dict[Key, bytes] = {}
        self._waiting: dict[Key, int] = {}  # insertion order is order of publishing

    def add(self, key: Key, verdict: bytes, now_ns: int, is_live: bool = True) -> None:
        """Keep one published verdict; the oldest makes room."""
        verdicts = self._verdicts
        verdicts[key] = verdict
        if is_live:
            self._waiting[key] = now_ns
        if len(verdicts) > self.limit:
            oldest = next(iter(verdicts))
            del verdicts[oldest]
            self._waiting.pop(oldest, None)

    def acknowledge(self, line: str, epoch: int, seqs: tuple[int, ...]) -> int:
        """Note acknowledgements; return how many were new."""
        new = sum(self._waiting.pop((line, epoch, seq), None) is not None for seq in seqs)
        self.acknowledged += new
        return new

    def oldest_waiting_ns(self) -> int | None:
        """When the oldest verdict without acknowledgement was published."""
        return next(iter(self._waiting.values()), None)

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
