"""The thread that owns the clock of every part.

A trigger is registered here first; a judgement, a deadline or the end of the daemon claims the part's one outcome; the
outcome goes into the journal, to the subscribers and to the outbox, in that order. Nothing on this thread waits for a
disk or for a peer.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from edge_agent.clock import Clock, to_ms
from edge_agent.errors import Reason
from edge_agent.events import say
from edge_agent.plc.alarms import Alarms
from edge_agent.plc.challenge import LineChallenge
from edge_agent.plc.counters import Counters
from edge_agent.plc.journal import BODY_BYTES, Journal
from edge_agent.plc.latency import Latencies
from edge_agent.plc.partlog import PartLog
from edge_agent.plc.parts import LineBook, PartBook
from edge_agent.plc.replay import ReplayBuffer
from edge_agent.plc.sockets import Answer, PlcSockets
from edge_agent.plc.statistics import LineStatistics
from edge_agent.pulse import Pulse
from edge_agent.records import FAULT, LATE, Identity, Judgement, Part, fault_of, late_instead
from edge_agent.security import ServerKeys
from edge_agent.settings import PlcSettings
from edge_agent.wire import Verdict, encode_json, verdict_bin, verdict_json

RecordSink = Callable[[bytes, int], bool]  # record, journal ticket -> taken
_LAST_WORDS_S = 1.0  # how long a stop waits for acknowledgements, where somebody is subscribed
_BUSY_NS = 1_000_000  # outcomes that follow this closely are published together, at most this much later
_NEVER_NS = 1 << 62
_BATCH = 64  # outcomes published before deadlines and sockets get their turn
_MOST_REASONS, _MOST_REASON = 8, 200  # of a verdict too long for its journal slot
_HELD = fault_of(Reason.NOT_READY)
_INTERRUPTED = fault_of(Reason.INTERRUPTED)


class Publisher:
    """Owns the parts' deadlines and outcomes and the PLC's sockets. `trigger` and `judged` may be called from any thread."""

    def __init__(
        self,
        station: str,
        settings: PlcSettings,
        journal: Journal,
        book: PartBook,
        outbox: RecordSink,
        clock: Clock,
        keys: ServerKeys | None = None,
    ) -> None:
        self.station = station
        self.book = book
        self.journal = journal
        self.replay = ReplayBuffer(settings.replay_parts)
        self.published = 0
        self.records_refused = 0
        self.on_verdict: Callable[[Verdict], None] | None = None  # sees every outcome as published, on this thread
        self.part_log: PartLog | None = None  # a line for each part, where somebody asked for it
        self.latencies = Latencies()  # trigger to published verdict
        self.publish_latencies = Latencies()  # probability map to published verdict
        self.counters: Counters | None = None  # of shift and lot
        self.challenges: dict[str, LineChallenge] = {}  # of the lines that have master parts
        self.statistics: dict[str, LineStatistics] | None = None  # by line; kept where somebody reads them
        self._first_ns = 0
        self._last_ns = 0
        self._spacing_ns = _NEVER_NS  # between the last two outcomes
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._judged: queue.SimpleQueue[tuple[Part, Judgement]] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._is_asleep = False
        self._asleep_until_ns = 0
        self._stop = threading.Event()
        self.sockets = PlcSockets(station, settings, journal.epoch, self._wake, book.lines, keys)
        self.alarms = Alarms(settings)
        self.answer: Answer = lambda _identity, _request: None  # to what is asked on the control socket; see plc/control.py
        self._topics = {(name, shadow): self.sockets.topics(name, shadow) for name in book.lines for shadow in (False, True)}
        self._next_heartbeat_ns = 0
        self.thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.pulse = Pulse(self.thread.name)
        self._heartbeat_s = settings.heartbeat_ms / 1000

    # --- called from other threads --------------------------------------------------------------------------------
    def start(self) -> None:
        self.thread.start()

    def trigger(
        self, line: LineBook, part_id: str = "", identity: Identity | None = None, trigger_ns: int = 0, challenge: str = ""
    ) -> Part:
        """Register a trigger before anything else happens to it; its clock runs from `trigger_ns` (0: from here), and `identity`
        (the line's, where none is given) is what it will be judged by."""
        now_ns, wall_us = self._clock.monotonic_ns(), self._clock.wall_us()
        if trigger_ns:
            trigger_ns = min(trigger_ns, now_ns)  # a camera's clock may run ahead of ours; a part's latency is never negative
            now_ns, wall_us = trigger_ns, wall_us - (now_ns - trigger_ns) // 1000
        part = self.book.open_part(line, part_id, now_ns, wall_us, identity, challenge)
        if self._is_asleep and part.deadline_ns < self._asleep_until_ns:
            self._rouse()
        return part

    def judged(self, part: Part, judgement: Judgement) -> None:
        """Offer an outcome; it counts only if it is the part's first and comes before the deadline."""
        self._judged.put((part, judgement))
        if self._is_asleep:
            self._rouse()

    def fault(self, part: Part, reason: Reason) -> None:
        self.judged(part, fault_of(reason))

    def call(self, function: Callable[[], None]) -> None:
        """Run something on the publisher thread: answers that come later, mode changes."""
        self._calls.put(function)
        self._rouse()

    def now_us(self) -> int:
        return self._clock.wall_us()

    def now_ns(self) -> int:
        return self._clock.monotonic_ns()

    def stop(self, drain_s: float) -> None:
        """Publish what is in flight for at most `drain_s`; what is left is FAULT interrupted. Closes the sockets.

        A gateway gets part of that time to ask for what it missed."""
        until = self._clock.monotonic_ns() + int(drain_s * 1e9)
        while self.book.open_parts() and self._clock.monotonic_ns() < until:
            self._stop.wait(0.005)
        until = min(until, self._clock.monotonic_ns() + int(_LAST_WORDS_S * 1e9))
        expected = self._settings.expect_subscriber
        while self.replay.waiting and (expected or self.sockets.subscribers) and self._clock.monotonic_ns() < until:
            self._stop.wait(0.005)
        self._stop.set()
        self._rouse()
        self.thread.join()

    def close(self) -> None:
        """Give the sockets back where the thread was never started, which does so at its end."""
        if self.thread.ident is None and self._wake >= 0:
            self._let_go()

    @property
    def seconds(self) -> float:
        """From the first trigger to the last published outcome."""
        return (self._last_ns - self._first_ns) / 1e9

    def _rouse(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except (OSError, ValueError):
            pass  # the publisher has ended meanwhile; -1 is no descriptor

    # --- the publisher thread -------------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stop.is_set():
            self.pulse.beat(self._heartbeat_s)
            self._publish_waiting()
            now_ns = self._clock.monotonic_ns()
            for part in self.book.expired(now_ns):
                self._conclude(part, LATE)
            if now_ns >= self._next_heartbeat_ns:
                self._beat(now_ns)
            self._answer()
            self._sleep()
        self.pulse.rest()
        self._finish()

    def _publish_waiting(self) -> None:
        get = self._judged.get_nowait
        try:
            for _ in range(_BATCH):
                self._conclude(*get())
        except queue.Empty:
            pass

    def _sleep(self) -> None:
        """Wait for a socket, a judgement, the next deadline or the next heartbeat, whichever comes first.

        When parts come in quick succession it naps instead, without being woken for each: one wake-up for many."""
        if self._spacing_ns < _BUSY_NS and self._clock.monotonic_ns() - self._last_ns < _BUSY_NS:
            self.sockets.wait(1)
            return
        self._asleep_until_ns = _NEVER_NS  # until the due time is known, every trigger rouses
        self._is_asleep = True
        if self._judged.empty() and self._calls.empty():
            due_ns = self._next_heartbeat_ns
            deadline_ns = self.book.next_deadline_ns()
            if deadline_ns is not None:
                due_ns = min(due_ns, deadline_ns)
            self._asleep_until_ns = due_ns
            wait_ns = due_ns - self._clock.monotonic_ns()
            if wait_ns > 0:
                self.sockets.wait(-(-wait_ns // 1_000_000))
        self._is_asleep = False

    def _conclude(self, part: Part, judgement: Judgement) -> None:
        """Make the judgement the part's one outcome: journal, PLC, outbox."""
        line = self.book.lines[part.line]
        now_ns = self._clock.monotonic_ns()
        if now_ns >= part.deadline_ns:
            judgement = late_instead(judgement)
        if line.hold and not part.shadow:
            judgement = _HELD
        if not self.book.claim(part):
            line.discarded += 1
            say("part.discarded", line=part.line, part=part.part_id, seq=part.seq, outcome=judgement.outcome)
            return
        verdict = self._verdict(part, judgement, to_ms(now_ns - part.trigger_ns))
        text = verdict_json(verdict)
        if self.counters is not None and not part.shadow:
            self.counters.lines[part.line].count(part.epoch, part.seq, judgement.outcome, judgement.reasons)
        _keep(self.journal, part.journal_ticket, verdict, text)
        self._send(part, verdict, text)
        self.replay.add((part.line, part.epoch, part.seq), text, now_ns, is_live=not part.shadow)
        self._count(line, part, judgement, verdict.latency_ms)
        if self.part_log is not None:
            self.part_log.note(verdict, now_ns)
        if part.challenge and part.line in self.challenges:
            self.challenges[part.line].note(part.challenge, judgement, self.now_us(), is_brought=part.is_brought)
        if self.on_verdict is not None:
            self.on_verdict(verdict)
        if not self._outbox(text, part.journal_ticket):
            self.records_refused += 1

    def _verdict(self, part: Part, judgement: Judgement, latency_ms: float) -> Verdict:
        identity = part.identity
        return Verdict(
            station=self.station,
            line=part.line,
            epoch=part.epoch,
            seq=part.seq,
            part_id=part.part_id,
            outcome=judgement.outcome,
            reasons=judgement.reasons,
            trigger_time_us=part.trigger_time_us,
            latency_ms=latency_ms,
            recipe=identity.recipe,
            recipe_hash=identity.recipe_hash,
            model_hash=identity.model_hash,
            engine_id=identity.engine_id,
            blobs=judgement.blobs,
            findings=judgement.findings,
            shadow=part.shadow,
            challenge=part.challenge,
            stages_ms=judgement.stages_ms,
        )

    def _send(self, part: Part, verdict: Verdict, text: bytes) -> None:
        json_topic, bin_topic = self._topics[part.line, part.shadow]
        self.sockets.publish(json_topic, text)
        if self.sockets.is_wanted(bin_topic):
            self.sockets.publish(bin_topic, verdict_bin(verdict))
        self.published += 1

    def _count(self, line: LineBook, part: Part, judgement: Judgement, latency_ms: float) -> None:
        line.outcomes[judgement.outcome] += 1
        if judgement.reasons:
            reasons = line.reasons if judgement.outcome == FAULT else line.broken_rules
            for reason in judgement.reasons:
                reasons[reason] = reasons.get(reason, 0) + 1
        line.close_seq(part.seq)
        self._first_ns = self._first_ns or part.trigger_ns
        now_ns = self._clock.monotonic_ns()
        self._spacing_ns, self._last_ns = now_ns - self._last_ns, now_ns
        if not part.shadow:
            self.alarms.note_outcome(line.name, judgement.outcome)
        self.latencies.add(latency_ms)
        publish_ms = (self._last_ns - judgement.map_ns) / 1e6 if judgement.map_ns else 0.0
        if publish_ms:
            self.publish_latencies.add(publish_ms)
        if self.statistics is not None:
            self.statistics[line.name].note(judgement, latency_ms, publish_ms)

    def _beat(self, now_ns: int) -> None:
        period_ns = int(self._settings.heartbeat_ms * 1e6)
        self._next_heartbeat_ns = max(self._next_heartbeat_ns + period_ns, now_ns + period_ns // 2)
        self.alarms.look(self.sockets, self.replay, now_ns)
        if self.counters is not None:
            self.counters.look(self._clock.wall_us())
        for challenge in self.challenges.values():
            challenge.look(self._clock.wall_us(), now_ns)
        if self.part_log is not None:
            self.part_log.look(now_ns)
        body = encode_json(self.heartbeat())
        self.sockets.publish(self.sockets.heartbeat_topic, body)
        self.sockets.welcome(body)

    def heartbeat(self) -> dict[str, Any]:
        """What the PLC may rely on every 50 ms: silence means reject."""
        return {
            "station": self.station,
            "epoch": self.book.epoch,
            "time_us": self._clock.wall_us(),
            "lines": {
                name: {
                    "state": line.state(),
                    "mode": line.mode,
                    "seq": line.published_through,
                    "open": line.open,
                    "recipe": line.identity.recipe if line.identity else "",
                    "verified": line.verified,
                    "why": line.why,
                }
                for name, line in self.book.lines.items()
            },
            "alarms": sorted(self.alarms.active),
        }

    def _call_waiting(self) -> None:
        while not self._calls.empty():
            self._calls.get()()

    def _answer(self) -> None:
        self._call_waiting()
        try:
            self.sockets.serve(self.answer)
        except zmq.ZMQError as error:
            say("plc.request_refused", why=str(error))

    def _finish(self) -> None:
        """The end: publish what was judged, interrupt the rest, answer what is owed, send the last heartbeat."""
        while not self._judged.empty():
            self._publish_waiting()
        for part in self.book.open_parts():
            self._conclude(part, _INTERRUPTED)
        for line in self.book.lines.values():
            line.ready, line.why_not_ready = False, "stopped"
        self._call_waiting()
        if self.part_log is not None:
            self.part_log.tell()
        self._beat(self._clock.monotonic_ns())
        self._let_go()

    def _let_go(self) -> None:
        self.sockets.close()
        wake, self._wake = self._wake, -1
        os.close(wake)


def _keep(journal: Journal, ticket: int, verdict: Verdict, text: bytes) -> None:
    """Store the outcome before anybody hears of it; a text too long for the slot is stored there without its details."""
    if len(text) > BODY_BYTES:
        first = tuple(reason[:_MOST_REASON] for reason in verdict.reasons[:_MOST_REASONS])
        text = verdict_json(msgspec.structs.replace(verdict, reasons=first, blobs=(), findings=(), stages_ms={}))
    journal.decide(ticket, text)
