"""A stop while something hangs, or a disk is slow: each end takes the time it was given, and what was given up is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import cv2
import msgspec
import numpy as np
import pytest
from running import wait_until

from edge_agent.plc.journal import Journal
from edge_agent.uplink import encoding
from edge_agent.uplink import outbox as writing
from edge_agent.uplink import sender as sending
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import LOST, PICTURE, RECORD
from edge_agent.uplink.sender import Sender
from edge_agent.wire import PictureNote

EVERYTHING = (0, 1_000_000, 1 << 40)
ENOUGH_S = 3.0  # for what takes a few tenths of a second, on a busy machine


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    words: list[tuple[str, str]] = []
    for room in (encoding, writing, sending):
        monkeypatch.setattr(room, "say", lambda name, **more: words.append((more.get("what", ""), more.get("why", ""))))
    return words


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    hold = threading.Event()
    yield hold
    hold.set()


def before(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> None:
    """From now on each transaction of an outbox begins after `wait`."""
    begin = writing.transaction

    @contextlib.contextmanager
    def slowly(connection: apsw.Connection) -> Iterator[None]:
        wait()
        with begin(connection):
            yield

    monkeypatch.setattr(writing, "transaction", slowly)


def seconds(do: Callable[[], Any]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def test_what_a_slow_disk_has_not_taken_stays_in_the_journal_or_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    committed: list[int] = []
    outbox = Outbox(tmp_path / "outbox", 16, on_committed=committed.extend, batch=8)
    before(monkeypatch, lambda: time.sleep(0.3))
    for number in range(80):
        assert outbox.put_record(b"%04d" % number, number)
        assert outbox.put_picture(b"note", bytes(50), 1)
    assert outbox.put_record(b"nobody else has it")
    assert seconds(lambda: outbox.close(patience_s=1.5)) < 1.5 + ENOUGH_S
    assert not outbox.thread.is_alive()
    again = Outbox(tmp_path / "outbox", 16)
    rows = again.read_after(*EVERYTHING)
    again.close()
    lost = {(loss["what"], loss["n"]) for loss in (msgspec.msgpack.decode(row.body) for row in rows if row.kind == LOST)}
    stored = {int(row.body) for row in rows if row.kind == RECORD}
    assert stored == set(committed), "whose token came back, and no other"
    assert len(stored) < 80
    assert lost == {(PICTURE, 80 - sum(row.kind == PICTURE for row in rows)), (RECORD, 1)}
    assert f"{80 - len(stored)} records stay in the journal" in dict(said)["outbox"]


def test_a_commit_that_does_not_end_holds_up_no_stop_and_may_end_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: threading.Event, said: list[tuple[str, str]]
) -> None:
    journal = Journal(tmp_path / "journal", 64)
    outbox = Outbox(tmp_path / "outbox", 16, on_committed=journal.commit)
    before(monkeypatch, lambda: hold.wait(60))
    assert outbox.put_record(b"record", journal.open_part(1, 0, b"line", b"part"))
    wait_until(lambda: not len(outbox._queue))
    assert seconds(lambda: outbox.close(patience_s=0.3)) < ENOUGH_S
    assert "does not end a commit" in dict(said)["outbox"]
    journal.close()
    hold.set()
    outbox.thread.join(10)
    assert outbox.stats().committed == 1
    outbox.close()


def test_pictures_that_are_not_encoded_in_time_are_declared_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: threading.Event, said: list[tuple[str, str]]
) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    evidence = EvidenceWorker(outbox)
    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *words: hold.wait(60) and encode(*words))
    where = {"x": 0, "y": 0, "width": 8, "height": 6}
    of = PictureNote(station="s", line="l", epoch=7, seq=1, part_id="p", outcome="NG", kind="crop", index=0, **where)
    for _ in range(5):
        assert evidence.offer(of, np.zeros((6, 8), np.uint8))
    wait_until(lambda: evidence._jobs.qsize() == 4)
    assert seconds(lambda: evidence.close(0.2)) < ENOUGH_S
    assert seconds(evidence.close) < ENOUGH_S, "a second time it waits no more"
    assert "4 pictures" in dict(said)["evidence"]
    hold.set()
    evidence._thread.join(10)
    assert not evidence._thread.is_alive()
    outbox.close(5)
    assert (outbox.stats().pictures_lost, outbox.stats().committed) == (4, 1)


def test_a_sender_that_the_disk_holds_up_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: threading.Event, said: list[tuple[str, str]]
) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    sender = Sender(outbox, f"ipc://{tmp_path}/uplink", "hall3")
    is_held = threading.Event()
    monkeypatch.setattr(sender, "_serve", lambda *_: (is_held.set(), hold.wait(60)))
    sender.start()
    assert is_held.wait(10)
    assert seconds(lambda: sender.close(0.2)) < ENOUGH_S
    assert "stays in the outbox" in dict(said)["sender"]
    hold.set()
    sender.close(10)
    outbox.close()
