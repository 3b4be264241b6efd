"""Outbox, sender, collector: nothing committed is lost, nothing comes twice, losses are declared. Real files and sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.collector.opening import open_store
from edge_agent.collector.receiver import Receiver
from edge_agent.collector.store import Store
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import Outbox, count_records
from edge_agent.uplink.sender import Sender
from edge_agent.wire import PictureNote, Verdict, verdict_json


def verdict(seq: int, outcome: str = "PASS") -> Verdict:
    return Verdict(
        station="s",
        line="l",
        epoch=7,
        seq=seq,
        part_id=str(seq),
        outcome=outcome,
        reasons=(),
        trigger_time_us=1,
        latency_ms=1.0,
        recipe="r",
        recipe_hash="ab",
        model_hash="cd",
        engine_id="e",
        blobs=(),
        findings=(),
    )


def note(seq: int) -> PictureNote:
    return PictureNote(
        station="s",
        line="l",
        epoch=7,
        seq=seq,
        part_id="../../etc",
        outcome="NG",
        kind="crop",
        index=0,
        x=0,
        y=0,
        width=8,
        height=8,
    )


class Site:
    """A collector on a thread, which can be killed and started again on the same store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/uplink"
        self.store: Store | None = None
        self.receiver: Receiver | None = None

    def start(self) -> None:
        self.store = open_store(str(self.folder / "store"))
        self.receiver = Receiver(self.endpoint, self.store)
        self.thread = threading.Thread(target=self.receiver.run)
        self.thread.start()

    def stop(self) -> None:
        if self.receiver is not None and self.store is not None:
            self.receiver.stop()
            self.thread.join()
            self.receiver.close()
            self.store.close()
            self.receiver = None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


def test_records_and_pictures_arrive_and_are_forgotten(site: Site, tmp_path: Path) -> None:
    committed: list[int] = []
    outbox = Outbox(tmp_path / "outbox", 16, on_committed=committed.extend)
    evidence = EvidenceWorker(outbox)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for seq in range(1, 301):
        assert outbox.put_record(verdict_json(verdict(seq, "NG" if seq % 10 == 0 else "PASS")), seq)
    assert evidence.offer(note(10), pixels)
    evidence.close()
    assert outbox.flush(5)
    assert committed == list(range(1, 301))
    site.start()
    sender = Sender(outbox, site.endpoint, "s")
    sender.start()
    assert sender.drain(10)
    sender.close()
    outbox.close()
    assert [v.seq for v in site.store.verdicts()] == list(range(1, 301))
    (picture,) = site.store.pictures()
    assert ".." not in picture.path
    assert (picture.read() == pixels).all()
    assert count_records(tmp_path / "outbox") == 0
    assert outbox.stats().records_acknowledged == 300


