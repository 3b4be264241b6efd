"""The outbox's tables and its connections. Pictures have a table of their own: deleting one frees its pages."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

RECORD, PICTURE, LOST = "record", "picture", "lost"
ROW = "row"  # in the ledger: a record or a picture, nobody knows any more
# A row's priority: at the cap the lowest go first; what was lost is never let go.
PASS_PRIORITY, NG_PRIORITY, RECORD_PRIORITY, LOST_PRIORITY = range(4)  # pictures of PASS, pictures of NG and FAULT, records, losses
DAMAGE = (apsw.CorruptError, apsw.NotADBError)
PAGE_BYTES = 4096
BALLAST, NOTE = ".ballast", ".stream"  # beside the file: room that is given back to a full disk, and the stream's id
_TABLES = """
create table if not exists meta(k text primary key, v) without rowid;
create table if not exists rows(seq integer primary key autoincrement, kind text not null, prio integer not null,
  time_us integer not null, body blob not null, crc integer not null);
create index if not exists rows_prio on rows(prio, seq);
create table if not exists pictures(seq integer primary key, data blob not null);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to ship. `crc` is CRC-32 over body and data."""

    seq: int
    kind: str
    body: bytes
    data: bytes
    crc: int


def connect(file: Path, cap_mb: int) -> apsw.Connection:
    """Open or make the database, with its tables. Raises what `DAMAGE` names where its pages are not in order."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(5000)
    is_kept = ctypes.c_int(1)  # the WAL's index outlives a stop: on a full disk a start would have no room for another
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(is_kept))
    connection.execute(f"pragma page_size={PAGE_BYTES}; pragma journal_mode=wal; pragma synchronous=full")
    connection.execute("pragma wal_autocheckpoint=1000; pragma journal_size_limit=16777216; pragma cache_size=-4096")
    if next(iter(connection.execute("pragma quick_check(1)")))[0] != "ok":
        connection.close()
        raise apsw.CorruptError("quick_check found damage")
    connection.execute(_TABLES)
    connection.execute(f"pragma max_page_count={cap_mb * (1 << 20) // PAGE_BYTES}")
    return connection


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All or nothing. apsw's own `with connection` holds the interpreter lock through the commit's fsync; this does not."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def open_reader(file: Path) -> apsw.Connection:
    """A second connection that only reads; for the sender's thread."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    return connection
