"""Pictures on their way to the outbox: copied at once, encoded without loss, refused and declared where the pool is full."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge_agent.evidence import crop_box
from edge_agent.records import Blob
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import PICTURE, Row
from edge_agent.wire import PictureNote


def note(seq: int) -> PictureNote:
    where = {"x": 0, "y": 0, "width": 8, "height": 6}
    return PictureNote(station="s", line="l", epoch=7, seq=seq, part_id="p", outcome="NG", kind="crop", index=0, **where)


def pictures(outbox: Outbox) -> list[Row]:
    assert outbox.flush(5)
    return [row for row in outbox.read_after(0, 10_000, 1 << 40) if row.kind == PICTURE]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox", 64)
    yield outbox
    outbox.close()


def test_a_picture_is_copied_at_once_and_comes_out_exactly(outbox: Outbox) -> None:
    evidence = EvidenceWorker(outbox)
    frame = np.random.default_rng(1).integers(0, 256, (60, 80), np.uint8)
    view = frame[10:16, 20:28]  # not contiguous, as a crop of a frame is
    expected = view.copy()
    assert evidence.offer(note(1), view)
    frame[:] = 0  # the slot returns to the camera
    evidence.close()
    (row,) = pictures(outbox)
    assert (cv2.imdecode(np.frombuffer(row.data, np.uint8), cv2.IMREAD_GRAYSCALE) == expected).all()
    assert msgspec.msgpack.decode(row.body, type=PictureNote).sha256 == hashlib.sha256(row.data).hexdigest()


def test_buffers_serve_pictures_of_any_size_again_and_again(outbox: Outbox) -> None:
    evidence = EvidenceWorker(outbox)
    sizes = [(6, 8), (300, 400), (1, 1), (50, 3)] * 25
    taken = sum(evidence.offer(note(n), np.full(shape, n, np.uint8)) for n, shape in enumerate(sizes))
    evidence.close()
    rows = pictures(outbox)
    assert len(rows) == taken
    for row in rows:
        seq = msgspec.msgpack.decode(row.body, type=PictureNote).seq
        decoded = cv2.imdecode(np.frombuffer(row.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert decoded.shape == sizes[seq]
        assert (decoded == seq).all()


def test_a_full_pool_refuses_without_waiting_and_every_refusal_is_declared(outbox: Outbox) -> None:
    evidence = EvidenceWorker(outbox)
    large = np.random.default_rng(2).integers(0, 256, (500, 500), np.uint8)
    taken = sum(evidence.offer(note(n), large) for n in range(60))
    evidence.close()
    assert 32 <= taken < 60
    assert evidence.refused == 60 - taken
    assert outbox.flush(5)
    assert outbox.stats().pictures_lost == evidence.refused + taken - len(pictures(outbox))


def test_a_picture_without_pixels_is_declared_lost_and_the_next_one_arrives(outbox: Outbox) -> None:
    evidence = EvidenceWorker(outbox)
    assert not evidence.offer(note(1), np.empty((0, 8), np.uint8))
    assert evidence.offer(note(2), np.zeros((6, 8), np.uint8))
    evidence.close()
    assert len(pictures(outbox)) == 1
    assert outbox.stats().pictures_lost == 1


@pytest.mark.parametrize(
    ("x", "width", "expected"), [(10.2, 0.5, (10, 11)), (10.2, 2.6, (10, 13)), (10.0, 3.0, (10, 13)), (78.5, 1.5, (78, 80))]
)
def test_without_a_margin_a_crop_holds_the_whole_blob(x: float, width: float, expected: tuple[int, int]) -> None:
    """Of a region that is smaller than the network, a blob's box ends between two pixels."""
    blob = Blob(class_name="d", area_px=1, x=x, y=4, width=width, height=2, centroid_x=x, centroid_y=4, peak=0.9, mean=0.8)
    assert crop_box(blob, 0, 256, (60, 80)) == (expected[0], 4, expected[1], 6)
