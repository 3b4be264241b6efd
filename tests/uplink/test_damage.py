"""An outbox in whose file bits have flipped: whatever SQLite's own check lets pass ends no thread and holds up no start."""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw
import msgspec
import pytest

from edge_agent.uplink import opening
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.schema import LOST, RECORD

EVERYTHING = (0, 1_000_000, 1 << 40)
NO_UTF8 = "cast(x'f28041' as text)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an outbox with three records."""
    outbox = Outbox(tmp_path / "outbox", 16)
    for number in range(3):
        outbox.put_record(b"record %d" % number)
    outbox.close(10)
    return tmp_path / "outbox"


def damage(folder: Path, statement: str) -> None:
    """What one flipped bit does to the type of a value, or to its text: the tables are not strict."""
    with contextlib.closing(apsw.Connection(str(folder / "outbox.db"))) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("change", [f"body = {NO_UTF8}", f"crc = {NO_UTF8}", "crc = 'text'", "crc = crc + 1"])
def test_a_row_with_a_value_of_another_type_is_declared_and_those_behind_it_go_on(folder: Path, change: str) -> None:
    damage(folder, f"update rows set {change} where seq = 2")
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert [row.body for row in outbox.read_after(*EVERYTHING)] == [b"record 0", b"record 2"]
        assert outbox.flush(10)
        assert outbox.stats().records_lost == 1


def test_a_row_of_another_type_that_has_its_bytes_is_shipped(folder: Path) -> None:
    damage(folder, "update rows set body = cast(body as text)")
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert [row.body for row in outbox.read_after(*EVERYTHING)] == [b"record 0", b"record 1", b"record 2"]


def test_a_kind_that_is_no_text_ships_as_it_is_and_can_be_let_go(folder: Path) -> None:
    damage(folder, f"update rows set kind = {NO_UTF8} where seq = 2")
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert [row.kind for row in outbox.read_after(*EVERYTHING)] == [RECORD, "\ufffdA", RECORD]
        outbox._shed(1 << 20)
        rows = outbox.read_after(*EVERYTHING)
        assert [row.kind for row in rows] == [LOST]
        assert msgspec.msgpack.decode(rows[0].body)["n"] == 3


@pytest.mark.parametrize("value", [NO_UTF8, "'/' || substr(v, 2)"])
def test_a_stream_id_that_no_collector_takes_is_replaced_and_the_rows_stay(
    folder: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(opening, "say", lambda event, **values: said.append(f"{event}: {values['why']}"))
    damage(folder, f"update meta set v = {value} where k = 'stream'")
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert len(outbox.read_after(*EVERYTHING)) == 3
        assert outbox.stream.isalnum()
        assert (folder / "outbox.stream").read_text().strip() == outbox.stream
    assert said == ["outbox.replaced: its stream id is damaged"]


def test_numbers_that_are_no_numbers_hold_up_no_start(folder: Path) -> None:
    damage(folder, f"update meta set v = {NO_UTF8} where k = 'unmet'")
    damage(folder, f"update sqlite_sequence set seq = {NO_UTF8}")
    with contextlib.closing(Outbox(folder, 16)) as outbox:
        assert len(outbox.read_after(*EVERYTHING)) == 3
