"""A collector that knows its stations by their keys stores nothing of one that another sent."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edge_agent import shipping
from edge_agent.collector.opening import open_store
from edge_agent.collector.receiver import Receiver
from edge_agent.collector.store import Store
from edge_agent.security import ServerKeys, client_keys, make_keys, read_pair
from edge_agent.wire import PictureNote, Verdict, verdict_json


class Site:
    """A collector that takes the stations `a` and `b`, and their ends of the link."""

    def __init__(self, folder: Path) -> None:
        self.folder, stations = folder, folder / "stations"
        stations.mkdir()
        for name in ("collector", "a", "b"):
            make_keys(folder, name)
        for name in "ab":
            shutil.copy(folder / f"{name}.key", stations)
        self.store: Store = open_store(str(folder / "store"))
        keys = ServerKeys(read_pair(folder / "collector.key_secret"), stations)
        self.receiver = Receiver("tcp://127.0.0.1:*", self.store, keys)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._thread = threading.Thread(target=self.receiver.run)
        self._thread.start()

    def connect(self, name: str, identity: bytes) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        self._sockets.append(socket)
        socket.linger, socket.routing_id = 0, identity
        client_keys(self.folder / f"{name}.key_secret", self.folder / "collector.key").apply(socket)
        socket.connect(self.receiver.endpoint)
        return socket

    def close(self) -> None:
        self.receiver.stop()
        self._thread.join()
        for socket in self._sockets:
            socket.close()
        self.context.term()
        self.receiver.close()
        self.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def hello(socket: zmq.Socket[bytes], station: str) -> None:
    socket.send_multipart((shipping.HELLO, shipping.pack(shipping.Hello(station=station, stream=f"of-{station}"))))
    assert socket.poll(5000)
    assert socket.recv_multipart()[0] == shipping.WELCOME


def send(socket: zmq.Socket[bytes], seq: int, kind: str, body: bytes) -> None:
    header = shipping.Data(seq=seq, before=seq - 1, kind=kind, crc=shipping.crc_of(body, b""))
    socket.send_multipart((shipping.DATA, shipping.pack(header), body, b""))


def record(station: str) -> bytes:
    words = {"line": "one", "part_id": "p", "recipe": "r", "recipe_hash": "h", "model_hash": "m", "engine_id": "e"}
    numbers = {"epoch": 1, "seq": 1, "trigger_time_us": 1, "latency_ms": 1.0}
    empty = {"reasons": (), "blobs": (), "findings": ()}
    return verdict_json(Verdict(station=station, outcome="PASS", **words, **numbers, **empty))  # type: ignore[arg-type]


def picture(station: str) -> bytes:
    words = {
        "line": "one",
        "part_id": "p",
        "outcome": "PASS",
        "kind": "crop",
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    numbers = {"epoch": 1, "seq": 1, "index": 0, "x": 0, "y": 0, "width": 1, "height": 1}
    return shipping.pack(PictureNote(station=station, **words, **numbers))  # type: ignore[arg-type]


def test_a_station_stores_no_part_of_another(site: Site) -> None:
    b = site.connect("b", b"of b")
    hello(b, "b")
    for seq, (kind, body) in enumerate(
        (("record", record("a")), ("picture", picture("a")), ("record", record("b")), ("picture", picture("b"))), start=1
    ):
        send(b, seq, kind, body)
        assert b.poll(5000)
        assert shipping.read_credit(b.recv_multipart()[1]).upto == seq
    assert [verdict.station for verdict in site.store.verdicts()] == ["b"]
    assert (site.store.count("pictures"), site.store.count("refused")) == (1, 2)


def test_a_station_takes_over_no_stream_of_another(site: Site) -> None:
    a = site.connect("a", b"of a")
    hello(a, "a")
    send(a, 1, "record", record("a"))
    assert a.poll(5000)
    b = site.connect("b", b"of b")
    b.send_multipart((shipping.HELLO, shipping.pack(shipping.Hello(station="b", stream="of-a"))))
    assert not b.poll(500)
    assert site.store.known("of-a") == ("a", 1)


def test_a_station_takes_over_no_stream_with_the_identity_of_another(site: Site) -> None:
    a = site.connect("a", b"one identity")
    hello(a, "a")
    b = site.connect("b", b"one identity")
    send(b, 1, "lost", b"")
    assert not b.poll(500)
    assert site.store.count("refused") == 0
