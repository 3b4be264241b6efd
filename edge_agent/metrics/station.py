"""The station's numbers, read from the rooms that count them. Nothing here writes, locks or waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent import __version__
from edge_agent.errors import Reason
from edge_agent.events import dropped_lines
from edge_agent.line import Line
from edge_agent.metrics.machine import Sample
from edge_agent.plc.journal import Journal
from edge_agent.plc.parts import MODES, LineBook
from edge_agent.plc.publisher import Publisher
from edge_agent.plc.statistics import LineStatistics
from edge_agent.records import FAULT, NG, PASS
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.sender import Sender

_NO_FAULTS = {reason.value: 0 for reason in Reason}


@dataclass(frozen=True, slots=True)
class Sources:
    """Whose numbers are read. `views` are the lines of threads by the name of their line; `guard_ms` is the lines'."""

    station: str
    state: Path
    publisher: Publisher
    journal: Journal
    outbox: Outbox
    outbox_cap_mb: int
    evidence: EvidenceWorker
    sender: Sender | None
    views: dict[str, list[Line]]
    guard_ms: dict[str, float]
    is_reload_refused: Callable[[], bool]


def of_station(sources: Sources) -> Iterator[Sample]:
    """Every sample but histograms and the machine's."""
    yield "station_info", (sources.station, __version__, str(sources.journal.epoch)), 1
    yield "reload_refused", (), float(sources.is_reload_refused())
    yield "log_dropped_total", (), dropped_lines()
    statistics = sources.publisher.statistics or {}
    for name, book in sources.publisher.book.lines.items():
        yield from _of_book(book)
        yield from _of_margins(book, statistics[name], sources.guard_ms[name])
        for view in sources.views.get(name, ()):
            yield from _of_view(name, view)
    yield from _of_periods(sources.publisher)
    yield from of_plc(sources.publisher)
    yield from _of_outbox(sources)


def view_of(line: str, book: LineBook) -> str:
    """The view's name; '' where the line has but one camera."""
    return book.name.removeprefix(line).removeprefix(".")


def _of_book(book: LineBook) -> Iterator[Sample]:
    line = book.name
    yield "triggers_total", (line,), book.triggers
    yield "open_parts", (line,), max(0, book.open)
    yield "discarded_results_total", (line,), book.discarded
    yield "deadline_misses_total", (line,), book.reasons.get(Reason.LATE.value, 0)
    yield from (("parts_total", (line, outcome), n) for outcome, n in book.outcomes.items())
    faults = _NO_FAULTS | book.reasons  # from 0 on: what appears with its first count has no increase
    yield from (("reasons_total", (line, FAULT, reason), n) for reason, n in faults.items())
    yield from (("reasons_total", (line, NG, rule), n) for rule, n in book.broken_rules.copy().items())
    yield "line_ready", (line,), float(book.state() == "Ready")
    yield "line_held", (line,), float(bool(book.hold))
    yield "line_verified", (line,), float(book.verified)
    yield from (("line_mode", (line, mode), float(book.mode == mode)) for mode in MODES)


def _of_margins(book: LineBook, statistics: LineStatistics, guard_ms: float) -> Iterator[Sample]:
    identity = book.identity
    if identity is not None:
        deadline_ms = identity.deadline_ms - guard_ms
        yield "deadline_seconds", (book.name,), deadline_ms / 1000
        slow_ms = statistics.recent_quantile_ms(0.99)
        if slow_ms is not None:
            yield "deadline_margin_seconds", (book.name,), (deadline_ms - slow_ms) / 1000
    yield from (("rule_margin", (book.name, rule), margin) for rule, margin in statistics.least_margins().items())


def _of_view(line: str, view: Line) -> Iterator[Sample]:
    labels = (line, view_of(line, view.book))
    identity = view.bundle.identity
    yield "line_info", (*labels, identity.recipe, identity.recipe_hash, identity.model_hash, identity.engine_id), 1
    yield "frames_total", labels, view.frames
    yield "waiting_frames", labels, view.waiting
    yield "skipped_frames_total", labels, view.grabber.skipped
    yield from (("camera_events_total", (*labels, what), n) for what, n in view.grabber.counters.items())
    ring = view.grabber.ring
    if ring is not None:
        usable = ring.slots - ring.quarantined
        yield "frame_slots", labels, usable
        yield "frame_slots_free", labels, min(usable, ring.free + len(view.grabber.lent))  # a hung driver keeps what it was lent


def _of_periods(publisher: Publisher) -> Iterator[Sample]:
    for line, counters in (publisher.counters.lines if publisher.counters is not None else {}).items():
        for period, tally in (("shift", counters.kept.shift), ("lot", counters.kept.lot)):
            counts = {PASS: tally.passed, NG: tally.ng, FAULT: tally.fault}
            yield from (("period_parts", (line, period, outcome), n) for outcome, n in counts.items())
            if parts := sum(counts.values()):
                yield "period_yield", (line, period), counts[PASS] / parts


def of_plc(publisher: Publisher) -> Iterator[Sample]:
    """What the publisher and its link say; read while it goes on."""
    yield "published_total", (), publisher.published
    yield "records_refused_total", (), publisher.records_refused
    yield "acknowledged_total", (), publisher.replay.acknowledged
    yield "unacknowledged", (), publisher.replay.waiting
    oldest_ns = publisher.replay.oldest_waiting_ns
    yield "unacknowledged_age_seconds", (), (time.monotonic_ns() - oldest_ns) / 1e9 if oldest_ns else 0.0
    yield "subscribers", (), publisher.sockets.subscribers
    yield "dropped_messages_total", (), publisher.sockets.dropped
    yield from (("alarm", (name,), 1) for name in sorted(publisher.alarms.active.copy()))


def _of_outbox(sources: Sources) -> Iterator[Sample]:
    yield "journal_overwritten_total", (), sources.journal.overwritten
    stats = sources.outbox.stats()
    yield "outbox_rows", (), sources.outbox.waiting()
    yield "outbox_bytes", (), stats.waiting_bytes
    yield "outbox_cap_bytes", (), sources.outbox_cap_mb << 20
    yield "outbox_age_seconds", (), max(0.0, time.time() - stats.oldest_us / 1e6) if stats.oldest_us else 0.0
    yield "outbox_committed_total", (), stats.committed
    yield "outbox_acknowledged_total", (), stats.acknowledged
    yield "outbox_lost_total", ("record",), stats.records_lost
    yield "outbox_lost_total", ("picture",), stats.pictures_lost
    yield "outbox_failures_total", (), stats.writer_failures
    yield "pictures_refused_total", (), sources.evidence.refused
    if sources.sender is not None:
        yield "collector_connected", (), float(sources.sender.is_connected)
        yield "collector_resent_total", (), sources.sender.resent
