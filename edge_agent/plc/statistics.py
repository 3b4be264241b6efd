"""What a line's parts were like, counted by the publisher thread alone and read by whoever scrapes.

Nothing here takes a lock: a histogram's counts only grow, so that a reader who comes in between is at most one part behind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from edge_agent.records import Finding, Judgement

T = TypeVar("T")
BOUNDS_MS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
RECENT_PARTS = 1000  # of which margins tell


class Histogram:
    """Latencies in the fixed buckets of `BOUNDS_MS`; the last count is of those beyond."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, ms: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms


class LineStatistics:
    """One line's latencies by stage, and latency and findings of its last `RECENT_PARTS` parts."""

    def __init__(self) -> None:
        self.stages: dict[str, Histogram] = {}  # by stage; of several views `view/stage`
        self.verdict = Histogram()  # trigger to published verdict
        self._latencies_ms: deque[float] = deque(maxlen=RECENT_PARTS)
        self._findings: deque[tuple[Finding, ...]] = deque(maxlen=RECENT_PARTS)

    def note(self, judgement: Judgement, latency_ms: float, publish_ms: float) -> None:
        """Count one published part; `publish_ms` is from its map to now, 0 where there was no map."""
        for stage, ms in judgement.stages_ms.items():
            self._of_stage(stage).add(ms)
        if publish_ms:
            self._of_stage("publish").add(publish_ms)
        self.verdict.add(latency_ms)
        self._latencies_ms.append(latency_ms)
        if judgement.findings:
            self._findings.append(judgement.findings)

    def _of_stage(self, stage: str) -> Histogram:
        histogram = self.stages.get(stage)
        if histogram is None:
            histogram = self.stages[stage] = Histogram()
        return histogram

    def recent_quantile_ms(self, share: float) -> float | None:
        """The latency that `share` of the last parts stayed below; None without parts."""
        latencies = sorted(_copied(self._latencies_ms))
        return latencies[min(int(share * len(latencies)), len(latencies) - 1)] if latencies else None

    def least_margins(self) -> dict[str, float]:
        """By rule, the least distance to its limit of the last parts that kept it, in the rule's unit."""
        least: dict[str, float] = {}
        for finding in (each for findings in _copied(self._findings) for each in findings if each.ok):
            least[finding.rule] = min(least.get(finding.rule, finding.margin), finding.margin)
        return least


def _copied(source: Iterable[T]) -> list[T]:
    """A copy of what another thread appends to meanwhile; empty where it never stood still."""
    for _ in range(5):
        try:
            return list(source)
        except RuntimeError:  # it grew in between
            continue
    return []
