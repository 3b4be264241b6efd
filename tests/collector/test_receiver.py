"""The receiver on a real socket: it acknowledges what is stored and nothing else, and no message ends it."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import wait_until
from sqlalchemy.exc import OperationalError

from edge_agent import shipping
from edge_agent.collector.opening import open_store
from edge_agent.collector.receiver import Receiver
from edge_agent.collector.store import Arrived
from edge_agent.errors import EdgeAgentError
from edge_agent.wire import Verdict, verdict_json


def body(seq: int) -> bytes:
    texts = {"part_id": str(seq), "outcome": "PASS", "recipe": "r", "recipe_hash": "ab", "model_hash": "cd", "engine_id": "e"}
    numbers = {"epoch": 7, "seq": seq, "trigger_time_us": 1, "latency_ms": 1.0}
    return verdict_json(Verdict(station="s", line="l", **texts, **numbers, reasons=(), blobs=(), findings=()))


class Station:
    """A DEALER that the test speaks through."""

    def __init__(self, endpoint: str, stream: str = "stream") -> None:
        self.context = zmq.Context()
        self.stream = stream
        self.endpoint = endpoint
        self.connect()

    def connect(self) -> None:
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(self.endpoint)

    def say_hello(self, station: str = "s") -> None:
        self.socket.send_multipart([shipping.HELLO, shipping.pack(shipping.Hello(station=station, stream=self.stream))])

    def hello(self, station: str = "s") -> shipping.Credit:
        self.say_hello(station)
        kind, credit = self.hear()
        assert kind == shipping.WELCOME
        return credit

    def send(self, seq: int, before: int, crc: int | None = None) -> None:
        crc = zlib.crc32(body(seq)) if crc is None else crc
        header = shipping.Data(seq=seq, before=before, kind="record", crc=crc)
        self.socket.send_multipart([shipping.DATA, shipping.pack(header), body(seq), b""])

    def hear(self, timeout_ms: int = 5000) -> tuple[bytes, shipping.Credit]:
        assert self.socket.poll(timeout_ms), "no answer"
        kind, credit = self.socket.recv_multipart()
        return kind, shipping.read_credit(credit)

    def hear_upto(self, upto: int) -> None:
        while True:
            _, credit = self.hear()
            assert credit.upto <= upto
            if credit.upto == upto:
                return

    def is_unanswered(self, timeout_ms: int = 100) -> bool:
        return not self.socket.poll(timeout_ms)

    def close(self) -> None:
        self.socket.close()
        self.context.term()


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start(f"ipc://{folder}/uplink")

    def start(self, endpoint: str) -> None:
        self.store = open_store(str(self.folder / "store"))
        self.receiver = Receiver(endpoint, self.store)
        self.thread = threading.Thread(target=self.receiver.run)
        self.thread.start()

    def stop(self) -> None:
        self.receiver.stop()
        self.thread.join()
        self.receiver.close()
        self.store.close()

    def stored(self) -> list[int]:
        return [verdict.seq for verdict in self.store.verdicts()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture
def station(site: Site) -> Iterator[Station]:
    station = Station(site.receiver.endpoint)
    yield station
    station.close()


def test_it_listens_at_an_address_that_no_interface_has_yet(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.stop()
    site.start("tcp://192.0.2.7:*")
    assert site.receiver.endpoint.startswith("tcp://192.0.2.7:")
    site.stop()


def test_duplicates_are_absorbed_and_gaps_are_not_acknowledged(site: Site, station: Station) -> None:
    assert station.hello().upto == 0
    for seq, before in ((1, 0), (2, 1), (2, 1), (1, 0), (4, 3)):
        station.send(seq, before)
    station.hear_upto(2)
    station.send(3, 2)
    station.send(9, 3)  # 4 to 8 were let go and are not missing
    station.hear_upto(9)
    assert site.stored() == [1, 2, 3, 9]


def test_nothing_is_acknowledged_before_it_is_stored(site: Site, station: Station, tmp_path: Path) -> None:
    station.hello()
    other = sqlite3.connect(tmp_path / "store" / "collector.db", isolation_level=None)
    other.execute("begin immediate")  # nobody else can commit now
    station.send(1, 0)
    assert station.is_unanswered(300)
    other.execute("rollback")
    other.close()
    station.hear_upto(1)
    assert site.stored() == [1]


def test_a_store_that_fails_is_tried_again_and_the_station_starts_from_what_is_stored(
    site: Site, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.collector.receiver._RETRY_S", 0.01)
    station.hello()
    station.send(1, 0)
    station.hear_upto(1)
    with monkeypatch.context() as broken:
        broken.setattr(site.store, "commit", _disk_is_full)
        station.send(2, 1)
        assert station.is_unanswered()
    station.send(3, 2)
    assert station.is_unanswered(), "a station must say HELLO again after a failure"
    assert station.hello().upto == 1
    station.send(2, 1)
    station.hear_upto(2)
    assert site.stored() == [1, 2]


def test_a_database_that_is_removed_under_way_is_made_anew_and_takes_what_was_not_acknowledged(
    site: Site, station: Station, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its rows went into a file without a name, acknowledged, until a restart."""
    monkeypatch.setattr("edge_agent.collector.receiver._RETRY_S", 0.01)
    station.hello()
    station.send(1, 0)
    station.hear_upto(1)
    for file in (site.folder / "store").glob("collector.db*"):
        file.unlink()
    station.send(2, 1)
    assert station.is_unanswered()
    assert "collector.db was removed or replaced" in "".join(capfd.readouterr())
    assert station.hello().upto == 0, "what is stored, not what once was"
    station.send(2, 0)
    station.hear_upto(2)
    assert site.stored() == [2]


