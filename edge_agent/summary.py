"""The counters of a run, as `run`, `replay` and the benchmarks tell them at its end."""

from __future__ import annotations

from typing import Any

from edge_agent.plc.latency import Latencies
from edge_agent.plc.publisher import Publisher
from edge_agent.uplink.outbox import Outbox


def summary_of(publisher: Publisher, outbox: Outbox) -> dict[str, Any]:
    """Counts and latencies of what is published; they reconcile: triggers = outcomes = published."""
    books = publisher.book.lines.values()
    outcomes = {name: sum(book.outcomes[name] for book in books) for name in ("PASS", "NG", "FAULT")}
    shipped = outbox.stats()
    return {
        "triggers": sum(book.triggers for book in books),
        "outcomes": sum(outcomes.values()),
        "pass": outcomes["PASS"],
        "ng": outcomes["NG"],
        "fault": outcomes["FAULT"],
        "reasons": {reason: n for book in books for reason, n in book.reasons.items()},
        "published": publisher.published,
        "acknowledged": shipped.records_acknowledged,
        "lost": shipped.records_lost,
        "slips": None,
        "false_rejects": None,
        "latency_ms": _quantiles(publisher.latencies),
        "map_to_verdict_ms": _quantiles(publisher.publish_latencies),
        "seconds": publisher.seconds,
    }


def _quantiles(latencies: Latencies) -> dict[str, float | None]:
    return {"p50": latencies.quantile_ms(0.5), "p99": latencies.quantile_ms(0.99)}
