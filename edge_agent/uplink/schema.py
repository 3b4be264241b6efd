"""The outbox's tables and its connections. Pictures have a table of their own: deleting one frees its pages."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

RECORD, PICTURE, LOST = "record", "picture", "lost"
ROW = "row"  # in the ledger: a record or a picture, nobody knows any more
# A row's priority: at the cap the lowest go first; what was lost is never let go.
PASS_PRIORITY, NG_PRIORITY, RECORD_PRIORITY, LOST_PRIORITY = range(4)  # pictures of PASS, pictures of NG and FAULT, records, losses
DAMAGE = (apsw.CorruptError, apsw.NotADBError)
PAGE_BYTES = 4096
BALLAST, NOTE = ".ballast", ".stream"  # beside the file: room that is given back to a full disk, and the stream's id
_PRAGMAS: dict[str, str | int] = {
    "page_size": PAGE_BYTES,
    "journal_mode": "wal",
    "synchronous": "full",
    "wal_autocheckpoint": 1000,
    "journal_size_limit": 16 << 20,
    "cache_size": -4096,
}
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


class Put(msgspec.Struct):
    """One row on its way to the writer. `token` is handed back after the commit."""

    kind: str
    priority: int
    body: bytes
    data: bytes
    token: Any


def pages_within(cap_mb: int, share: float = 1.0) -> int:
    """How many pages the database may have, or `share` of them."""
    return int(share * (cap_mb << 20)) // PAGE_BYTES


def beside(file: Path, suffix: str) -> Path:
    """The file of a longer name: a database's WAL, and what stands in for the database, or was it, have one."""
    return file.with_name(file.name + suffix)


def free_bytes(file: Path) -> int:
    """What the disk of the file has left. Raises OSError."""
    disk = os.statvfs(file.parent)
    return disk.f_bavail * disk.f_frsize


def connect(file: Path) -> apsw.Connection:
    """Open or make the database, and read its write-ahead log."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(5000)
    is_kept = ctypes.c_int(1)  # the WAL's index outlives a stop: on a full disk a start would have no room for another
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(is_kept))
    for name, value in _PRAGMAS.items():  # one by one: of several in a text, those behind the first that answers are not run
        connection.pragma(name, value)
    return connection


def lay_tables(connection: apsw.Connection, cap_mb: int) -> apsw.Connection:
    """Make the tables that are missing, and limit the file. Raises CorruptError, and closes, where its pages are not in order."""
    if next(iter(connection.execute("pragma quick_check(1)")))[0] != "ok":
        connection.close()
        raise apsw.CorruptError("quick_check found damage")
    connection.execute(_TABLES)
    connection.pragma("max_page_count", pages_within(cap_mb))
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
