"""The verdicts of late, for a subscriber that missed some, and who acknowledged what."""

from __future__ import annotations

from collections import deque

Key = tuple[str, int, int]  # line, epoch, seq
# A dict is laid out anew in one go, now and then: one of a million verdicts holds the publisher up for a tenth of a second.
_TABLES = 256


class ReplayBuffer:
    """The last `limit` verdicts as published. Lives on the publisher thread alone. What a part costs does not depend on `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.acknowledged = 0
        self.waiting = 0  # verdicts that nobody has acknowledged
        self.oldest_waiting_ns: int | None = None  # as `look_for_oldest` last found it; other threads read this
        self._verdicts: list[dict[Key, bytes]] = [{} for _ in range(_TABLES)]
        self._waiting: list[dict[Key, int]] = [{} for _ in range(_TABLES)]  # when they were published
        self._order: deque[Key] = deque()  # of publishing: to look for a dict's first key takes as long as many were taken out
        self._unheard: deque[Key] = deque()  # those that wait in this order; acknowledged ones until they are the first
        self._let_go: dict[str, int] = {}  # by line: when the first was published that made room and that nobody had acknowledged

    def add(self, key: Key, verdict: bytes, now_ns: int, is_live: bool = True) -> None:
        """Keep one published verdict; the oldest makes room."""
        table = key[2] % _TABLES
        self._verdicts[table][key] = verdict
        self._order.append(key)
        if is_live:
            self._waiting[table][key] = now_ns
            self._unheard.append(key)
            self.waiting += 1
        if len(self._order) > self.limit:
            oldest = self._order.popleft()
            self._verdicts[oldest[2] % _TABLES].pop(oldest, None)
            waited_since_ns = self._heard(oldest)
            if waited_since_ns is not None:
                self._let_go.setdefault(oldest[0], waited_since_ns)

    def _heard(self, key: Key) -> int | None:
        """Strike a verdict off those that wait; return since when it did, None where it does not."""
        since_ns = self._waiting[key[2] % _TABLES].pop(key, None)
        self.waiting -= since_ns is not None
        return since_ns

    def acknowledge(self, line: str, epoch: int, seqs: tuple[int, ...]) -> int:
        """Note acknowledgements; return how many were new."""
        new = sum(self._heard((line, epoch, seq)) is not None for seq in seqs)
        self.acknowledged += new
        if new:
            self._let_go.pop(line, None)  # somebody acknowledges again
        return new

    def look_for_oldest(self) -> int | None:
        """When the oldest verdict was published that waits for an acknowledgement; where the line has had none since, that one too
        which is kept no more. Has to be called now and then: it forgets what was acknowledged."""
        unheard = self._unheard
        while unheard and unheard[0] not in self._waiting[unheard[0][2] % _TABLES]:
            unheard.popleft()
        first = (self._waiting[unheard[0][2] % _TABLES][unheard[0]],) if unheard else ()
        self.oldest_waiting_ns = min((*self._let_go.values(), *first), default=None)
        return self.oldest_waiting_ns

    def find(self, line: str, epoch: int, seqs: tuple[int, ...], most_bytes: int) -> tuple[list[bytes], list[int]]:
        """Return verdicts asked for, together at most so many bytes but one at least, and the seqs not kept (any more)."""
        found: list[bytes] = []
        missing = []
        for seq in dict.fromkeys(seqs):
            verdict = self._verdicts[seq % _TABLES].get((line, epoch, seq))
            if verdict is None:
                missing.append(seq)
            elif not found or len(verdict) <= most_bytes:
                found.append(verdict)
                most_bytes -= len(verdict)
        return found, missing
