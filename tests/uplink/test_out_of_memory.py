"""Evidence that memory has no room for is declared lost, told once; its buffer returns, and every thread goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import cv2
import numpy as np
import pytest
import zmq
from running import wait_until

from edge_agent import shipping
from edge_agent.uplink import encoding, sender
from edge_agent.uplink import outbox as writing
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import PICTURE, RECORD
from edge_agent.uplink.sender import Sender
from edge_agent.wire import PictureNote

FRAME = np.zeros((60, 80), np.uint8)
EVERYTHING = (0, 1_000_000, 1 << 40)


def note(seq: int) -> PictureNote:
    where = {"x": 0, "y": 0, "width": 80, "height": 60}
    return PictureNote(station="s", line="l", epoch=7, seq=seq, part_id="p", outcome="NG", kind="crop", index=0, **where)


def short_of_memory(times: int, do: Callable[..., Any], error: type[Exception] = MemoryError) -> Callable[..., Any]:
    """What `do` does, but for so many calls at first, for which there is no memory."""
    left = [times]

    def called(*words: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return do(*words, **more)

    return called


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox", 64)
    yield outbox
    outbox.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    for room in (encoding, writing, sender):
        monkeypatch.setattr(room, "say", lambda name, **_: names.append(name))
    return names


def test_a_copy_without_memory_is_declared_and_its_buffer_returns(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = EvidenceWorker(outbox)
    with monkeypatch.context() as short:
        short.setattr("edge_agent.uplink.encoding.np.empty", short_of_memory(100, np.empty))
        assert not any(evidence.offer(note(n), FRAME) for n in range(100))
    assert evidence.refused == 100
    assert evidence.offer(note(100), FRAME), "a buffer is left"
    evidence.close()
    assert outbox.flush(5)
    assert outbox.stats().pictures_lost == 100
    assert [row.kind for row in outbox.read_after(*EVERYTHING)].count(PICTURE) == 1


def test_pictures_that_cannot_be_encoded_without_memory_are_declared_and_told_once(
    outbox: Outbox, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = EvidenceWorker(outbox)
    monkeypatch.setattr(cv2, "imencode", short_of_memory(40, cv2.imencode))
    for n in range(42):
        wait_until(lambda: not evidence._free.empty())
        assert evidence.offer(note(n), FRAME)
    evidence.close()
    assert outbox.flush(5)
    assert outbox.stats().pictures_lost == 40
    assert [row.kind for row in outbox.read_after(*EVERYTHING)].count(PICTURE) == 2
    assert [name for name in said if name.startswith("evidence")] == ["evidence.refused", "evidence.recovered"]


@pytest.mark.parametrize("error", [MemoryError, apsw.NoMemError])
def test_without_memory_to_store_a_picture_the_records_beside_it_are_stored(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(writing, "insert_picture", short_of_memory(1_000_000, writing.insert_picture, error))
    for _ in range(3):
        assert outbox.put_picture(b"note", bytes(5000), 1)
        assert outbox.put_record(b"record")
    assert outbox.flush(5), "the writer has ended, or tries for ever"
    assert [row.kind for row in outbox.read_after(*EVERYTHING)].count(RECORD) == 3
    assert outbox.flush(5)
    assert outbox.stats().pictures_lost == 3


def test_rows_that_memory_has_no_room_to_read_are_shipped_later(
    outbox: Outbox, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "read_rows", short_of_memory(3, writing.read_rows))
    monkeypatch.setattr(sender, "_UNREADABLE_S", 0.01)
    assert outbox.put_record(b"record")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as collector:
        collector.bind(f"ipc://{tmp_path}/uplink")
        uplink = Sender(outbox, f"ipc://{tmp_path}/uplink", "hall3")
        uplink.start()
        peer = collector.recv_multipart()[0]
        collector.send_multipart([peer, shipping.WELCOME, shipping.pack(shipping.Credit(upto=0, rows=9, bytes=1 << 20))])
        assert collector.poll(5000), "the sender has ended"
        assert collector.recv_multipart()[1] in (shipping.DATA, shipping.HELLO)
        wait_until(lambda: "outbox.readable" in said)
        uplink.close()
    assert said.count("outbox.unreadable") == 1
