"""The outbox's tables and how its file is opened. Pictures have a table of their own: deleting one frees its pages."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from edge_agent.errors import remedy_within
from edge_agent.events import say

RECORD, PICTURE, LOST = "record", "picture", "lost"
PAGE_BYTES = 4096
_STREAM = re.compile(r"[0-9a-f]{32}")
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


def open_outbox(file: Path, cap_mb: int, owner: str = "") -> tuple[apsw.Connection, str]:
    """Open or make the database; return it with its stream id. A damaged one is put aside and a new stream begins; one that came
    from another `owner`, with a copied disk, goes on under a new stream, or two stations would number rows of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    expected = _stream_beside(file)
    try:
        connection = _open(file, cap_mb)
        stream = _meta(connection, "stream")
        if stream is not None and not _STREAM.fullmatch(stream):  # a collector refuses a name like that
            say("outbox.replaced", file=str(file), why="its stream id is damaged")
            stream, expected = None, ""
        if expected and stream != expected and stream is not None:
            say("outbox.replaced", file=str(file), why="its stream id is not the one noted beside it")
        if expected and stream is None:
            say("outbox.replaced", file=str(file), why="it was empty although a stream had begun")
    except (apsw.CorruptError, apsw.NotADBError) as error:
        _put_aside(file)
        say("outbox.replaced", file=str(file), why=str(error))
        connection, stream = _open(file, cap_mb), None
    before = _meta(connection, "owner")
    if owner and stream is not None and before not in (None, owner):
        say("outbox.copied", file=str(file), made_by=before, owner=owner)
        stream = None
    if stream is None:
        stream = uuid.uuid4().hex
        with transaction(connection):
            connection.execute("insert or replace into meta values('stream', ?), ('owner', ?)", (stream, owner or None))
    elif owner and before != owner:
        with contextlib.suppress(apsw.FullError):  # a full disk holds up no start
            connection.execute("insert or replace into meta values('owner', ?)", (owner,))
    if stream != expected:
        note_beside(file, stream)
    return connection, stream


def _open(file: Path, cap_mb: int) -> apsw.Connection:
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


def _meta(connection: apsw.Connection, key: str) -> str | None:
    found = connection.execute("select cast(v as blob) from meta where k=?", (key,)).fetchone()
    return bytes(found[0]).decode(errors="replace") if found and found[0] is not None else None


def _stream_beside(file: Path) -> str:
    try:
        return file.with_suffix(".stream").read_text(errors="replace").strip()
    except OSError:
        return ""


def note_beside(file: Path, stream: str) -> None:
    """Write the stream id next to the database, atomically: a truncated database opens as an empty one without an error."""
    note, fresh = file.with_suffix(".stream"), file.with_suffix(".stream.new")
    with open(fresh, "w") as out:
        out.write(stream + "\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(note)


def remedy_of(error: apsw.Error | OSError) -> str:
    """What to do about a database that cannot be opened."""
    match error:
        case OSError():
            return remedy_within(error)
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            account = "Let the account that the daemon runs as write it, its -wal and -shm and their folder: chown"
            return f"{account}; move away what is no file."
        case apsw.SQLError():
            return "It is of another release, or of another program: move it away, and keep it."
        case _:
            return "Free space there, or mend the disk."


def _put_aside(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(file.with_name(f"{file.name}{suffix}.damaged-{time.time_ns()}"))
