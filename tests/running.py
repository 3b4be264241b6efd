"""A real publisher on real sockets, with its journal, and subscribers and control clients beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from edge_agent.clock import Clock, SystemClock
from edge_agent.plc.control import Control
from edge_agent.plc.journal import Journal
from edge_agent.plc.parts import LineBook, PartBook
from edge_agent.plc.publisher import Publisher
from edge_agent.records import NG, PASS, Identity, Judgement, Part
from edge_agent.settings import PlcSettings
from edge_agent.wire import Reply, Request, encode_json, read_reply

ANY = "tcp://127.0.0.1:*"
GUARD_MS = 5


def identity(deadline_ms: float = 10_000) -> Identity:
    return Identity("cap", "ab" * 32, "cd" * 32, "engine", deadline_ms, 1)


class Station:
    """A publisher that runs, its journal and outbox, and the far ends of its sockets."""

    def __init__(self, folder: Path, clock: Clock, deadline_ms: float, modes: dict[str, str], settings: PlcSettings) -> None:
        self.clock = clock
        self.lines = [LineBook(name, mode, ready=True, identity=identity(deadline_ms)) for name, mode in modes.items()]
        self.line = self.lines[0]
        self.journal = Journal(folder / "journal", 64)
        self.journal.adopt()
        self.outbox: list[tuple[bytes, int]] = []
        self.outbox_has_room = True
        book = PartBook(self.journal, self.lines, dict.fromkeys(modes, GUARD_MS * 1000000))
        self.publisher = Publisher("hall3", settings, self.journal, book, self._take, clock)
        self.control = Control(self.publisher)
        self._context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._is_stopped = False

    def _take(self, record: bytes, ticket: int) -> bool:
        if self.outbox_has_room:
            self.outbox.append((record, ticket))
        return self.outbox_has_room

    def subscriber(self, *topics: str, queue: int = 10_000, buffer: int = 0) -> zmq.Socket[bytes]:
        """Connect a subscriber and wait until its subscriptions count."""
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        socket.linger = 0
        socket.rcvhwm = queue
        if buffer:
            socket.setsockopt(zmq.RCVBUF, buffer)
        self._sockets.append(socket)
        before = self.publisher.sockets.subscribers
        for topic in topics:
            socket.subscribe(topic)
        socket.connect(self.publisher.sockets.verdicts_endpoint)
        expected = before + sum(topic.startswith("verdict") or not topic for topic in topics)
        wait_until(lambda: self.publisher.sockets.subscribers >= expected)
        if expected == before:
            assert socket.poll(5000), "nothing came on " + ", ".join(topics)
        return socket

    def client(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger = 0
        self._sockets.append(socket)
        socket.connect(self.publisher.sockets.control_endpoint)
        return socket

    def ask(self, **request: Any) -> Reply:
        with self.client() as client:
            client.send(encode_json(Request(**request)))
            assert client.poll(5000), "no answer"
            return read_reply(client.recv())

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self.publisher.stop(0)

    def close(self) -> None:
        self.stop()
        if not self._context.closed:
            self.journal.close()
            for socket in self._sockets:
                socket.close()
            self._context.term()


def start_stations(folder: Path) -> Iterator[Callable[..., Station]]:
    """Yield what starts stations; all are stopped and closed at the end."""
    running: list[Station] = []

    def start(clock: Clock | None = None, deadline_ms: float = 10_000, modes: dict[str, str] | None = None, **plc: Any) -> Station:
        settings = PlcSettings(verdicts=ANY, control=ANY, expect_subscriber=False, **plc)
        made = Station(folder / str(len(running)), clock or SystemClock(), deadline_ms, modes or {"one": "online"}, settings)
        running.append(made)
        made.publisher.start()
        return made

    yield start
    for made in running:
        made.close()


def wait_until(is_true: Callable[[], bool], timeout_s: float = 20) -> None:
    """Poll the outside world; a test that holds its own clock does not need it."""
    until = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.001)


def hear(socket: zmq.Socket[bytes], timeout_ms: int = 20_000) -> tuple[str, bytes]:
    assert socket.poll(timeout_ms), "nothing came"
    topic, body = socket.recv_multipart()
    return topic.decode(), body


def hear_json(socket: zmq.Socket[bytes]) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(hear(socket)[1])
    return heard


GOOD = Judgement(PASS)
BAD = Judgement(NG, ("blob_count",))


def conserved(station: Station) -> None:
    """triggers = outcomes + open, and outcomes = published."""
    assert all(line.triggers == sum(line.outcomes.values()) + line.open for line in station.lines)
    assert station.publisher.published == sum(sum(line.outcomes.values()) for line in station.lines)


def judge_all(station: Station, n: int, judgement: Judgement = GOOD) -> list[Part]:
    parts = [station.publisher.trigger(station.line, f"p{k}") for k in range(n)]
    for part in parts:
        station.publisher.judged(part, judgement)
    return parts
