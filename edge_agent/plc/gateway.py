"""The other end of the verdict link: what a gateway beside the PLC does, and `edge-agent watch` and the demo too.

It believes a heartbeat's `seq`: whatever up to there it has not seen, it asks for again; what it has, it acknowledges.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import zmq

from edge_agent.errors import DeliveryError, Refused
from edge_agent.security import ClientKeys, Handshakes
from edge_agent.wire import Reply, Request, Verdict, encode_json, read_reply, read_verdict_json

_ASK_AGAIN_S = 0.2
_ACKNOWLEDGE_S = 0.02
_MOST_AT_ONCE = 500
_AT_ONCE, _RCVMORE = int(zmq.DONTWAIT), int(zmq.RCVMORE)  # plain numbers: those of an enum are slow
HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS = 300, 900


class Seen:
    """Which sequence numbers of one line and epoch came: all up to `through`, and those in `above`."""

    def __init__(self) -> None:
        self.through = 0
        self.above: set[int] = set()

    def add(self, seq: int) -> bool:
        """Note a number; False where it came before."""
        if seq <= self.through or seq in self.above:
            return False
        self.above.add(seq)
        while self.through + 1 in self.above:
            self.through += 1
            self.above.remove(self.through)
        return True

    def missing(self, upto: int) -> list[int]:
        """Return the first numbers up to `upto` that did not come."""
        gaps = (seq for seq in range(self.through + 1, upto + 1) if seq not in self.above)
        return list(itertools.islice(gaps, _MOST_AT_ONCE))


class Gateway:
    """Subscribes to one station. With a control address it also acknowledges and asks for what it missed."""

    def __init__(
        self, verdicts: str, control: str | None = None, receive_queue: int = 10_000, keys: ClientKeys | None = None
    ) -> None:
        self._keys = keys
        self._context = zmq.Context()
        self._subscriber = self._socket(zmq.SUB, verdicts, receive_queue)
        for prefix in ("verdict.json/", "shadow.json/", "heartbeat/", "welcome/"):
            self._subscriber.subscribe(prefix)
        self._control = self._socket(zmq.DEALER, control, 1000) if control else None
        self._poller = zmq.Poller()
        self._poller.register(self._subscriber, zmq.POLLIN)
        if self._control:
            self._poller.register(self._control, zmq.POLLIN)
        self.heartbeat: dict[str, Any] = {}
        self.heartbeat_at = 0.0
        self.seen: dict[tuple[str, int], Seen] = {}
        self.replayed = 0
        self.given_up: set[tuple[str, int, int]] = set()
        self._acknowledge_at = 0.0
        self._asked_at: dict[tuple[str, int], float] = {}
        self._unacknowledged: dict[tuple[str, int], list[int]] = {}

    def _socket(self, kind: int, endpoint: str, queue: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.linger = 0
        socket.rcvhwm = queue
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if kind == zmq.DEALER:
            socket.setsockopt(zmq.IMMEDIATE, 1)
        try:
            connect(socket, endpoint, self._keys)
        except DeliveryError:
            self._context.destroy(linger=0)
            raise
        return socket

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._subscriber.close()
        if self._control:
            self._control.close()
        self._context.term()

    def verdicts(self, timeout_s: float) -> Iterator[Verdict]:
        """Yield every verdict once, live or replayed, until `timeout_s` have passed."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            for socket, _ in self._poller.poll(min(50, max(1, int(left * 1000)))):
                yield from self._drain(socket)
            if self._control is None:
                continue
            if time.monotonic() >= self._acknowledge_at:
                self._acknowledge()
            self._ask_for_missing()

    def _drain(self, socket: zmq.Socket[bytes]) -> Iterator[Verdict]:
        for _ in range(_MOST_AT_ONCE):
            try:
                frames = [socket.recv(_AT_ONCE)]
            except zmq.Again:
                return
            while socket.getsockopt(_RCVMORE):
                frames.append(socket.recv(_AT_ONCE))
            with contextlib.suppress(DeliveryError, ValueError):
                yield from (self._take(frames) if socket is self._subscriber else self._take_reply(read_reply(frames[-1])))

    def _take(self, frames: list[bytes]) -> Iterator[Verdict]:
        topic, _, rest = frames[0].partition(b" ")
        if topic.startswith((b"heartbeat/", b"welcome/")):
            self.heartbeat = json.loads(frames[1] if len(frames) > 1 else rest)
            self.heartbeat_at = time.monotonic()
            return
        yield from self._once(read_verdict_json(frames[1]))

    def _take_reply(self, reply: Reply) -> Iterator[Verdict]:
        for raw in reply.verdicts:
            before = self.replayed
            for verdict in self._once(read_verdict_json(bytes(raw))):
                self.replayed = before + 1
                yield verdict
        if not reply.id:
            return
        line, epoch = reply.id.rsplit("|", 1)
        if reply.ok:
            self._asked_at.pop((line, int(epoch)), None)  # a reply holds only so much: the rest may be asked for at once
        if reply.missing:
            self.given_up |= {(line, int(epoch), seq) for seq in reply.missing}
            for seq in reply.missing:
                self.seen.setdefault((line, int(epoch)), Seen()).add(seq)

    def _once(self, verdict: Verdict) -> Iterator[Verdict]:
        if self._control is None:
            yield verdict  # nothing is asked for again, so that nothing comes twice and nothing need be kept
            return
        key = (verdict.line, verdict.epoch)
        if not self.seen.setdefault(key, Seen()).add(verdict.seq):
            return
        self._unacknowledged.setdefault(key, []).append(verdict.seq)
        yield verdict

    def _send(self, request: Request) -> bool:
        if self._control is None:
            return False
        try:
            self._control.send(encode_json(request), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _acknowledge(self) -> None:
        """Acknowledge what came, many parts at once: each request costs the station's publisher as much as a verdict."""
        self._acknowledge_at = time.monotonic() + _ACKNOWLEDGE_S
        for (line, epoch), seqs in self._unacknowledged.items():
            portion = tuple(seqs[:_MOST_AT_ONCE])
            if portion and self._send(Request(op="ack", line=line, epoch=epoch, seqs=portion)):
                del seqs[: len(portion)]

    def _ask_for_missing(self) -> None:
        """Ask again for what a heartbeat says was published and never came."""
        now = time.monotonic()
        epoch = int(self.heartbeat.get("epoch", 0))
        for line, state in self.heartbeat.get("lines", {}).items():
            key = (line, epoch)
            seen = self.seen.setdefault(key, Seen())
            if seen.through >= state["seq"] or now - self._asked_at.get(key, 0) < _ASK_AGAIN_S:
                continue
            missing = seen.missing(state["seq"])
            if missing and self._send(Request(op="replay", id=f"{line}|{epoch}", line=line, epoch=epoch, seqs=tuple(missing))):
                self._asked_at[key] = now


def connect(socket: zmq.Socket[bytes], endpoint: str, keys: ClientKeys | None) -> None:
    if keys is not None:
        keys.apply(socket)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        remedy = "Give it as tcp://HOST:PORT." if "://" in endpoint else f"Say how, too: tcp://{endpoint}."
        raise DeliveryError(f"cannot connect to {endpoint}: {error}. {remedy}") from None


def ask(control: str, request: Request, timeout_s: float = 5, keys: ClientKeys | None = None) -> Reply:
    """Send one request and return its reply. Raises DeliveryError where none comes in time."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        handshakes = Handshakes(socket, keys)
        try:
            connect(socket, control, keys)
            socket.send(encode_json(request))
            if socket.poll(int(timeout_s * 1000)):
                return read_reply(socket.recv())
            why = handshakes.refusal()
        finally:
            handshakes.close()
    if why:
        raise Refused(f"{control} takes no connection: {why}.")
    raise DeliveryError(f"no answer from {control} within {timeout_s} s. Is the daemon running there?")
