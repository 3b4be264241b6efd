"""Who may talk: key files, and sockets that take only those whose keys they know."""

from __future__ import annotations

import os
import shutil
import socket as socketlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from running import wait_until
from stations import Program

from edge_agent.doorkeeper import Doorkeeper, names_of
from edge_agent.errors import ConfigurationError
from edge_agent.security import ClientKeys, Handshakes, ServerKeys, client_keys, make_keys, read_pair, read_public

_WAIT_MS = 5000


class Hall:
    """A socket that listens, with a doorkeeper; and clients that try to get in."""

    def __init__(self, folder: Path, takes_own: bool = False) -> None:
        self.folder, self.clients = folder, folder / "clients"
        self.clients.mkdir()
        for name in ("hall", "known", "stranger"):
            make_keys(folder, name)
        shutil.copy(folder / "known.key", self.clients)
        self.own = read_pair(folder / "hall.key_secret")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.door = Doorkeeper(self.context, ServerKeys(self.own, self.clients), takes_own)
        self.socket = self.listen(self.context)

    def listen(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.ROUTER)
        socket.linger = 0
        self.door.guard(socket)
        socket.bind("tcp://127.0.0.1:*")
        return socket

    def keys(self, name: str, server: str = "hall") -> ClientKeys:
        return client_keys(self.folder / f"{name}.key_secret", self.folder / f"{server}.key")

    def knock(self, keys: ClientKeys | None, socket: zmq.Socket[bytes] | None = None) -> str | None:
        """Why a client with these keys is refused, '' where it comes in, None where nobody answers for a while."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as client:
            client.linger = 0
            handshakes = Handshakes(client, keys)
            if keys is not None:
                keys.apply(client)
            client.connect(str((socket or self.socket).getsockopt_string(zmq.LAST_ENDPOINT)))
            outcome = handshakes.await_one(_WAIT_MS if socket is None else 500)
            handshakes.close()
            return outcome

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    heard: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("edge_agent.doorkeeper.say", lambda name, **values: heard.append((name, values)))
    return heard


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    hall = Hall(tmp_path)
    yield hall
    hall.close()


def test_a_known_key_comes_in_and_each_other_is_told_why_not(hall: Hall, said: list[tuple[str, dict[str, object]]]) -> None:
    assert hall.knock(hall.keys("known")) == ""
    assert "it does not know this end's key" in (hall.knock(hall.keys("stranger")) or "")
    assert "has not the key that was given as its" in (hall.knock(hall.keys("known", server="stranger")) or "")
    assert "it encrypts, or speaks no ZeroMQ" in (hall.knock(None) or "")
    (values,) = [values for event, values in said if event == "peer.refused"]
    assert values["key"] == read_public(hall.folder / "stranger.key").decode()
    assert values["address"] == "127.0.0.1"


def test_who_does_not_encrypt_is_told_so(hall: Hall) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as plain:
        plain.bind("tcp://127.0.0.1:*")
        assert "it does not encrypt" in (hall.knock(hall.keys("known"), plain) or "")


def test_of_one_that_is_frozen_nothing_is_known(hall: Hall) -> None:
    with socketlib.create_server(("127.0.0.1", 0)) as frozen, zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.setsockopt(zmq.HANDSHAKE_IVL, 50)
        handshakes = Handshakes(client, None)
        client.connect(f"tcp://127.0.0.1:{frozen.getsockname()[1]}")
        assert handshakes.await_one(300) is None
        handshakes.close()


def test_what_a_client_sends_bears_the_name_of_its_key(hall: Hall) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        hall.keys("known").apply(client)
        client.connect(str(hall.socket.getsockopt_string(zmq.LAST_ENDPOINT)))
        client.send(b"a word")
        assert hall.socket.poll(_WAIT_MS)
        _, word = hall.socket.recv_multipart(copy=False)
        assert (word.bytes, word.get("User-Id")) == (b"a word", "known")


def test_a_key_counts_as_soon_as_it_is_there_and_no_longer(hall: Hall) -> None:
    shutil.copy(hall.folder / "stranger.key", hall.clients)
    assert hall.knock(hall.keys("stranger")) == ""
    (hall.clients / "stranger.key").unlink()
    wait_until(lambda: bool(hall.knock(hall.keys("stranger"))))


def test_a_file_may_be_called_as_no_text_is(hall: Hall) -> None:
    shutil.copy(hall.folder / "stranger.key", os.fsencode(hall.clients) + b"/h\xe4ll.key")
    assert hall.knock(hall.keys("stranger")) == ""
    assert hall.knock(hall.keys("known")) == ""


def test_a_stranger_costs_no_reading_of_every_key(hall: Hall) -> None:
    for number in range(300):
        shutil.copy(hall.folder / "known.key", hall.clients / f"{number}.key")
    with hall.context.socket(zmq.REQ) as asking:
        asking.connect("inproc://zeromq.zap.01")
        began = time.perf_counter()
        names_of(hall.clients)
        reading_s = time.perf_counter() - began
        request = (b"1.0", b"1", b"edge-agent", b"127.0.0.1", b"", b"CURVE", b"a" * 32)
        for each in range(21):
            if each == 1:  # the first has found the new ones
                began = time.perf_counter()
            asking.send_multipart(request)
            assert asking.recv_multipart()[2] == b"400"
        assert time.perf_counter() - began < 20 * reading_s / 2


def test_a_key_that_cannot_be_read_bars_no_other(hall: Hall, said: list[tuple[str, dict[str, object]]]) -> None:
    (hall.clients / "half.key").write_text("curve\n")
    os.mkfifo(hall.clients / "pipe.key")
    assert hall.knock(hall.keys("known")) == ""
    assert hall.knock(hall.keys("stranger"))
    told = {str(values["why"]) for event, values in said if event == "peer.keys_unreadable"}
    assert {why.partition(": ")[0].rpartition("/")[2] for why in told} == {"half.key", "pipe.key"}
    shutil.copy(hall.folder / "stranger.key", hall.clients)
    wait_until(lambda: hall.knock(hall.keys("stranger")) == "")
    shutil.rmtree(hall.clients)
    assert hall.knock(hall.keys("known")) == "", "those that were read before count"


def test_our_own_key_is_a_clients_where_it_may_be(hall: Hall, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert hall.knock(hall.own.to_itself())
    other = Hall(tmp_path_factory.mktemp("other"), takes_own=True)
    try:
        assert other.knock(other.own.to_itself()) == ""
    finally:
        other.close()


def test_nobody_comes_in_where_no_doorkeeper_answers(hall: Hall) -> None:
    with zmq.Context() as elsewhere, hall.listen(elsewhere) as unguarded:
        assert hall.knock(hall.keys("known"), unguarded) != ""
        assert hall.knock(hall.keys("stranger"), unguarded) != ""


def test_keygen_keeps_the_secret_and_replaces_nothing(edge_agent: Program, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = edge_agent("keygen", "hall3", "--out", folder)
    assert made.returncode == 0, made.stderr
    secret = folder / "hall3.key_secret"
    assert secret.stat().st_mode & 0o007 == 0
    assert read_pair(secret).public == read_public(folder / "hall3.key")
    assert read_pair(secret).secret.decode() not in repr(read_pair(secret).to_itself())
    before = secret.read_bytes()
    again = edge_agent("keygen", "hall3", "--out", folder)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert secret.read_bytes() == before
    secret.unlink()
    assert "hall3.key is there already" in edge_agent("keygen", "hall3", "--out", folder).stderr
    assert not secret.exists()
    assert edge_agent("keygen", "hall 3", "--out", folder).returncode == 2


def test_key_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    public, secret = make_keys(tmp_path, "hall3")
    for file, text, why in (
        (tmp_path / "absent.key", None, "cannot be read: No such file"),
        (tmp_path / "text.key", "hello\n", "holds no key."),
        (tmp_path / "short.key", 'public-key = "abcde"\n', "holds no key."),
        (tmp_path / "large.key", f'public-key = "{"#" * 40}"\n', "holds no key."),
        (tmp_path / "odd.key", f'public-key = "{"ä" * 20}"\n', "holds no key."),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigurationError, match=why):
            read_public(file)
    with pytest.raises(ConfigurationError, match="holds no secret key"):
        read_pair(public)
    other, _ = make_keys(tmp_path, "other")
    mixed = tmp_path / "mixed.key_secret"
    mixed.write_text(secret.read_text().replace(read_public(public).decode(), read_public(other).decode()))
    mixed.chmod(0o600)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        read_pair(mixed)
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"everybody on this machine may read it\. Remedy: chmod o= "):
        read_pair(secret)


def test_the_doorkeeper_ends_with_its_context(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.close()
    wait_until(lambda: all(thread.name != "doorkeeper" for thread in threading.enumerate()))
