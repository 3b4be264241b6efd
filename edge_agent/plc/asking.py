"""Requests to a station's control socket that nobody waits for: answers are taken as they come."""

from __future__ import annotations

import contextlib

import zmq

from edge_agent.errors import DeliveryError
from edge_agent.plc.gateway import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, connect
from edge_agent.security import ClientKeys
from edge_agent.wire import Reply, Request, encode_json, read_reply


class Asking:
    """One DEALER. What cannot be sent at once, to a station that is away, is not sent at all."""

    def __init__(self, control: str, keys: ClientKeys | None = None) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # not writable is not connected
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        try:
            connect(self._socket, control, keys)
        except DeliveryError:
            self.close()
            raise

    @property
    def is_connected(self) -> bool:
        return bool(self._socket.poll(0, zmq.POLLOUT))

    def send(self, request: Request) -> bool:
        """False where nobody is there to take it."""
        try:
            self._socket.send(encode_json(request), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def replies(self) -> list[Reply]:
        """What came since; what cannot be read is left out."""
        found = []
        while self._socket.poll(0):
            with contextlib.suppress(DeliveryError):
                found.append(read_reply(self._socket.recv()))
        return found

    def close(self) -> None:
        self._socket.close()
        self._context.term()
