"""Receives rows from many stations; acknowledges only what the store has committed durably."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy.exc
import zmq

from edge_agent import shipping
from edge_agent.collector.health import Health
from edge_agent.collector.store import Arrived, Store, cause
from edge_agent.doorkeeper import Doorkeeper
from edge_agent.errors import ConfigurationError, DeliveryError, EdgeAgentError
from edge_agent.events import say
from edge_agent.listening import bind
from edge_agent.security import ServerKeys
from edge_agent.wire import NAME

_POLL_MS = 200
_BATCH_ROWS = 128
_LINGER_MS = 4
_CREDIT_ROWS, _CREDIT_BYTES = 256, 16 << 20
_RETRY_S = 1.0
_SLOWEST_ROW_MS = 600_000  # no answer to a heartbeat comes before the row that is on its way has come whole
_MOST_SEQ = (1 << 63) - 1  # what a database holds


class Receiver:
    """One ROUTER socket and one store, on the caller's thread."""

    def __init__(self, endpoint: str, store: Store, keys: ServerKeys | None = None) -> None:
        self._store = store
        self._is_guarded = keys is not None
        self._health = Health()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, shipping.MOST_MESSAGE_BYTES)
        self._socket.rcvhwm = 0  # the credit bounds it; full, with heartbeats, libzmq 4.3.5 aborts as the peer goes
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, shipping.HEARTBEAT_IVL_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SLOWEST_ROW_MS)
        try:
            if keys is not None:
                Doorkeeper(self._context, keys).guard(self._socket)
            bind(self._socket, endpoint)
        except ConfigurationError:
            self.close()
            raise
        except zmq.ZMQError as error:
            self.close()
            is_nonsense = error.errno in (zmq.EINVAL, zmq.EPROTONOSUPPORT)
            remedy = "Give it as tcp://ADDRESS:PORT." if is_nonsense else "Is another collector running?"
            kind = ConfigurationError if is_nonsense else EdgeAgentError
            raise kind(f"cannot listen on {endpoint}: {error}. {remedy}") from None
        self.endpoint = str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._peers: dict[bytes, shipping.Hello] = {}
        self._upto: dict[str, int] = {}  # by stream
        self._whose: dict[str, str] = {}  # likewise, the station's name
        self._is_stopping = False
        self.received = 0
        self.refused = 0

    def stop(self) -> None:
        """End `run` within a fraction of a second. Safe in a signal handler."""
        self._is_stopping = True

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def run(self, on_turn: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`; `on_turn` is called each time this gets on, several times a second where nothing takes long."""
        while not self._is_stopping:
            on_turn()
            if self._socket.poll(_POLL_MS):
                self.serve_batch()

    def serve_batch(self) -> None:
        """Take what waits, commit it, answer. A store that fails is tried again; its stations keep everything meanwhile."""
        rows: list[Arrived] = []
        answers: dict[bytes, bytes] = {}
        try:
            for name, frames in self._waiting():
                try:
                    self._take(name, frames, rows, answers)
                except (DeliveryError, IndexError) as error:
                    self.refused += 1
                    say("collector.refused", why=str(error))
            moved = {peer.stream: (peer.station, self._upto[peer.stream]) for i in answers if (peer := self._peers.get(i))}
            if rows:
                self._store.commit(rows, moved)
                self._health.recover()
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            self._health.fail(cause(error))
            self._upto.clear()
            self._peers.clear()  # they say HELLO again and start from what is stored
            time.sleep(_RETRY_S)
            return
        self.received += len(rows)
        for identity, kind in answers.items():
            self._answer(identity, kind)

    def _waiting(self) -> list[tuple[str | None, list[bytes]]]:
        """The messages that are there, each with the name that its sender's key has here; None where nobody needs one."""
        batch: list[tuple[str | None, list[bytes]]] = []
        until = time.monotonic() + _LINGER_MS / 1000
        while len(batch) < _BATCH_ROWS and self._socket.poll(max(0, int((until - time.monotonic()) * 1000))):
            batch.append(self._received() if self._is_guarded else (None, self._socket.recv_multipart()))
        return batch

    def _received(self) -> tuple[str, list[bytes]]:
        first = self._socket.recv(copy=False)
        rest = self._socket.recv_multipart() if first.more else []
        return str(first.get("User-Id")), [first.bytes, *rest]

    def _take(self, name: str | None, frames: list[bytes], rows: list[Arrived], answers: dict[bytes, bytes]) -> None:
        identity, kind = frames[0], frames[1]
        if kind == shipping.HELLO:
            hello = shipping.read_hello(frames[2])
            if not NAME.match(hello.station) or not NAME.match(hello.stream):
                raise DeliveryError(f"HELLO of {hello.station[:80]!r}, stream {hello.stream[:80]!r}: these are no plain names")
            if name not in (None, hello.station):
                raise DeliveryError(f"station {hello.station!r} has the key of {name!r}: a station's key is to be called as it is")
            if hello.stream not in self._upto:
                whose, self._upto[hello.stream] = self._store.known(hello.stream)
                self._whose[hello.stream] = whose or hello.station
            if name not in (None, self._whose[hello.stream]):
                raise DeliveryError(f"station {hello.station!r} ships a stream of {self._whose[hello.stream]!r}")
            self._peers = {known: peer for known, peer in self._peers.items() if peer.stream != hello.stream}
            self._peers[identity] = hello  # the newest connection of a stream; an older one is dead
            answers[identity] = shipping.WELCOME
            return
        peer = self._peers.get(identity)
        if kind != shipping.DATA or peer is None or name not in (None, peer.station):
            return  # a peer from before our restart, or of another's identity; it says HELLO when nothing is acknowledged
        header = shipping.read_data(frames[2], frames[3], frames[4])
        if not 0 < header.seq <= _MOST_SEQ:
            raise DeliveryError(f"row number {header.seq} of {peer.station} is not between 1 and {_MOST_SEQ}")
        answers.setdefault(identity, shipping.ACK)
        upto = self._upto[peer.stream]
        if header.before > upto or header.seq <= upto:
            return  # a gap: go-back-N repeats it; or a row that is stored already
        rows.append(Arrived(peer.stream, header.seq, header.kind, frames[3], frames[4], name))
        self._upto[peer.stream] = header.seq

    def _answer(self, identity: bytes, kind: bytes) -> None:
        peer = self._peers.get(identity)
        if peer is None:
            return
        credit = shipping.Credit(upto=self._upto[peer.stream], rows=_CREDIT_ROWS, bytes=_CREDIT_BYTES)
        try:
            self._socket.send_multipart((identity, kind, shipping.pack(credit)), zmq.DONTWAIT)
        except zmq.ZMQError:
            del self._peers[identity]
