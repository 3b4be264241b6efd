"""The promises to the PLC, over real sockets: one outcome for each part, in time, and silence never means PASS."""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from running import BAD, GOOD, Station, conserved, hear, hear_json, identity, judge_all, wait_until

from edge_agent.clock import HeldClock
from edge_agent.errors import Reason
from edge_agent.plc.journal import BODY_BYTES, Journal
from edge_agent.records import FAULT, NG, PASS, Blob, Judgement
from edge_agent.wire import read_verdict_bin, read_verdict_json

Start = Callable[..., Station]


# --- outcomes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("judgement", "rails"), [(GOOD, (True, False)), (BAD, (False, True))])
def test_a_verdict_comes_as_json_and_as_bin_with_the_same_seq(
    station: Start, judgement: Judgement, rails: tuple[bool, bool]
) -> None:
    here = station()
    hearing = here.subscriber("verdict.")
    part = here.publisher.trigger(here.line, "A-1")
    here.publisher.judged(part, judgement)
    (json_topic, text), (bin_topic, body) = hear(hearing), hear(hearing)
    verdict, fixed = read_verdict_json(text), read_verdict_bin(body)
    assert (json_topic, bin_topic) == ("verdict.json/hall3/one", "verdict.bin/hall3/one")
    assert (verdict.outcome, verdict.reasons, verdict.part_id) == (judgement.outcome, judgement.reasons, "A-1")
    assert (verdict.recipe, verdict.recipe_hash, verdict.epoch) == ("cap", "ab" * 32, here.journal.epoch)
    assert (fixed.seq, fixed.epoch, fixed.part_id) == (verdict.seq, verdict.epoch, "A-1") == (1, here.journal.epoch, "A-1")
    assert (fixed.is_pass, fixed.is_ng) == rails


