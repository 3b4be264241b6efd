"""Whatever part of an outbox's file is gone, the rest is shipped, and as many rows are declared lost as are missing."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from random import Random

import msgspec
import pytest

from edge_agent.uplink import opening, salvage
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import LOST, PAGE_BYTES, PICTURE, RECORD, Row

RECORDS, PICTURES = 40, 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an outbox with records of many sizes, and pictures of several pages."""
    folder, random = tmp_path_factory.mktemp("whole") / "outbox", Random(0)
    outbox = Outbox(folder, 16)
    for number in range(RECORDS):
        assert outbox.put_record(b"record %d " % number + bytes(random.randint(50, 900)))
        if number % 5 == 0:
            assert outbox.put_picture(b"picture %d" % number, random.randbytes(random.randint(500, 20_000)), number % 2)
    outbox.close(10)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "outbox"))


def rows_of(outbox: Outbox) -> list[Row]:
    outbox.read_after(0, 1_000_000, 1 << 40)  # what is damaged is found, and declared
    assert outbox.flush(10)
    return outbox.read_after(0, 1_000_000, 1 << 40)


def declared(rows: list[Row]) -> dict[str, int]:
    losses = [msgspec.msgpack.decode(row.body) for row in rows if row.kind == LOST]
    return {loss["what"]: loss["n"] for loss in losses}


def pages_of(folder: Path) -> int:
    return (folder / "outbox.db").stat().st_size // PAGE_BYTES


def overwrite(folder: Path, number: int, by: bytes) -> None:
    with open(folder / "outbox.db", "r+b") as file:
        file.seek(number * PAGE_BYTES)
        file.write(by)


@pytest.mark.parametrize("by", [bytes(PAGE_BYTES), Random(1).randbytes(PAGE_BYTES)], ids=["zeros", "noise"])
def test_whatever_page_is_gone_what_is_missing_is_declared(whole: Path, tmp_path: Path, by: bytes) -> None:
    for number in range(pages_of(whole)):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        overwrite(folder, number, by)
        with contextlib.closing(Outbox(folder, 16)) as outbox:
            rows = rows_of(outbox)
            kept = [row for row in rows if row.kind != LOST]
            assert len(kept) + sum(declared(rows).values()) == RECORDS + PICTURES, f"page {number}"
            assert len(kept) > 0 or number == 2, f"page {number}"  # the only page of this size behind which all records are
            assert outbox.put_record(b"a new one")
            assert rows_of(outbox)[-1].body == b"a new one"


def test_without_its_first_page_nothing_is_missing_and_the_stream_is_another(folder: Path) -> None:
    before = (folder / "outbox.stream").read_text()
    overwrite(folder, 0, bytes(PAGE_BYTES))
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        rows = rows_of(outbox)
        assert [sum(row.kind == kind for row in rows) for kind in (RECORD, PICTURE, LOST)] == [RECORDS, PICTURES, 0]
        assert [row.seq for row in rows] == list(range(1, RECORDS + PICTURES + 1))
        assert outbox.stream not in before
        assert outbox.stats().waiting_rows == len(rows)


