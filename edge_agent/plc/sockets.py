"""The PLC's two sockets: XPUB for verdicts and heartbeats, ROUTER for control. Used by the publisher thread alone.

A slow subscriber loses messages, is counted, and slows nobody: a send is first tried with XPUB_NODROP, which says
whether every subscriber has room; where one has not, the same message is sent again without it.
"""

from __future__ import annotations

import errno
import os
import socket as socketlib
import time
from collections import Counter
from collections.abc import Callable, Iterable

import zmq

from edge_agent.doorkeeper import Doorkeeper
from edge_agent.errors import EdgeAgentError
from edge_agent.listening import bind
from edge_agent.security import ServerKeys
from edge_agent.settings import PlcSettings

# libzmq 4.3.5 aborts the process where a heartbeat is due on a connection that ended while its receive queue was full
# (`Assertion failed: !_io_error`): either that queue has no end, or there are no heartbeats.
_OF_VERDICTS = {
    zmq.HEARTBEAT_IVL: 300,  # ZMTP heartbeats: a frozen peer is dropped within about a second
    zmq.HEARTBEAT_TIMEOUT: 900,
    zmq.RCVHWM: 0,  # of subscriptions, which are read at once
    zmq.XPUB_NODROP: 1,
    zmq.XPUB_VERBOSER: 1,
}
_OF_CONTROL = {  # who asks faster than he is answered has to wait; one whose cable was pulled is the kernel's to find, in seconds
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.ROUTER_HANDOVER: 1,
}
_MAX_REQUEST_BYTES = 1 << 20
_SERVE_S = 0.003  # requests are answered for so long at a time; then deadlines get their turn
_MOST_REPLIES = 64  # wait for a peer that does not read them
_LAST, _MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)  # plain numbers: flags of an enum are slow to join
_IPC = "ipc://"
Answer = Callable[[bytes, bytes], bytes | None]


def is_taken(endpoint: str) -> bool:
    """True for an ipc:// path where somebody listens: ZeroMQ would take it away from him without a word."""
    if not endpoint.startswith(_IPC):
        return False
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        probe.setblocking(False)  # whoever listens may be frozen
        found = probe.connect_ex(endpoint.removeprefix(_IPC))
    return found in (0, errno.EAGAIN, errno.EINPROGRESS)


