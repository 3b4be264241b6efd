"""An outbox whose end a disk has lost looks whole: the mark beside it tells what was durable, and it is declared lost."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import msgspec
import pytest

from edge_agent.uplink import opening
from edge_agent.uplink.mark import Mark, MarkFile, read_mark
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import LOST, connect

ROWS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an outbox that was killed: its rows are in the write-ahead log alone."""
    running = Outbox(tmp_path / "running", 16)
    for number in range(ROWS):
        assert running.put_record(b"record %d" % number)
        assert running.flush(10)
    folder = Path(shutil.copytree(tmp_path / "running", tmp_path / "killed"))
    running.close()
    return folder


def cut_off(folder: Path, left: int) -> None:
    (folder / "outbox.db-shm").unlink()
    with open(folder / "outbox.db-wal", "r+b") as wal:
        wal.truncate(left)


def declared(outbox: Outbox) -> list[int]:
    return [msgspec.msgpack.decode(row.body)["n"] for row in outbox.read_after(0, 1_000_000, 1 << 40) if row.kind == LOST]


def bodies(outbox: Outbox) -> list[bytes]:
    return [row.body for row in outbox.read_after(0, 1_000_000, 1 << 40) if row.kind != LOST]


@pytest.mark.parametrize("left", [0, 100_000, 200_000])
def test_rows_that_a_disk_has_lost_again_are_declared_once(folder: Path, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, object]] = []
    monkeypatch.setattr(opening, "say", lambda event, **values: said.append((event, values.get("rows"))))
    stream = (folder / "outbox.stream").read_text().strip()
    cut_off(folder, left)
    for _ in range(2):
        with contextlib.closing(Outbox(folder, 16)) as outbox:
            kept = len(bodies(outbox))
            assert kept < ROWS
            assert declared(outbox) == [ROWS - kept]
            assert outbox.stream == stream or left == 0
    assert ("outbox.cut_off", ROWS - kept) in said


def test_their_numbers_are_not_given_again(folder: Path) -> None:
    cut_off(folder, 100_000)
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        kept = len(bodies(outbox))
        assert outbox.put_record(b"a new one")
        assert outbox.flush(10)
        assert [row.seq for row in outbox.read_after(kept, 10, 1 << 40)] == [ROWS + 1, ROWS + 2]  # a collector may have the others


def test_what_the_collector_had_acknowledged_is_not_lost(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox", 16)) as outbox:
        for number in range(ROWS):
            assert outbox.put_record(b"record %d" % number)
        assert outbox.flush(10)
        outbox.acknowledge(ROWS - 4)
        assert outbox.flush(10)
        assert read_mark(outbox.file) == Mark(outbox.stream, ROWS, ROWS - 4)
    with contextlib.closing(Outbox(tmp_path / "outbox", 16)) as outbox:  # which meets no collector
        assert outbox.put_record(b"another")
        assert outbox.flush(10)
    for file in (tmp_path / "outbox").glob("outbox.db*"):
        file.unlink()
    with contextlib.closing(Outbox(tmp_path / "outbox", 16)) as outbox:
        assert declared(outbox) == [5]


def test_an_outbox_that_is_whole_or_another_declares_nothing(folder: Path, tmp_path: Path) -> None:
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert len(bodies(outbox)) == ROWS
        assert declared(outbox) == []
    with contextlib.closing(Outbox(tmp_path / "another", 16)) as outbox:
        pass
    shutil.copyfile(folder / "outbox.mark", tmp_path / "another" / "outbox.mark")
    with contextlib.closing(Outbox(tmp_path / "another", 16)) as outbox:
        assert declared(outbox) == []


@pytest.mark.parametrize("content", [b"", b"short", bytes(52), b"\xff" * 52])
def test_a_mark_that_cannot_be_read_tells_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outbox.mark").write_bytes(content)
    assert read_mark(tmp_path / "outbox.db") == Mark()


def test_a_mark_that_cannot_be_written_holds_up_nothing(tmp_path: Path) -> None:
    mark = MarkFile(tmp_path / "missing" / "outbox.db")
    mark.write(Mark("a" * 32, 1, 0))
    mark.close()
    (tmp_path / "outbox.mark").symlink_to("/dev/full")
    full = MarkFile(tmp_path / "outbox.db")
    full.write(Mark("a" * 32, 1, 0))
    full.close()


def test_every_setting_of_the_database_is_made(tmp_path: Path) -> None:
    with contextlib.closing(connect(tmp_path / "outbox.db")) as connection:
        settings = {name: connection.pragma(name) for name in ("journal_mode", "synchronous", "journal_size_limit", "cache_size")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "journal_size_limit": 16 << 20, "cache_size": -4096}
