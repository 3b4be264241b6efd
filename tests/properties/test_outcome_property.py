"""No order of triggers, judgements, duplicates and deadlines publishes a part twice, or PASS without a PASS in time.

The real publisher runs with its thread, journal and sockets, under a clock that only the test moves.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from running import ANY, GUARD_MS, Station

from edge_agent.clock import HeldClock
from edge_agent.records import FAULT, NG, OUTCOMES, PASS, Judgement, Part
from edge_agent.settings import PlcSettings
from edge_agent.wire import Verdict

DEADLINE_MS = 100
EVENTS = st.one_of(
    st.just(("trigger", 0, "")),
    st.tuples(st.just("judge"), st.integers(0, 5), st.sampled_from(OUTCOMES)),
    st.tuples(st.just("wait"), st.integers(1, 120), st.just("")),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_every_trigger_has_one_outcome_and_pass_only_what_was_judged_so(events: list[tuple[str, int, str]]) -> None:
    clock = HeldClock()
    plc = PlcSettings(verdicts=ANY, control=ANY, expect_subscriber=False)
    published: list[Verdict] = []
    parts: list[Part] = []
    judged: dict[int, list[tuple[int, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        station = Station(Path(folder), clock, DEADLINE_MS, {"one": "online"}, plc)
        station.publisher.on_verdict = published.append
        station.publisher.start()
        for what, n, outcome in events:
            if what == "trigger":
                parts.append(station.publisher.trigger(station.line))
            elif what == "wait":
                settle(station)
                clock.advance_ms(n)
            elif n < len(parts):
                judged.setdefault(parts[n].seq, []).append((clock.monotonic_ns(), outcome))
                station.publisher.judged(parts[n], Judgement(outcome))
        settle(station)
        station.close()
    line = station.line
    assert [verdict.seq for verdict in sorted(published, key=lambda v: v.seq)] == [part.seq for part in parts]
    assert line.triggers == sum(line.outcomes.values()) == station.publisher.published == len(parts) == len(station.outbox)
    assert line.published_through == len(parts)
    for verdict in published:
        part = parts[verdict.seq - 1]
        in_time = [outcome for at_ns, outcome in judged.get(part.seq, []) if at_ns < part.deadline_ns]
        assert part.deadline_ns == part.trigger_ns + (DEADLINE_MS - GUARD_MS) * 1_000_000
        if in_time:
            assert verdict.outcome == in_time[0]
        else:
            assert (verdict.outcome, verdict.outcome in (PASS, NG)) == (FAULT, False)
            assert verdict.reasons[0] in ("late", "interrupted")


def settle(station: Station) -> None:
    """Return when the publisher has gone once round after everything given to it so far."""
    for _ in range(2):
        done = threading.Event()
        station.publisher.call(done.set)
        assert done.wait(5)
