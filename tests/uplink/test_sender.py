"""The sender against a collector that is played by hand: go-back-N, credit, another past, nonsense. Real sockets."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest
import zmq
from running import wait_until

from edge_agent import shipping
from edge_agent.uplink import sender as sending
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.sender import Sender


class Collector:
    """A ROUTER whose answers the test decides."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(endpoint)
        self.peer = b""

    def hear(self, timeout_ms: int = 5000) -> list[bytes]:
        """The next message without its address."""
        assert self.socket.poll(timeout_ms), "nothing came"
        self.peer, *frames = self.socket.recv_multipart()
        return frames

    def hear_hello(self) -> shipping.Hello:
        while (frames := self.hear())[0] != shipping.HELLO:
            pass
        return shipping.read_hello(frames[1])

    def hear_row(self) -> shipping.Data:
        kind, *frames = self.hear()
        assert kind == shipping.DATA
        return shipping.read_data(*frames)

    def say(self, kind: bytes, upto: int, rows: int = 100, most: int = 1 << 20) -> None:
        self.socket.send_multipart([self.peer, kind, shipping.pack(shipping.Credit(upto=upto, rows=rows, bytes=most))])

    def is_silent(self, timeout_ms: int = 150) -> bool:
        return not self.socket.poll(timeout_ms)

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox", 16)
    yield outbox
    outbox.close()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(f"ipc://{tmp_path}/uplink")
    yield collector
    collector.close()


@pytest.fixture
def sender(outbox: Outbox, collector: Collector, tmp_path: Path) -> Iterator[Sender]:
    sender = Sender(outbox, f"ipc://{tmp_path}/uplink", "hall3")
    yield sender
    sender.close()


def fill(outbox: Outbox, n: int) -> None:
    for _ in range(n):
        assert outbox.put_record(b"x" * 500)
    assert outbox.flush(5)


def eventually(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_true():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)


def test_rows_stay_until_the_collector_has_said_that_they_are_stored(outbox: Outbox, collector: Collector, sender: Sender) -> None:
    fill(outbox, 5)
    sender.start()
    hello = collector.hear_hello()
    assert (hello.station, hello.stream) == ("hall3", outbox.stream)
    collector.say(shipping.WELCOME, 0)
    assert [(row.seq, row.before) for row in (collector.hear_row() for _ in range(5))] == [(n, n - 1) for n in range(1, 6)]
    assert outbox.flush(5)
    assert outbox.waiting() == 5
    collector.say(shipping.ACK, 3)
    eventually(lambda: outbox.waiting() == 2)
    collector.say(shipping.ACK, 5)
    assert sender.drain(5)


def test_no_more_is_under_way_than_the_credit_in_rows_or_bytes(outbox: Outbox, collector: Collector, sender: Sender) -> None:
    fill(outbox, 40)
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0, rows=7)
    assert [collector.hear_row().seq for _ in range(7)] == list(range(1, 8))
    assert collector.is_silent()
    collector.say(shipping.ACK, 7, rows=100, most=1200)  # rows have 500 bytes
    assert [collector.hear_row().seq for _ in range(3)] == [8, 9, 10]
    assert collector.is_silent()


def test_without_an_acknowledgement_everything_after_the_last_one_goes_again(
    outbox: Outbox, collector: Collector, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_patience_s", 0.2)
    fill(outbox, 6)
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    for _ in range(6):
        collector.hear_row()
    collector.say(shipping.ACK, 4)
    monkeypatch.setattr("edge_agent.uplink.sender._FIRST_PATIENCE_S", 0.2)
    collector.hear_hello()
    collector.say(shipping.WELCOME, 4)
    assert [(row.seq, row.before) for row in (collector.hear_row() for _ in range(2))] == [(5, 4), (6, 5)]
    assert sender.resent == 2


def test_nonsense_from_the_far_end_is_survived(outbox: Outbox, collector: Collector, sender: Sender) -> None:
    fill(outbox, 1)
    sender.start()
    collector.hear_hello()
    for frames in ([b""], [b"W"], [b"W", b"\xff"], [b"A", b"nonsense"], [b"?", b"", b"", b""]):
        collector.socket.send_multipart([collector.peer, *frames])
    collector.say(shipping.ACK, 1)  # before any WELCOME: it acknowledges nothing
    assert collector.hear_hello().stream == outbox.stream
    assert outbox.waiting() == 1
    collector.say(shipping.WELCOME, 0)
    assert collector.hear_row().seq == 1


def test_a_collector_that_knows_more_than_was_sent_makes_the_rows_a_new_stream(
    outbox: Outbox, collector: Collector, sender: Sender
) -> None:
    fill(outbox, 3)
    old = outbox.stream
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 10_000)
    hello = collector.hear_hello()
    assert hello.stream == outbox.stream != old
    collector.say(shipping.WELCOME, 0)
    assert [collector.hear_row().seq for _ in range(3)] == [1, 2, 3]


def test_rows_that_a_collector_had_and_lost_are_declared_once(outbox: Outbox, collector: Collector, sender: Sender) -> None:
    fill(outbox, 5)
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    assert [collector.hear_row().seq for _ in range(5)] == [1, 2, 3, 4, 5]
    collector.say(shipping.ACK, 5)
    wait_until(lambda: outbox.waiting() == 0)
    collector.say(shipping.WELCOME, 2)  # an older copy of its store came back
    kind, *frames = collector.hear()
    assert (kind, shipping.read_data(*frames).before) == (shipping.DATA, 2)
    loss = msgspec.msgpack.decode(frames[1])
    assert (loss["what"], loss["n"]) == ("row", 3)
    collector.say(shipping.WELCOME, 2)  # as after a connection that was lost
    assert collector.hear_row().seq == 6
    assert collector.is_silent()
    assert outbox.waiting() == 1


