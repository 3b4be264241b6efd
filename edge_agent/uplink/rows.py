"""The statements the outbox runs on its tables. Each takes the connection; none begins a transaction or counts anything."""

from __future__ import annotations

import contextlib
import time
import zlib
from typing import Any

import apsw

from edge_agent import shipping
from edge_agent.uplink.schema import RECORD, Row

HIGHEST = "select coalesce(cast(max(seq) as integer), 0) from sqlite_sequence"  # also of rows that are gone
_PORTIONS = (64, 16, 4, 1)
_INSERT = "insert into rows(kind, prio, time_us, body, crc) values"
_NEXT = (  # by type, since a flipped bit makes text of bytes, or of a number, and no UTF-8
    "select r.seq, cast(r.kind as blob), cast(r.body as blob), cast(p.data as blob), cast(r.crc as integer) "
    "from rows r left join pictures p using(seq) where r.seq > ? order by r.seq limit ?"
)


def first_of(connection: apsw.Connection, query: str) -> int:
    """The one number that a query gives."""
    return int(connection.execute(query).get)


def sent_upto(connection: apsw.Connection, highest: int) -> int:
    """The highest row that a collector can have, where `highest` is the last one at a start: that of the first start since one
    answered. An older copy of the file that comes back would else take rows which it wrote meanwhile for rows that were stored."""
    with contextlib.suppress(apsw.FullError):  # a full disk holds up no start
        connection.execute("insert or ignore into meta values('unmet', ?)", (highest,))
    return first_of(connection, f"select coalesce((select cast(v as integer) from meta where k = 'unmet'), {highest})")


def insert_plain(connection: apsw.Connection, kind_priority_body: list[tuple[str, int, bytes]]) -> None:
    """Insert rows many to a statement: apsw lets go of the interpreter once per statement, and asks for it back."""
    now_us, left = time.time_ns() // 1000, kind_priority_body
    while left:
        size = next(size for size in _PORTIONS if size <= len(left))
        values = [value for kind, prio, body in left[:size] for value in (kind, prio, now_us, body, zlib.crc32(body))]
        connection.execute(_INSERT + ",".join(["(?, ?, ?, ?, ?)"] * size), values)
        left = left[size:]


def insert_picture(connection: apsw.Connection, kind: str, priority: int, note: bytes, data: bytes) -> None:
    """Insert one picture: its note as a row, its bytes in their own table."""
    values = (kind, priority, time.time_ns() // 1000, note, shipping.crc_of(note, data))
    connection.execute(_INSERT + "(?, ?, ?, ?, ?)", values)
    connection.execute("insert into pictures values(?, ?)", (connection.last_insert_rowid(), data))


def loss_of(what: str, n: int, size: int = 0, why: str = "", seq: int = 0) -> dict[str, Any]:
    """What is declared of `n` rows of a kind that were let go."""
    return {"what": what, "n": n, "bytes": size, "why": why, "first_seq": seq, "last_seq": seq}


def forget_upto(connection: apsw.Connection, upto: int, since: int) -> tuple[int, int]:
    """Delete what the collector has, which has answered thereby; return how many rows that were, and how many of them records
    after `since`."""
    records = first_of(connection, f"select count(*) from rows where seq > {since} and seq <= {upto} and kind = '{RECORD}'")
    connection.execute("delete from pictures where seq <= ?", (upto,))
    connection.execute("delete from meta where k = 'unmet'")
    connection.execute("delete from rows where seq <= ?", (upto,))
    return connection.changes(), records


def delete_row(connection: apsw.Connection, seq: int) -> int:
    """Delete one row and its picture; return how many rows that were."""
    connection.execute("delete from pictures where seq = ?", (seq,))
    connection.execute("delete from rows where seq = ?", (seq,))
    return connection.changes()


def read_rows(reader: apsw.Connection, after: int, most_rows: int, most_bytes: int) -> tuple[list[Row], list[Row]]:
    """Rows in order after a number, at most so many and about so many bytes: those to ship, and those no longer what they were."""
    rows: list[Row] = []
    damaged: list[Row] = []
    size = 0
    for number, kind, body, data, crc in reader.execute(_NEXT, (after, most_rows)):
        row = Row(number, (kind or b"").decode(errors="replace"), body or b"", data or b"", crc)
        if shipping.crc_of(row.body, row.data) != crc:
            damaged.append(row)
            continue
        rows.append(row)
        size += len(row.body) + len(row.data)
        if size >= most_bytes:
            break
    return rows, damaged
