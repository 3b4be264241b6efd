"""Who may connect to a socket that listens: clients whose public keys lie in a folder (ZAP, https://rfc.zeromq.org/spec/27/).

pyzmq's own authenticator brings an asyncio loop, and tells nobody from which address somebody was refused.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import zmq

from edge_agent.errors import ConfigurationError, Problem, remedy_of
from edge_agent.events import say
from edge_agent.security import PUBLIC, ServerKeys, read_public

_ENDPOINT = "inproc://zeromq.zap.01"
_DOMAIN = b"edge-agent"
_VERSION = b"1.0"
_REST = 9  # times as long as it took to read the folder, until it is read again: 500 keys take 20 ms
_LEAST_FRAMES = 7  # version, request, domain, address, identity, mechanism, key


class Doorkeeper:
    """Answers for one context who may connect, on a thread of its own, which ends with the context. The folder is looked at as
    somebody knocks: a key that is put there counts within a fraction of a second, one that is taken away no longer than that.

    Raises ConfigurationError where the folder or a key in it cannot be read."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ServerKeys, takes_own: bool = False) -> None:
        self._keys = keys
        self._takes_own = takes_own
        self._names = names_of(keys.clients)
        self._look_at_s = 0.0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)
        threading.Thread(target=self._run, name="doorkeeper", daemon=True).start()

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Encrypt a socket that is not bound yet, and ask here about each who connects to it."""
        socket.curve_publickey, socket.curve_secretkey = self._keys.own.public, self._keys.own.secret
        socket.curve_server = True
        socket.zap_domain = _DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without it, everybody comes in where nobody answers here

    def _run(self) -> None:
        try:
            while True:
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except zmq.ContextTerminated:
            self._socket.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        name = self._name_of(request)
        if name is None:
            return [_VERSION, number, b"400", b"this key is not known here", b"", b""]
        return [_VERSION, number, b"200", b"OK", name.encode(errors="replace"), b""]  # a file's name may be no UTF-8

    def _name_of(self, request: list[bytes]) -> str | None:
        """What the file of the key is called, '' for our own; None for one that is not known."""
        if len(request) < _LEAST_FRAMES or request[5] != b"CURVE":
            return None
        key = zmq.utils.z85.encode(request[6])
        if self._takes_own and key == self._keys.own.public:
            return ""
        self._look()
        if key not in self._names:
            say("peer.refused", key=key.decode(), address=request[3].decode(errors="replace"), clients=str(self._keys.clients))
        return self._names.get(key)

    def _look(self) -> None:
        """Read the folder, unless that was just done: hundreds of keys read for each who knocks would keep the others waiting."""
        began_s = time.monotonic()
        if began_s < self._look_at_s:
            return
        try:
            self._names, problems = _read(self._keys.clients)
        except ConfigurationError as error:
            problems = error.problems  # those that were read before still count
        for problem in problems:
            say("peer.keys_unreadable", why=str(problem))
        ended_s = time.monotonic()
        self._look_at_s = ended_s + _REST * (ended_s - began_s)


def names_of(folder: Path) -> dict[bytes, str]:
    """The names of a folder's `.key` files, by the public key in each. Raises ConfigurationError."""
    names, problems = _read(folder)
    if problems:
        raise ConfigurationError(problems)
    return names


def _read(folder: Path) -> tuple[dict[bytes, str], list[Problem]]:
    """The same of the files that can be read, and what is wrong with the others. Raises ConfigurationError for the folder."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == PUBLIC)
    except OSError as error:
        raise ConfigurationError.of(f"cannot be read: {error.strerror}.", remedy_of(error), folder) from None
    names: dict[bytes, str] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            names[read_public(file)] = file.stem
        except ConfigurationError as error:
            problems += error.problems
    return names, problems
