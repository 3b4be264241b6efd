"""What the last run left unfinished is delivered now, under its old epoch and sequence, and never as a live verdict."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.errors import DeliveryError, Reason
from edge_agent.events import say
from edge_agent.plc.journal import Entry, Journal
from edge_agent.plc.publisher import RecordSink
from edge_agent.plc.replay import ReplayBuffer
from edge_agent.records import FAULT
from edge_agent.wire import Verdict, read_verdict_json, verdict_json

_PORTION = 32  # no outbox has room for fewer


def deliver_unfinished(
    station: str,
    journal: Journal,
    outbox: RecordSink,
    replay: ReplayBuffer,
    wait: Callable[[], object],
) -> None:
    """Queue every outcome that was not yet durable, and FAULT interrupted for every part without one.

    Each stays in the journal until the outbox commits its ticket. `wait` lets the disk take a portion, for as long as it likes."""
    for ticket, entry in enumerate(journal.unfinished):
        verdict = _decided(entry) or _interrupted(station, entry)
        text = verdict_json(verdict)
        outbox(text, ticket)
        if ticket % _PORTION == _PORTION - 1:
            wait()
        replay.add((verdict.line, verdict.epoch, verdict.seq), text, 0, is_live=False)
        if verdict.reasons == (Reason.INTERRUPTED.value,):
            say("part.interrupted", line=verdict.line, epoch=verdict.epoch, seq=verdict.seq, part=verdict.part_id)
    if journal.unfinished:
        say("journal.recovered", parts=len(journal.unfinished))


def _decided(entry: Entry) -> Verdict | None:
    if entry.body is None:
        return None
    try:
        return read_verdict_json(entry.body)
    except DeliveryError:
        return None


def _interrupted(station: str, entry: Entry) -> Verdict:
    """The outcome of a part whose daemon died before it was judged."""
    return Verdict(
        station=station,
        line=entry.line,
        epoch=entry.epoch,
        seq=entry.seq,
        part_id=entry.part_id,
        outcome=FAULT,
        reasons=(Reason.INTERRUPTED.value,),
        trigger_time_us=entry.trigger_time_us,
        latency_ms=0.0,
        recipe="",
        recipe_hash="",
        model_hash="",
        engine_id="",
        blobs=(),
        findings=(),
        shadow=entry.shadow,
    )