def test_a_camera_whose_clock_runs_ahead_makes_no_negative_latency(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.")
    before_us = here.publisher.now_us()
    part = here.publisher.trigger(here.line, trigger_ns=time.monotonic_ns() + 900_000_000)
    assert part.trigger_ns <= time.monotonic_ns()
    here.publisher.judged(part, GOOD)
    verdict = read_verdict_json(hear(hearing)[1])
    assert 0 <= verdict.latency_ms < 900
    assert before_us <= verdict.trigger_time_us <= here.publisher.now_us()
    assert read_verdict_bin(hear(hearing)[1]).is_pass


def test_a_part_never_judged_is_late_by_itself(station: Start) -> None:
    here = station(deadline_ms=60)
    hearing = here.subscriber("verdict.json/")
    part = here.publisher.trigger(here.line)
    verdict = read_verdict_json(hear(hearing)[1])
    heard_ns = time.monotonic_ns()
    assert (verdict.outcome, verdict.reasons) == (FAULT, ("late",))
    assert heard_ns >= part.deadline_ns
    wait_until(lambda: here.line.reasons == {"late": 1})


def test_a_deadline_shorter_than_the_heartbeat_wakes_the_publisher(station: Start) -> None:
    here = station(deadline_ms=20, heartbeat_ms=5_000)
    hearing = here.subscriber("verdict.json/")
    for _ in range(20):
        part = here.publisher.trigger(here.line)
        assert read_verdict_json(hear(hearing, 1000)[1]).reasons == ("late",)
        assert time.monotonic_ns() < part.trigger_ns + 200_000_000


def test_a_result_after_the_deadline_is_discarded_and_counted(station: Start) -> None:
    clock = HeldClock()
    here = station(clock, deadline_ms=100)
    hearing = here.subscriber("verdict.json/")
    part = here.publisher.trigger(here.line)
    clock.advance_ms(95)
    assert read_verdict_json(hear(hearing)[1]).reasons == ("late",)
    here.publisher.judged(part, GOOD)
    wait_until(lambda: here.line.discarded == 1)
    assert not hearing.poll(50)
    assert here.line.outcomes == {PASS: 0, NG: 0, FAULT: 1}


def test_a_pass_that_reaches_the_publisher_after_the_deadline_is_late(station: Start) -> None:
    """Judgement and deadline are both waiting: the deadline wins."""
    clock = HeldClock()
    here = station(clock, deadline_ms=100)
    hearing = here.subscriber("verdict.json/")
    part = here.publisher.trigger(here.line)
    held, go = threading.Event(), threading.Event()
    here.publisher.call(lambda: (held.set(), go.wait(5)))  # type: ignore[func-returns-value]
    assert held.wait(5)
    here.publisher.judged(part, GOOD)
    clock.advance_ms(96)
    go.set()
    verdict = read_verdict_json(hear(hearing)[1])
    assert (verdict.outcome, verdict.reasons) == (FAULT, ("late",))
    assert not hearing.poll(50)


def test_just_before_the_guard_a_pass_is_a_pass(station: Start) -> None:
    clock = HeldClock()
    here = station(clock, deadline_ms=100)
    hearing = here.subscriber("verdict.json/")
    part = here.publisher.trigger(here.line)
    clock.advance_ms(94.9)
    here.publisher.judged(part, GOOD)
    verdict = read_verdict_json(hear(hearing)[1])
    assert (verdict.outcome, verdict.latency_ms) == (PASS, 94.9)


def test_of_two_judgements_the_first_counts(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.json/")
    part = here.publisher.trigger(here.line)
    here.publisher.judged(part, BAD)
    here.publisher.judged(part, GOOD)
    assert read_verdict_json(hear(hearing)[1]).outcome == NG
    wait_until(lambda: here.line.discarded == 1)
    assert not hearing.poll(30)
    conserved(here)


def test_a_fault_carries_its_reason(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.bin/")
    for reason in Reason:
        here.publisher.fault(here.publisher.trigger(here.line), reason)
    codes = [read_verdict_bin(hear(hearing)[1]).reason_code for _ in Reason]
    assert codes == list(range(1, len(Reason) + 1))


def test_stopping_interrupts_what_is_open_and_keeps_what_was_judged(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.json/", "heartbeat/")
    parts = [here.publisher.trigger(here.line) for _ in range(4)]
    here.publisher.judged(parts[0], GOOD)
    here.publisher.judged(parts[2], BAD)
    here.stop()
    messages = [hear(hearing) for _ in iter(lambda: hearing.poll(100), 0)]
    verdicts = {v.seq: (v.outcome, v.reasons) for v in (read_verdict_json(b) for t, b in messages if t.startswith("verdict"))}
    assert verdicts == {
        1: (PASS, ()),
        2: (FAULT, ("interrupted",)),
        3: (NG, ("blob_count",)),
        4: (FAULT, ("interrupted",)),
    }
    last = json.loads([body for topic, body in messages if topic.startswith("heartbeat")][-1])
    assert last["lines"]["one"] | {"recipe": ""} == {
        "state": "Error",
        "mode": "online",
        "seq": 4,
        "open": 0,
        "recipe": "",
        "verified": True,
        "why": "stopped",
    }
    conserved(here)


def test_calling_a_stopped_publisher_harms_nobody(station: Start) -> None:
    here = station()
    part = here.publisher.trigger(here.line)
    here.stop()
    here.publisher.judged(part, GOOD)
    here.publisher.call(lambda: None)
    assert here.line.outcomes[FAULT] == 1


def test_triggers_outcomes_published_journal_and_outbox_agree(station: Start) -> None:
    here = station(modes={"one": "online", "two": "shadow"}, deadline_ms=2000)
    hearing = here.subscriber("verdict.bin/", "shadow.bin/")

    def work(line_of: int) -> None:
        line = here.lines[line_of]
        for n, judgement in zip(range(150), itertools.cycle([GOOD, BAD, None]), strict=False):
            part = here.publisher.trigger(line, f"{line.name}-{n}")
            if judgement is not None:
                here.publisher.judged(part, judgement)

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: all(line.open == 0 for line in here.lines))
    conserved(here)
    for line in here.lines:
        assert line.outcomes == {PASS: 100, NG: 100, FAULT: 100}
        assert line.published_through == line.triggers == 300
    heard = [hear(hearing) for _ in range(600)]
    assert len({(topic, read_verdict_bin(body).seq) for topic, body in heard}) == 600
    assert here.publisher.published == len(here.outbox) == here.publisher.latencies.count == 600


# --- journal and outbox -----------------------------------------------------------------------------------------------
def test_an_outcome_is_in_the_journal_before_anybody_hears_of_it(station: Start) -> None:
    here = station()
    here.subscriber("verdict")
    order: list[str] = []
    decide, publish = here.journal.decide, here.publisher.sockets.publish
    here.journal.decide = lambda *a: (order.append("journal"), decide(*a))[1]  # type: ignore[method-assign, func-returns-value, assignment]
    here.publisher.sockets.publish = lambda topic, body: (  # type: ignore[method-assign, assignment]
        order.append("wire") if topic.startswith(b"verdict") else None,
        publish(topic, body),
    )[1]
    judge_all(here, 1)
    wait_until(lambda: len(here.outbox) == 1)
    assert order == ["journal", "wire", "wire"]


def test_the_outbox_gets_the_record_and_the_ticket_and_the_journal_forgets_with_it(station: Start) -> None:
    here = station()
    parts = judge_all(here, 3)
    wait_until(lambda: len(here.outbox) == 3)
    assert [read_verdict_json(record).seq for record, _ in here.outbox] == [1, 2, 3]
    assert [ticket for _, ticket in here.outbox] == [part.journal_ticket for part in parts]
    here.journal.commit([ticket for _, ticket in here.outbox[:2]])
    here.close()
    again = Journal(here.journal._file, 64)
    again.close()
    assert [(e.seq, e.body) for e in again.unfinished] == [(3, here.outbox[2][0])]


def test_a_record_too_long_for_the_journal_is_kept_there_without_its_details(station: Start) -> None:
    here = station()
    blob = Blob(class_name="d" * 30, area_px=1, x=0, y=0, width=1, height=1, centroid_x=0, centroid_y=0, peak=1, mean=1)
    judge_all(here, 1, Judgement(NG, ("blob_count",), (blob,) * 50))
    wait_until(lambda: len(here.outbox) == 1)
    here.close()
    again = Journal(here.journal._file, 64)
    again.close()
    (entry,) = again.unfinished
    assert entry.body is not None
    assert len(here.outbox[0][0]) > BODY_BYTES >= len(entry.body)
    kept = read_verdict_json(entry.body)
    assert (kept.outcome, kept.reasons, kept.blobs) == (NG, ("blob_count",), ())


def test_a_full_outbox_is_counted_and_delays_nothing(station: Start) -> None:
    here = station()
    here.outbox_has_room = False
    hearing = here.subscriber("verdict.json/")
    judge_all(here, 5)
    assert [read_verdict_json(hear(hearing)[1]).outcome for _ in range(5)] == [PASS] * 5
    wait_until(lambda: here.publisher.records_refused == 5)


def test_a_part_id_that_nothing_can_encode_costs_neither_the_part_nor_the_thread(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.json/")
    for part_id in ("\udcff.png", "x" * 300, "a\0b"):
        here.publisher.judged(here.publisher.trigger(here.line, part_id), GOOD)
    assert [read_verdict_json(hear(hearing)[1]).part_id for _ in range(3)] == ["?.png", "x" * 64, "a?b"]


# --- heartbeat, welcome -----------------------------------------------------------------------------------------------
def test_the_heartbeat_comes_every_50_ms_and_carries_seq(station: Start) -> None:
    here = station()
    beats = here.subscriber("heartbeat/hall3")
    judge_all(here, 3)
    here.publisher.trigger(here.line)
    wait_until(lambda: here.line.published_through == 3)
    hear(beats)
    times, last = [], {}
    for _ in range(11):
        last = hear_json(beats)
        times.append(time.monotonic())
    assert 0.4 < times[-1] - times[0] < 3
    assert statistics.median(b - a for a, b in itertools.pairwise(times)) < 0.1
    assert (last["epoch"], last["lines"]["one"]["seq"], last["lines"]["one"]["open"]) == (here.journal.epoch, 3, 1)
    assert (last["lines"]["one"]["state"], last["lines"]["one"]["recipe"], last["alarms"]) == ("Ready", "cap", [])


def test_seq_in_the_heartbeat_waits_for_the_oldest_open_part(station: Start) -> None:
    here = station()
    parts = [here.publisher.trigger(here.line) for _ in range(3)]
    here.publisher.judged(parts[2], GOOD)
    here.publisher.judged(parts[1], GOOD)
    wait_until(lambda: here.publisher.published == 2)
    assert here.publisher.heartbeat()["lines"]["one"]["seq"] == 0
    here.publisher.judged(parts[0], GOOD)
    wait_until(lambda: here.publisher.heartbeat()["lines"]["one"]["seq"] == 3)


def test_a_late_joiner_is_welcomed_with_the_last_heartbeat(station: Start) -> None:
    here = station(heartbeat_ms=200)
    judge_all(here, 2)
    wait_until(lambda: here.line.published_through == 2)
    beats = here.subscriber("heartbeat/")
    hear(beats)
    joiner = here.subscriber("welcome/hall3")
    (frame,) = joiner.recv_multipart()
    topic, _, body = frame.partition(b" ")
    assert topic == b"welcome/hall3"
    assert json.loads(body)["lines"]["one"]["seq"] == 2


def test_heartbeats_go_on_while_parts_flow(station: Start) -> None:
    here = station()
    beats = here.subscriber("heartbeat/")
    ending = threading.Event()

    def load() -> None:
        while not ending.wait(0.0005):
            judge_all(here, 2)

    loading = threading.Thread(target=load)
    loading.start()
    hear(beats)
    times = []
    for _ in range(8):
        hear(beats)
        times.append(time.monotonic())
    ending.set()
    loading.join()
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.25


def test_a_new_recipe_counts_from_the_next_trigger(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.json/")
    first = here.publisher.trigger(here.line)
    here.line.identity = replace(identity(), recipe="lid")
    second = here.publisher.trigger(here.line)
    for part in (first, second):
        here.publisher.judged(part, GOOD)
    assert [read_verdict_json(hear(hearing)[1]).recipe for _ in range(2)] == ["cap", "lid"]