@contextlib.contextmanager
def shipping_again(folder: Path) -> Iterator[Outbox]:
    """The outbox of the folder as the next start opens it, with its sender."""
    outbox = Outbox(folder / "outbox", 16)
    sender = Sender(outbox, f"ipc://{folder}/uplink", "hall3")
    sender.start()
    try:
        yield outbox
    finally:
        sender.close()
        outbox.close()


def test_an_older_copy_that_comes_back_ships_what_it_wrote_before_it_met_a_collector(tmp_path: Path, collector: Collector) -> None:
    first = Outbox(tmp_path / "outbox", 16)
    fill(first, 10)
    first.acknowledge(10)
    first.close()
    for n in (6, 6):  # of two starts without a collector, which had four rows more of the stream before the copy came back
        alone = Outbox(tmp_path / "outbox", 16)
        fill(alone, n)
        alone.close()
    with shipping_again(tmp_path) as outbox:
        collector.hear_hello()
        collector.say(shipping.WELCOME, 14)
        assert collector.hear_hello().stream == outbox.stream != first.stream
        collector.say(shipping.WELCOME, 0)
        assert [collector.hear_row().seq for _ in range(12)] == list(range(11, 23))


def test_what_was_sent_and_not_acknowledged_before_a_start_goes_on_in_its_stream(tmp_path: Path, collector: Collector) -> None:
    first = Outbox(tmp_path / "outbox", 16)
    fill(first, 4)
    first.acknowledge(2)
    fill(first, 4)
    first.close()
    with shipping_again(tmp_path) as outbox:
        collector.hear_hello()
        collector.say(shipping.WELCOME, 7)  # the last acknowledgements never came
        assert collector.hear_row().seq == 8
        assert outbox.stream == first.stream


def test_drain_gives_up_soon_where_there_is_no_collector(outbox: Outbox, tmp_path: Path) -> None:
    fill(outbox, 1)
    alone = Sender(outbox, f"ipc://{tmp_path}/nobody", "hall3")
    alone.start()
    began = time.monotonic()
    assert not alone.drain(30)
    assert time.monotonic() - began < 3
    alone.close()


def test_a_collector_that_goes_while_nothing_is_under_way_is_not_connected_any_more(
    outbox: Outbox, collector: Collector, sender: Sender
) -> None:
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    eventually(lambda: sender.is_connected)
    collector.socket.close()
    eventually(lambda: not sender.is_connected)
    fill(outbox, 1)
    began = time.monotonic()
    assert not sender.drain(30), "nobody takes the row"
    assert time.monotonic() - began < 5


def test_an_outbox_that_cannot_be_read_is_told_once_and_the_link_stays(
    outbox: Outbox, collector: Collector, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    read, failures = outbox.read_after, [apsw.CorruptError("malformed"), apsw.CorruptError("malformed")]

    def read_after(*arguments: int) -> object:
        if failures:
            raise failures.pop()
        return read(*arguments)

    monkeypatch.setattr(outbox, "read_after", read_after)
    monkeypatch.setattr(sending, "say", lambda event, **_: said.append(event))
    monkeypatch.setattr(sending, "_UNREADABLE_S", 0.01)
    fill(outbox, 1)
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    assert collector.hear_row().seq == 1
    assert said == ["uplink.connected", "outbox.unreadable", "outbox.readable"]


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.PAIR], ids=["its own", "of its handshakes"])
def test_a_socket_that_cannot_be_made_anew_is_told_once_and_tried_again(
    outbox: Outbox, collector: Collector, sender: Sender, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    said: list[tuple[str, str]] = []
    make, failures = zmq.Context.socket, [zmq.ZMQError(errno.EMFILE) for _ in range(3)]

    def socket(context: zmq.Context[zmq.Socket[bytes]], of: int, **more: object) -> zmq.Socket[bytes]:
        if failures and of == kind:
            raise failures.pop()
        return make(context, of, **more)

    monkeypatch.setattr(sending, "say", lambda event, **more: said.append((event, more.get("why", ""))))
    monkeypatch.setattr(sending, "_FAILED_S", 0.01)
    monkeypatch.setattr(sender, "_patience_s", 0.2)
    fill(outbox, 1)
    sender.start()
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    assert collector.hear_row().seq == 1
    monkeypatch.setattr(zmq.Context, "socket", socket)
    collector.hear_hello()
    collector.say(shipping.WELCOME, 0)
    eventually(lambda: said[-1][0] == "uplink.connected" and not failures)
    assert [event for event, _ in said] == ["uplink.connected", "uplink.disconnected", "uplink.failed", "uplink.connected"]
    assert "Too many open files" in said[2][1]
    assert "LimitNOFILE" in said[2][1]


def test_a_sender_without_a_socket_is_not_stalled(outbox: Outbox, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def socket(*_words: object, **_more: object) -> None:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(sending, "say", lambda *_, **__: None)
    monkeypatch.setattr(sending, "_FAILED_S", 0.01)
    monkeypatch.setattr(sending, "_DISK_S", 0)
    monkeypatch.setattr(zmq.Context, "socket", socket)
    sender.start()
    time.sleep(0.5)
    assert sender.pulse.stalled_s(0.4) == 0