_LEAVES = """
import sys, time, zmq
from edge_agent.collector.opening import open_store
from edge_agent.collector.receiver import Receiver

receiver = Receiver(f"ipc://{sys.argv[1]}/uplink", open_store(sys.argv[1]))
with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
    peer.linger, peer.sndtimeo, peer.sndhwm = 0, 200, 100
    peer.connect(receiver.endpoint)
    try:
        for n in range(5000):
            peer.send_multipart([b"D", b"", b"", b"x" * 100])
    except zmq.Again:
        pass
time.sleep(1.2)
"""


def test_whoever_leaves_while_much_of_his_waits_ends_nothing(tmp_path: Path) -> None:
    """libzmq aborted the process, at the next heartbeat."""
    ended = subprocess.run([sys.executable, "-c", _LEAVES, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def _disk_is_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_store_that_is_away_is_asked_once_a_turn_however_many_say_hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is asked may take `connect_timeout`, and the service's watchdog waits for the turn."""
    monkeypatch.setattr("edge_agent.collector.receiver._RETRY_S", 0)
    store = open_store(str(tmp_path / "store"))
    asked: list[str] = []

    def is_away(stream: str) -> tuple[str, int]:
        asked.append(stream)
        raise OperationalError("connect", {}, TimeoutError())

    monkeypatch.setattr(store, "known", is_away)
    receiver = Receiver(f"ipc://{tmp_path}/uplink", store)
    stations = [Station(receiver.endpoint, f"stream-{n}") for n in range(5)]
    try:
        for station in stations:
            station.say_hello()
        waiting = receiver._waiting()
        while len(waiting) < len(stations):
            waiting += receiver._waiting()
        monkeypatch.setattr(receiver, "_waiting", lambda: waiting)
        receiver.serve_batch()
        assert len(asked) == 1
    finally:
        for station in stations:
            station.close()
        receiver.close()
        store.close()


def test_a_store_that_fails_is_told_when_it_turns_and_when_it_is_well(
    site: Site, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.collector.receiver._RETRY_S", 0)
    told: list[tuple[str, str]] = []
    monkeypatch.setattr("edge_agent.collector.health.say", lambda name, why="": told.append((name, why)))
    commit, causes = site.store.commit, ["disk full"] * 3 + ["read-only"] * 2

    def fails(rows: list[Arrived], upto: dict[str, tuple[str, int]]) -> None:
        if causes:
            raise OSError(causes.pop(0))
        commit(rows, upto)

    monkeypatch.setattr(site.store, "commit", fails)
    for left in (4, 3, 2, 1, 0):
        station.hello()
        station.send(1, 0)
        wait_until(lambda left=left: len(causes) == left)
    for seq in (1, 2):
        station.hello()
        station.send(seq, seq - 1)
        station.hear_upto(seq)
    assert told == [("collector.failed", "disk full"), ("collector.failed", "read-only"), ("collector.recovered", "")]


def test_a_wrong_crc_is_dropped_counted_and_can_come_again(site: Site, station: Station) -> None:
    station.hello()
    station.send(1, 0, crc=1)
    assert station.is_unanswered()
    station.send(1, 0)
    station.hear_upto(1)
    assert (site.stored(), site.receiver.refused) == ([1], 1)


def test_after_a_restart_it_welcomes_with_what_it_has(site: Site, station: Station) -> None:
    station.hello()
    for seq in range(1, 20):
        station.send(seq, seq - 1)
    station.hear_upto(19)
    endpoint = site.receiver.endpoint
    site.stop()
    site.start(endpoint)
    station.socket.close()
    station.connect()
    assert station.hello().upto == 19


def test_streams_do_not_mix_and_a_new_connection_replaces_the_old_one(site: Site, station: Station) -> None:
    other = Station(site.receiver.endpoint, "other")
    assert (station.hello().upto, other.hello().upto) == (0, 0)
    station.send(1, 0)
    station.hear_upto(1)
    assert other.hello().upto == 0
    other.close()
    for _ in range(5):
        station.socket.close()
        station.connect()
        assert station.hello().upto == 1
    assert len(site.receiver._peers) == 2


def test_a_station_of_another_version_is_refused_and_said(site: Site, station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    hello = shipping.Hello(station="s", stream="stream", v=shipping.SHIPPING_VERSION + 1)
    station.socket.send_multipart([shipping.HELLO, shipping.pack(hello)])
    assert station.is_unanswered()
    assert "Update the collector" in "".join(capsys.readouterr())
    station.hello()


def test_names_that_are_no_names_and_numbers_no_database_holds_are_refused(site: Site, station: Station) -> None:
    for name in ("", "../etc", "x" * 65, "a\0b"):
        station.stream = name
        station.socket.send_multipart([shipping.HELLO, shipping.pack(shipping.Hello(station="s", stream=name))])
    assert station.is_unanswered()
    station.stream = "stream"
    station.hello()
    station.send(1, 0)
    station.hear_upto(1)
    for seq in (1 << 63, (1 << 64) - 1, -5):
        header = shipping.Data(seq=seq, before=1, kind="record", crc=zlib.crc32(body(2)))
        station.socket.send_multipart([shipping.DATA, shipping.pack(header), body(2), b""])
    station.send(2, 1)
    station.hear_upto(2)
    assert site.receiver.refused == 7


frames = st.one_of(st.binary(max_size=40), st.sampled_from([shipping.HELLO, shipping.DATA, shipping.ACK, b"\x80", b"\xc1"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.lists(frames, min_size=1, max_size=6))
def test_no_message_ends_the_receiver(site: Site, station: Station, message: list[bytes]) -> None:
    station.socket.send_multipart(message)
    while not station.is_unanswered(0):
        station.socket.recv_multipart()
    station.hello()
    assert site.thread.is_alive()


def test_a_store_that_hangs_is_no_progress_and_one_that_is_idle_is(tmp_path: Path) -> None:
    turns, hanging, let_go = Turns(), threading.Event(), threading.Event()
    store = open_store(str(tmp_path / "store"))
    commit = store.commit

    def hang(*rows: object) -> None:
        hanging.set()
        let_go.wait()
        commit(*rows)

    store.commit = hang  # type: ignore[method-assign]
    receiver = Receiver(f"ipc://{tmp_path}/uplink", store)
    thread = threading.Thread(target=receiver.run, args=(turns.add,))
    thread.start()
    station = Station(receiver.endpoint)
    try:
        turns.await_more()  # nothing to do
        station.hello()
        station.send(1, 0)
        assert hanging.wait(5)
        before = turns.count
        assert station.is_unanswered(500)
        assert turns.count == before
        let_go.set()
        station.hear_upto(1)
        turns.await_more()
    finally:
        let_go.set()
        receiver.stop()
        thread.join()
        station.close()
        receiver.close()
        store.close()


class Turns:
    """Counts the turns of a loop."""

    def __init__(self) -> None:
        self.count = 0
        self._more = threading.Event()

    def add(self) -> None:
        self.count += 1
        self._more.set()

    def await_more(self) -> None:
        for _ in range(2):
            self._more.clear()
            assert self._more.wait(5), "the loop does not turn"


def test_an_address_in_use_says_so(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(EdgeAgentError, match="another collector"):
        Receiver(f"tcp://127.0.0.1:{taken.getsockname()[1]}", site.store)
