"""The thread that owns the uplink socket: ships rows in order, within the collector's credit, until they are acknowledged.

Go-back-N: without progress for a while the socket is thrown away and everything after the last acknowledgement goes again.
A collector that has rows which were never sent knows another past of this outbox (an old copy of the file came back, or its
end was damaged): the numbers would be taken for known ones, so the rows get a new stream. One that has fewer than it acknowledged
lost them, with an older copy of its store: they are here no more, and are declared lost.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time

import apsw
import zmq

from edge_agent import shipping
from edge_agent.errors import OUT_OF_MEMORY, DeliveryError
from edge_agent.events import say
from edge_agent.pulse import Pulse
from edge_agent.security import ClientKeys, Handshakes
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import ROW, Row

_POLL_MS = 20
_HELLO_S = 0.5
_AWAY_S = 2.0
_REFUSED_S = 1.0  # until a collector that took no connection is tried again
_FAILED_S = 1.0  # until a socket that failed, or could not be made, is made anew
_MORE_FILES = (
    "Look what this process, or the machine, has open (ls -l /proc/PID/fd), and raise LimitNOFILE= where it needs so many."
)
_UNWELCOME_S = 5.0  # a connection without an answer to HELLO may be one whose key was given another name since
_RECONNECT_MS, _RECONNECT_MOST_MS = 100, 500  # well below the above: a collector that has just come back is met in a stop
_FIRST_PATIENCE_S, _MOST_PATIENCE_S = 1.5, 6.0
_SLOWEST_LINK = 100_000  # bytes a second: so much longer a row may take, by its size
_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 4 << 20
_CLOSES_S = 3.0  # well above what a stop takes, but for a disk that ails
_UNREADABLE_S = 1.0  # until an outbox that cannot be read is tried again
_DISK_S = 60.0  # reading the outbox may take so long on a disk that ails


class Sender:
    """Ships the outbox to one collector. A collector that is away costs nothing but the disk."""

    def __init__(self, outbox: Outbox, endpoint: str, station: str, keys: ClientKeys | None = None) -> None:
        self._outbox = outbox
        self._endpoint = endpoint
        self._keys = keys
        self._refusal = ""  # why the collector takes no connection, as was told
        self._failure = ""  # of the socket, as was told
        self._station = station
        self._stop = threading.Event()
        self._context = zmq.Context()
        self.is_connected = False
        self.resent = 0
        self._credit = shipping.Credit(upto=0, rows=0, bytes=0)
        self._sent_upto = self._stored_upto = 0  # what was acknowledged to this run
        self._in_flight: list[tuple[int, int]] = []  # seq and bytes, oldest first
        self._patience_s = _FIRST_PATIENCE_S
        self._progress_at = 0.0
        self._hello_at = 0.0
        self._is_other_past = self._is_unreadable = False
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self.pulse = Pulse(self._thread.name)

    def start(self) -> None:
        self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything queued is acknowledged; False after the timeout, or two seconds without a collector."""
        until = time.monotonic() + timeout_s
        self._outbox.flush(timeout_s)
        seen_at = time.monotonic()
        while (now := time.monotonic()) < until:
            if self._outbox.waiting() == 0:
                return True
            if self.is_connected:
                seen_at = now  # a socket that is made anew is not a collector that is away
            elif now - seen_at > _AWAY_S:
                return False
            self._stop.wait(_POLL_MS / 1000)
        return self._outbox.waiting() == 0

    def close(self, patience_s: float = _CLOSES_S) -> None:
        """End the thread; one that a disk holds up for longer is left behind with its socket."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        if self._thread.is_alive():
            say("station.given_up", what="sender", why="the disk holds it up; what is not acknowledged stays in the outbox.")
        else:
            self._context.term()

    # --- the sender thread ----------------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stop.is_set():
            self.pulse.beat(_DISK_S)
            try:
                with self._socket() as socket, contextlib.closing(Handshakes(socket, self._keys)) as handshakes:
                    self._connect(socket)
                    self._serve(socket, handshakes)
                self._failure = ""
            except zmq.ZMQError as error:
                self._set_connected(False)
                self._tell_failure(error)
                self._stop.wait(_FAILED_S)
        self.pulse.rest()

    def _socket(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0  # the credit bounds what is under way: not writable is not connected
        for option, value in (
            (zmq.IMMEDIATE, 1),
            (zmq.HEARTBEAT_IVL, shipping.HEARTBEAT_IVL_MS),
            (zmq.HEARTBEAT_TIMEOUT, shipping.HEARTBEAT_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, _RECONNECT_MOST_MS),
            (zmq.CONNECT_TIMEOUT, 2000),
            (zmq.HANDSHAKE_IVL, 2000),
        ):
            socket.setsockopt(option, value)
        if self._keys is not None:
            self._keys.apply(socket)
        return socket

    def _connect(self, socket: zmq.Socket[bytes]) -> None:
        socket.connect(self._endpoint)
        self._set_connected(False)
        self._in_flight.clear()
        self._hello_at = 0.0

    def _serve(self, socket: zmq.Socket[bytes], handshakes: Handshakes) -> None:
        """Work one connection until it is of no use any more."""
        until_s = time.monotonic() + _UNWELCOME_S
        while not self._stop.is_set():
            self.pulse.beat(_DISK_S)
            if not self.is_connected and not self._greet(socket, handshakes):
                return
            if socket.poll(0 if self.is_connected and self._ship(socket) else _POLL_MS):
                self._take(socket.recv_multipart())
            if self._is_other_past:
                self._is_other_past = False
                self._outbox.begin_stream("the collector has rows of this stream that were never sent", _MOST_PATIENCE_S)
                return
            is_useless = self._is_stuck(socket) if self.is_connected else self._hello_at > until_s
            if is_useless:
                return

    def _greet(self, socket: zmq.Socket[bytes], handshakes: Handshakes) -> bool:
        """Say HELLO now and then; False where the collector refused the connection."""
        now = time.monotonic()
        if now - self._hello_at <= _HELLO_S:
            return True
        hello = shipping.Hello(station=self._station, stream=self._outbox.stream)
        if self._send(socket, shipping.HELLO, shipping.pack(hello)):  # not before the connection is there
            self._hello_at = now
        if why := handshakes.refusal():
            self._tell_refusal(why)
        return not why

    def _is_stuck(self, socket: zmq.Socket[bytes]) -> bool:
        """True where the connection is gone, or acknowledges nothing for too long: what is under way goes again."""
        is_late = self._is_late()
        if is_late:
            self._patience_s = min(self._patience_s * 1.5, _MOST_PATIENCE_S)
        if is_late or not socket.poll(0, zmq.POLLOUT):
            self.resent += len(self._in_flight)
            return True
        return False

    def _tell_failure(self, error: zmq.ZMQError) -> None:
        why = f"{error}. {_MORE_FILES}" if error.errno in (errno.EMFILE, errno.ENFILE) else str(error)
        if why != self._failure:
            say("uplink.failed", collector=self._endpoint, why=why)
        self._failure = why

    def _tell_refusal(self, why: str) -> None:
        if why != self._refusal:
            say("uplink.refused", collector=self._endpoint, why=why)
        self._refusal = why
        self._stop.wait(_REFUSED_S)

    def _is_late(self) -> bool:
        """True where the oldest row under way should have been acknowledged, on a slow link too."""
        if not self._in_flight:
            return False
        return time.monotonic() - self._progress_at > self._patience_s + self._in_flight[0][1] / _SLOWEST_LINK

    def _send(self, socket: zmq.Socket[bytes], *frames: bytes) -> bool:
        try:
            socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _take(self, frames: list[bytes]) -> None:
        try:
            credit = shipping.read_credit(frames[1])
        except (DeliveryError, IndexError) as error:
            say("uplink.failed", collector=self._endpoint, why=str(error))
            return
        if frames[0] == shipping.WELCOME:
            if credit.upto > self._outbox.known_upto:
                self._is_other_past = True
                self._stored_upto = 0
                return
            if (rows := self._stored_upto - credit.upto) > 0:
                say("uplink.collector_behind", collector=self._endpoint, rows=rows)
                self._outbox.declare_lost(ROW, rows)
            self._set_connected(True)
            self._in_flight.clear()
            self._sent_upto = credit.upto
            self._outbox.acknowledge(credit.upto)
        elif not self.is_connected:
            return
        elif credit.upto > self._credit.upto:
            self._patience_s = _FIRST_PATIENCE_S
            self._in_flight = [each for each in self._in_flight if each[0] > credit.upto]
            self._outbox.acknowledge(credit.upto)
        self._credit, self._stored_upto = credit, credit.upto
        self._progress_at = time.monotonic()

    def _set_connected(self, is_connected: bool) -> None:
        if is_connected != self.is_connected:
            self.is_connected = is_connected
            self._refusal = ""
            say("uplink.connected" if is_connected else "uplink.disconnected", collector=self._endpoint)

    def _ship(self, socket: zmq.Socket[bytes]) -> bool:
        """Send what credit and outbox allow; True where there may be more."""
        room = min(self._credit.rows - len(self._in_flight), _ROWS_AT_ONCE)
        room_bytes = min(self._credit.bytes - sum(size for _, size in self._in_flight), _BYTES_AT_ONCE)
        if room <= 0 or room_bytes <= 0:
            return False
        rows = self._read(room, room_bytes)
        for row in rows:
            header = shipping.Data(seq=row.seq, before=self._sent_upto, kind=row.kind, crc=row.crc)
            if not self._send(socket, shipping.DATA, shipping.pack(header), row.body, row.data):
                return False
            if not self._in_flight:
                self._progress_at = time.monotonic()
            self._in_flight.append((row.seq, len(row.body) + len(row.data)))
            self._sent_upto = row.seq
        return bool(rows)

    def _read(self, most_rows: int, most_bytes: int) -> list[Row]:
        """The next rows of the outbox; none, after a while, where it cannot be read: the link is not to blame."""
        try:
            rows = self._outbox.read_after(self._sent_upto, most_rows, most_bytes)
        except (apsw.Error, MemoryError) as error:
            if not self._is_unreadable:
                self._is_unreadable = True
                say("outbox.unreadable", file=str(self._outbox.file), why=str(error) or OUT_OF_MEMORY)
            self._stop.wait(_UNREADABLE_S)
            return []
        if self._is_unreadable:
            self._is_unreadable = False
            say("outbox.readable", file=str(self._outbox.file))
        return rows
