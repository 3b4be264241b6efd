"""Who may talk: pairs of keys in files, and sockets that are encrypted with them (CURVE, https://rfc.zeromq.org/spec/26/).

A file `NAME.key` holds a public key, to be handed to the other end; `NAME.key_secret` beside it both, and stays where it was made.
They are ZeroMQ's own certificates, which its other bindings read, too.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth

from edge_agent.errors import ConfigurationError, remedy_of

PUBLIC, SECRET = ".key", ".key_secret"
_KEY_CHARS = 40  # of 32 bytes in Z85
_OUTCOMES = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_EVENT = struct.Struct("=Hi")  # number and value, of zmq_socket_monitor(3); pyzmq's reader would import asyncio
_UNKNOWN = "it does not know this end's key: put its .key file among the clients there"
_HUNG_UP = {  # by whether this end encrypts; libzmq tells no more of it for certain
    True: "it does not encrypt, or has not the key that was given as its: compare the .key files",
    False: "it encrypts, or speaks no ZeroMQ: give both ends their keys (docs/security.md), or mend the address",
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys of one end, in Z85: 40 characters each."""

    public: bytes
    secret: bytes = field(repr=False)

    def to_itself(self) -> ClientKeys:
        """What this end's own commands connect to it with: who may read its secret key is this end."""
        return ClientKeys(self, self.public)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What an end that connects encrypts with: its own keys, and the public one of who listens there."""

    own: KeyPair
    server: bytes

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Encrypt what the socket connects to from now on."""
        socket.curve_publickey, socket.curve_secretkey = self.own.public, self.own.secret
        socket.curve_serverkey = self.server


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What an end that listens encrypts with: its own keys, and the folder of its clients' public ones."""

    own: KeyPair
    clients: Path


def client_keys(secret_key: Path, server_key: Path) -> ClientKeys:
    """The keys of these files. Raises ConfigurationError."""
    return ClientKeys(read_pair(secret_key), read_public(server_key))


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a new pair as NAME.key and NAME.key_secret, and return both files; the secret one is for the folder's owner alone, and
    where root makes it for the folder's group, too. Raises FileExistsError, OSError."""
    public, secret = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    for file in (public, secret):
        if file.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))  # before the other is made for nothing
    for file in (public, secret):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # closed before anything is in it
    zmq.auth.create_certificates(folder, name)
    public.chmod(0o644)
    if os.geteuid() == 0:
        of = folder.stat()
        os.chown(secret, of.st_uid, of.st_gid)
        secret.chmod(0o640)
    return public, secret


def read_pair(file: Path) -> KeyPair:
    """The keys of a `.key_secret`. Raises ConfigurationError where it is none, cannot be read, or everybody may read it."""
    public, secret = _read(file)
    if not secret:
        raise ConfigurationError.of("holds no secret key.", f"give the {SECRET} file that `edge-agent keygen` made.", file)
    if zmq.curve_public(secret) != public:
        raise ConfigurationError.of("holds two keys that do not belong together.", "copy it anew from where it was made.", file)
    if file.stat().st_mode & stat.S_IROTH:
        raise ConfigurationError.of("holds a secret key, and everybody on this machine may read it.", f"chmod o= {file}", file)
    return KeyPair(public, secret)


def read_public(file: Path) -> bytes:
    """The public key of a file. Raises ConfigurationError."""
    return _read(file)[0]


def _read(file: Path) -> tuple[bytes, bytes]:
    """The public and the secret key, b'' where the file has none, each of them one."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
            raise ValueError(file)
        file.open("rb").close()  # says more of a file that cannot be read
        public, secret = zmq.auth.load_certificate(file)
        for key in (public, secret or public):
            zmq.utils.z85.decode(key)
            if len(key) != _KEY_CHARS:
                raise ValueError(key)
    except OSError as error:
        raise ConfigurationError.of(f"cannot be read: {error.strerror}.", remedy_of(error), file) from None
    except (ValueError, LookupError, struct.error):  # the last of 40 characters that stand for more than 32 bytes can hold
        raise ConfigurationError.of("holds no key.", "give a file that `edge-agent keygen` made.", file) from None
    return public, secret or b""


class Handshakes:
    """What became of a socket's connections: why the last was refused, '' once one was not. The socket's own thread asks.

    After some refusals libzmq connects no more: who wants to try again makes the socket anew."""

    def __init__(self, socket: zmq.Socket[bytes], keys: ClientKeys | None) -> None:
        self._socket = socket
        self._events = socket.get_monitor_socket(_OUTCOMES)
        self._hung_up = _HUNG_UP[keys is not None]
        self._refusal: str | None = None

    def refusal(self) -> str:
        """Why the other end takes no connection, and what to do; '' where nothing is known against it."""
        return self.await_one(0) or ""

    def await_one(self, timeout_ms: int) -> str | None:
        """The same as soon as a handshake was tried; None where none was within the time."""
        while self._events.poll(timeout_ms if self._refusal is None else 0):
            event, value = _EVENT.unpack(self._events.recv_multipart()[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._refusal = ""
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refusal = _UNKNOWN
            elif value != errno.EAGAIN:  # of one that answered nothing, frozen maybe, nothing is known
                self._refusal = self._hung_up
        return self._refusal

    def close(self) -> None:
        """Before the socket is closed."""
        self._socket.disable_monitor()
        self._events.close()