class PlcSockets:
    """Binds both sockets, encrypted where there are keys. Raises EdgeAgentError naming the address where it is taken."""

    def __init__(
        self,
        station: str,
        settings: PlcSettings,
        epoch: int,
        wake: int,
        lines: Iterable[str] = (),
        keys: ServerKeys | None = None,
    ) -> None:
        self.station = station
        self._live = tuple(topic for line in lines for topic in self.topics(line, shadow=False))
        self.heartbeat_topic = f"heartbeat/{station}".encode()
        self.subscribers = 0
        self._prefixes: Counter[bytes] = Counter()
        self._is_wanted: dict[bytes, bool] = {}
        self.dropped = 0
        self._epoch = epoch
        self._wake = wake
        self._context = zmq.Context()
        self._verdicts, self._control = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        try:
            door = Doorkeeper(self._context, keys, takes_own=True) if keys is not None else None
            for socket, endpoint, send_queue in (
                (self._verdicts, settings.verdicts, settings.send_queue),
                (self._control, settings.control, _MOST_REPLIES),
            ):
                if door is not None:
                    door.guard(socket)
                self._bind(socket, endpoint, send_queue)
        except EdgeAgentError:
            self._end(linger_ms=0)
            raise
        self.verdicts_endpoint = str(self._verdicts.getsockopt_string(zmq.LAST_ENDPOINT))
        self.control_endpoint = str(self._control.getsockopt_string(zmq.LAST_ENDPOINT))
        self._poller = zmq.Poller()
        for source in (self._verdicts, self._control, wake):
            self._poller.register(source, zmq.POLLIN)

    def _bind(self, socket: zmq.Socket[bytes], endpoint: str, send_queue: int) -> None:
        socket.linger = 0
        socket.sndhwm = send_queue  # counts only for what is bound after it
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        for option, value in (_OF_VERDICTS if socket is self._verdicts else _OF_CONTROL).items():
            socket.setsockopt(option, value)
        try:
            if is_taken(endpoint):
                raise zmq.ZMQError(errno.EADDRINUSE)
            bind(socket, endpoint)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                remedy = "Is another daemon running? Stop it, or choose another address."
            else:
                remedy = "Give an address of this machine, or a path in a folder that is there and may be written."
            raise EdgeAgentError(f"cannot listen on {endpoint}: {error}. {remedy}") from None

    def topics(self, line: str, shadow: bool) -> tuple[bytes, bytes]:
        """The JSON and the binary topic of a line; shadow results have topics of their own, which no PLC reads."""
        kind = "shadow" if shadow else "verdict"
        return f"{kind}.json/{self.station}/{line}".encode(), f"{kind}.bin/{self.station}/{line}".encode()

    def is_wanted(self, topic: bytes) -> bool:
        """Is anybody subscribed to the topic? What nobody wants need not be encoded."""
        known = self._is_wanted.get(topic)
        if known is None:
            known = self._is_wanted[topic] = topic.startswith(tuple(self._prefixes))
        return known

    def publish(self, topic: bytes, body: bytes) -> None:
        """Send to whoever has room. Never blocks."""
        send = self._verdicts.send
        try:
            send(topic, _MORE)
        except zmq.Again:
            self.dropped += 1
            self._verdicts.setsockopt(zmq.XPUB_NODROP, 0)
            send(topic, _MORE)
            send(body, _LAST)
            self._verdicts.setsockopt(zmq.XPUB_NODROP, 1)
        else:
            send(body, _LAST)

    def welcome(self, heartbeat: bytes) -> None:
        """What a late joiner hears first: one frame, `welcome/<station> ` and a heartbeat's JSON."""
        self._verdicts.setsockopt(zmq.XPUB_WELCOME_MSG, f"welcome/{self.station} ".encode() + heartbeat)

    def wait(self, timeout_ms: int) -> None:
        """Sleep until a socket has something, the wake-up descriptor is written, or the time is over."""
        for source, _ in self._poller.poll(timeout_ms):
            if source == self._wake:
                self._clear_wake()
            elif source is self._verdicts:
                self._note_subscriptions()  # before anything more is published

    def _clear_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    def serve(self, answer: Answer) -> None:
        """Take note of subscriptions and answer the requests that wait, for a bounded time."""
        self._note_subscriptions()
        until_s = time.monotonic() + _SERVE_S
        while time.monotonic() < until_s:
            if not int(self._control.events) & zmq.POLLIN:
                return
            frames = self._control.recv_multipart(zmq.DONTWAIT)
            reply = answer(frames[0], frames[-1])
            if reply is not None:
                self.reply(frames[0], reply)

    def reply(self, identity: bytes, body: bytes) -> None:
        """Answer a peer; one that has gone or does not read loses the answer, never the daemon's time."""
        try:
            self._control.send_multipart((identity, body), zmq.DONTWAIT)
        except zmq.ZMQError:
            self.dropped += 1

    def _note_subscriptions(self) -> None:
        until_s = time.monotonic() + _SERVE_S
        while time.monotonic() < until_s and int(self._verdicts.events) & zmq.POLLIN:
            word = self._verdicts.recv(zmq.DONTWAIT)
            if word[:1] not in (b"\0", b"\1"):
                continue  # a message somebody sent upstream; nobody reads those
            prefix, is_new = word[1:], word[:1] == b"\1"
            self._prefixes[prefix] += 1 if is_new else -1
            if self._prefixes[prefix] <= 0:
                del self._prefixes[prefix]
            self._is_wanted.clear()
            if any(topic.startswith(prefix) for topic in self._live):  # shadow results are for no gateway
                self.subscribers = max(0, self.subscribers + (1 if is_new else -1))

    def close(self) -> None:
        """Give the last messages half a second to leave, then close."""
        self._end(linger_ms=500)

    def _end(self, linger_ms: int) -> None:
        self._verdicts.close(linger=linger_ms)
        self._control.close(linger=linger_ms)
        self._context.term()