def test_of_a_file_cut_short_what_lies_before_is_shipped(folder: Path) -> None:
    with open(folder / "outbox.db", "r+b") as file:
        file.truncate(pages_of(folder) // 2 * PAGE_BYTES + 100)
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        rows = rows_of(outbox)
        kept = [row for row in rows if row.kind != LOST]
        assert 0 < len(kept) < RECORDS + PICTURES
        assert sum(declared(rows).values()) == RECORDS + PICTURES - len(kept)
        assert outbox.stats().records_lost == declared(rows).get(RECORD, 0)


def test_a_file_of_which_nothing_can_be_read_is_declared_and_kept(folder: Path) -> None:
    noise = Random(2).randbytes(pages_of(folder) * PAGE_BYTES)
    overwrite(folder, 0, noise)
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert declared(rows_of(outbox)) == {"row": 1}  # at least
    aside = next(folder.glob("outbox.db.damaged-*[0-9]"))
    assert aside.read_bytes()[PAGE_BYTES:] == noise[PAGE_BYTES:]


def test_what_is_no_outbox_is_kept_as_it_is(folder: Path) -> None:
    (folder / "outbox.db").write_text("somebody's notes " * 1000)
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert declared(rows_of(outbox)) == {"row": 1}
    assert next(folder.glob("outbox.db.damaged-*[0-9]")).read_text() == "somebody's notes " * 1000


def test_rows_that_are_in_the_wal_alone_are_saved_too(whole: Path, folder: Path, tmp_path: Path) -> None:
    outbox = Outbox(folder, 16)
    assert outbox.put_record(b"the last one")
    assert outbox.flush(10)
    killed = Path(shutil.copytree(folder, tmp_path / "killed"))
    outbox.close()
    overwrite(killed, pages_of(killed) - 1, Random(3).randbytes(PAGE_BYTES))
    with contextlib.closing(Outbox(killed, 16)) as outbox:
        assert b"the last one" in [row.body for row in rows_of(outbox)]


@pytest.mark.parametrize("place", [0, 20, 40, 60, 100, 5_000, 100_000, 300_000, -3_000, -100])
def test_a_bit_that_flips_in_the_wal_takes_nothing_from_those_behind_it(tmp_path: Path, place: int) -> None:
    running = Outbox(tmp_path / "running", 16)
    for number in range(RECORDS):
        assert running.put_record(b"record %d " % number * 30, 2)
        assert running.flush(10)
    folder = Path(shutil.copytree(tmp_path / "running", tmp_path / "killed"))
    running.close()
    with open(folder / "outbox.db-wal", "r+b") as file:
        content = bytearray(file.read())
        content[place] ^= 4
        file.seek(0)
        file.write(content)
    (folder / "outbox.db-shm").unlink()
    for _ in range(2):
        with contextlib.closing(Outbox(folder, 16)) as outbox:
            rows = rows_of(outbox)
            kept = sum(row.kind == RECORD for row in rows)
            assert kept + sum(declared(rows).values()) == RECORDS
            assert kept >= RECORDS - 1


@pytest.mark.parametrize("step", ["fresh", "whole", "finish"])
def test_a_power_cut_in_the_middle_leaves_it_to_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overwrite(folder, 5, bytes(PAGE_BYTES))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        match step:
            case "fresh":
                patch.setattr(salvage, "declare", cut)
            case "whole":
                patch.setattr(salvage, "finish", cut)
            case _:
                rename = Path.rename
                patch.setattr(Path, "rename", lambda file, to: cut() if file.suffix == ".whole" else rename(file, to))
        with pytest.raises(KeyboardInterrupt):
            Outbox(folder, 16)
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        rows = rows_of(outbox)
        assert sum(row.kind != LOST for row in rows) + sum(declared(rows).values()) == RECORDS + PICTURES
    assert len(list(folder.glob("outbox.db.damaged-*[0-9]"))) == 1
    assert "it was empty" not in capsys.readouterr().out
    assert not list(folder.glob("*.fresh*")) + list(folder.glob("*.whole*"))


def test_without_room_for_everything_pictures_are_missing_and_declared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "_ROOM", 25 * PAGE_BYTES / (16 << 20))
    overwrite(folder, 0, bytes(PAGE_BYTES))
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        rows = rows_of(outbox)
        kept = sum(row.kind == PICTURE for row in rows)
        assert sum(row.kind == RECORD for row in rows) == RECORDS
        assert 0 < kept < PICTURES
        assert declared(rows) == {PICTURE: PICTURES - kept}
        assert outbox.stats().pictures_lost == PICTURES - kept


def test_on_a_full_disk_no_portion_takes_the_room_of_what_is_declared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "_RESERVE_BYTES", 1 << 60)
    overwrite(folder, 0, bytes(PAGE_BYTES))
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert declared(rows_of(outbox)) == {RECORD: RECORDS, PICTURE: PICTURES}
    assert (folder / "outbox.db").stat().st_size < 16 * PAGE_BYTES


def test_what_a_salvage_that_was_cut_off_has_left_is_removed_though_the_file_is_in_order_by_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    overwrite(folder, 0, bytes(PAGE_BYTES))  # which is put back before anything is copied
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(salvage, "declare", cut)
        Outbox(folder, 16)
    assert list(folder.glob("*.fresh*"))
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert outbox.stats().waiting_rows == RECORDS + PICTURES
    assert not list(folder.glob("*.fresh*"))


def test_systemd_waits_as_long_as_portions_are_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(salvage, "extend_timeout", asked.append)
    monkeypatch.setattr(salvage, "_PORTION_BYTES", PAGE_BYTES)
    overwrite(folder, 0, bytes(PAGE_BYTES))
    Outbox(folder, 16).close()
    assert len(asked) > 10


def test_it_is_said_what_was_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, object]] = []
    monkeypatch.setattr(opening, "say", lambda event, **values: said.append((event, values.get("rows"))))
    overwrite(folder, 0, bytes(PAGE_BYTES))
    Outbox(folder, 16).close()
    assert said == [("outbox.replaced", None), ("outbox.salvaged", RECORDS + PICTURES)]
