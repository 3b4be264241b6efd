"""What an outbox declares lost, for months: few rows, the whole number, and no word changed of what a collector may have."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import apsw
import msgspec
import pytest

from edge_agent.uplink import losses as losses_module
from edge_agent.uplink.losses import declare
from edge_agent.uplink.opening import open_outbox
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.rows import insert_plain, loss_of, sent_upto
from edge_agent.uplink.schema import LOST, LOST_PRIORITY, RECORD, Row, transaction

EVERYTHING = (0, 1_000_000, 1 << 40)


def told(rows: list[Row]) -> Counter[str]:
    losses: Counter[str] = Counter()
    for row in rows:
        if row.kind == LOST:
            loss = msgspec.msgpack.decode(row.body)
            losses[loss["what"]] += loss["n"]
    return losses


def fill(outbox: Outbox, n: int) -> None:
    for _ in range(n):
        assert outbox.put_record(bytes(900))
    assert outbox.flush(10)


def test_declarations_do_not_crowd_out_what_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 1)
    for _ in range(60):
        fill(outbox, 250)
    rows = outbox.read_after(*EVERYTHING)
    kinds, stats = Counter(row.kind for row in rows), outbox.stats()
    assert stats.records_lost > 10_000
    assert kinds[LOST] == 1
    assert told(rows)[RECORD] == stats.records_lost == 15_000 - kinds[RECORD]
    assert stats.waiting_rows == len(rows)
    outbox.close()


def test_a_declaration_that_was_read_to_be_shipped_stays_as_it_is(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    outbox.declare_lost(RECORD)
    fill(outbox, 1)
    before = [row for row in outbox.read_after(*EVERYTHING) if row.kind == LOST]
    for _ in range(3):
        outbox.declare_lost(RECORD)
        fill(outbox, 1)
    after = [row for row in outbox.read_after(*EVERYTHING) if row.kind == LOST]
    assert after[:1] == before
    assert told(before)[RECORD] == 1
    assert (len(after), told(after)[RECORD]) == (2, 4)
    outbox.close()


def test_a_file_full_of_declarations_has_room_again(tmp_path: Path) -> None:
    connection = open_outbox(tmp_path / "outbox" / "outbox.db", 1).connection
    assert sent_upto(connection, 0) == 0  # the first start of all: no collector can have any row
    body = msgspec.msgpack.encode(loss_of(RECORD, 3, 2700, "cap"))
    standing = 0
    with contextlib.suppress(apsw.FullError):
        while True:
            with transaction(connection):
                insert_plain(connection, [(LOST, LOST_PRIORITY, body)] * 64)
            standing += 64
    connection.close()
    outbox = Outbox(tmp_path / "outbox", 1)
    fill(outbox, 600)
    rows = outbox.read_after(*EVERYTHING)
    assert Counter(row.kind for row in rows)[RECORD] == 600 - outbox.stats().records_lost > 500
    assert told(rows)[RECORD] == 3 * standing + outbox.stats().records_lost
    assert outbox.stats().waiting_rows == len(rows)
    outbox.close()


def test_a_row_declares_no_more_than_a_collector_can_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "_MOST", 10)
    connection = open_outbox(tmp_path / "outbox.db", 1).connection
    for n in (7, 3, 1, 8):
        declare(connection, [loss_of(RECORD, n, why="cap", seq=n), loss_of("picture", 1, why="cap")], 0)
    found = [msgspec.msgpack.decode(body) for (body,) in connection.execute("select body from rows order by seq")]
    assert [(loss["what"], loss["n"], loss["first_seq"], loss["last_seq"]) for loss in found] == [
        ("record", 10, 3, 7),
        ("picture", 4, 0, 0),
        ("record", 9, 1, 8),
    ]
    connection.close()