def test_a_collector_that_comes_and_goes_gets_everything_once(site: Site, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    sender = Sender(outbox, site.endpoint, "s")
    sender.start()
    for turn in range(3):
        for seq in range(1, 401):
            outbox.put_record(verdict_json(verdict(turn * 400 + seq)))
        site.start()
        time.sleep(0.05 * turn)  # leaves in the middle of its work
        site.stop()
    site.start()
    assert sender.drain(20)
    sender.close()
    outbox.close()
    assert [v.seq for v in site.store.verdicts()] == list(range(1, 1201))
    assert site.store.count("contradictions") == 0


class SlowLink:
    """Carries what comes to `address` on to `target`, upwards at 1.6 Mbit/s."""

    def __init__(self, address: str, target: str) -> None:
        self._target = target
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as ends:
            while True:
                near = ends.enter_context(self._listening.accept()[0])
                far = ends.enter_context(socket.socket(socket.AF_UNIX))
                far.connect(self._target)
                self._start(self._carry, near, far, 2e5)
                self._start(self._carry, far, near, 1e9)

    def _carry(self, source: socket.socket, target: socket.socket, bytes_a_second: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
                time.sleep(len(data) / bytes_a_second)
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()


def test_a_picture_that_is_long_on_a_slow_link_arrives(site: Site, tmp_path: Path) -> None:
    """Longer than a heartbeat waits for its answer, and longer than a sender waits for a small row."""
    outbox = Outbox(tmp_path / "outbox", 16)
    outbox.put_picture(b"a note", os.urandom(600_000), 1)
    outbox.put_record(verdict_json(verdict(1)))
    site.start()
    link = SlowLink(f"{tmp_path}/link", f"{tmp_path}/uplink")
    sender = Sender(outbox, f"ipc://{tmp_path}/link", "s")
    sender.start()
    is_drained = sender.drain(30)
    sender.close()
    link.close()
    outbox.close()
    assert is_drained
    assert [v.seq for v in site.store.verdicts()] == [1]


def test_the_same_part_twice_is_one_row_and_a_contradiction_is_kept(site: Site, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    for outcome in ("NG", "NG", "PASS"):
        outbox.put_record(verdict_json(verdict(1, outcome)))
    outbox.put_record(b"no record at all")
    outbox.put_record(verdict_json(verdict(2)))
    site.start()
    sender = Sender(outbox, site.endpoint, "s")
    sender.start()
    assert sender.drain(10), "a row nobody can read must not hold up the others"
    sender.close()
    outbox.close()
    assert [(v.seq, v.outcome) for v in site.store.verdicts()] == [(1, "NG"), (2, "PASS")]
    assert site.store.count("contradictions") == 1


def test_at_the_cap_pictures_go_first_and_every_loss_is_declared(site: Site, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 2)
    data = os.urandom(20_000)
    for seq in range(1, 201):
        outbox.put_record(verdict_json(verdict(seq)))
        outbox.put_picture(msgspec.msgpack.encode(note(seq)), data, seq % 2)
    assert outbox.flush(20)
    stats = outbox.stats()
    assert stats.records_committed == 200
    assert stats.records_lost == 0
    assert stats.pictures_lost > 50
    kinds = [row.kind for row in outbox.read_after(0, 1000, 1 << 30)]
    assert kinds.count("record") == 200
    assert kinds.count("picture") + stats.pictures_lost == 200
    left = [
        bool(msgspec.msgpack.decode(row.body)["seq"] % 2) for row in outbox.read_after(0, 1000, 1 << 30) if row.kind == "picture"
    ]
    assert left.count(True) > left.count(False), "pictures of PASS go before pictures of NG"
    site.start()
    sender = Sender(outbox, site.endpoint, "s")
    sender.start()
    assert sender.drain(20)
    sender.close()
    outbox.close()
    assert site.store.lost("picture") == stats.pictures_lost
    assert site.store.count("records") == 200


def test_a_full_queue_refuses_and_declares(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16, queue_limit=0)
    assert not outbox.put_record(verdict_json(verdict(1)))
    assert outbox.flush(5)
    outbox.close()
    assert outbox.stats().records_lost == 1


def test_what_is_declared_lost_is_delivered_by_nobody_else(tmp_path: Path) -> None:
    """The token of a refused record comes back once its loss is durable: the journal forgets it, too."""
    handed_back: list[object] = []
    outbox = Outbox(tmp_path / "outbox", 16, handed_back.extend, queue_limit=0)
    assert not outbox.put_record(verdict_json(verdict(1)), "ticket")
    assert outbox.flush(5)
    outbox.close()
    assert handed_back == ["ticket"]


def test_a_damaged_note_of_the_stream_is_written_anew(tmp_path: Path) -> None:
    before = Outbox(tmp_path / "outbox", 16)
    before.close()
    note = tmp_path / "outbox" / "outbox.stream"
    note.write_bytes(b"\xff\xfe")
    again = Outbox(tmp_path / "outbox", 16)
    again.close()
    assert (again.stream, note.read_text().strip()) == (before.stream, before.stream)


def test_a_damaged_database_is_put_aside_and_a_new_stream_begins(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    outbox.put_record(verdict_json(verdict(1)))
    outbox.close()
    (tmp_path / "outbox" / "outbox.db").write_bytes(b"damaged" * 4096)
    again = Outbox(tmp_path / "outbox", 16)
    assert again.stream != outbox.stream
    assert again.put_record(verdict_json(verdict(2)))
    assert again.flush(5)
    again.close()
    assert list((tmp_path / "outbox").glob("*.damaged-*"))


WRITER = """
import sys
from pathlib import Path
from edge_agent.uplink.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), 64, on_committed=lambda tokens: print(*tokens, flush=True))
n = 0
while True:
    n += 1
    outbox.put_record(b"x" * 500, n)
    if n % 100 == 0:
        outbox.flush(5)
"""


def test_kill_9_keeps_everything_that_was_committed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "outbox")], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    told = max(int(word) for line in lines if line.endswith("\n") for word in line.split())
    assert count_records(tmp_path / "outbox") >= told > 100
