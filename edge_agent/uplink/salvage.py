"""What a damaged outbox still gives: its rows are read one by one into a fresh file, past the pages that nobody can read.

The damaged file is kept beside it. Rows keep their numbers and go on under a new stream; the collector knows a part by its name.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from edge_agent import shipping
from edge_agent.notify import extend_timeout
from edge_agent.uplink.losses import declare
from edge_agent.uplink.rows import HIGHEST, first_of, loss_of
from edge_agent.uplink.schema import (
    BALLAST,
    NG_PRIORITY,
    NOTE,
    PAGE_BYTES,
    PASS_PRIORITY,
    PICTURE,
    RECORD,
    RECORD_PRIORITY,
    ROW,
    beside,
    connect,
    free_bytes,
    lay_tables,
    pages_within,
    transaction,
)

_Found = tuple[int, bytes | None, int, int, bytes | None, int]
_KINDS = {PASS_PRIORITY: PICTURE, NG_PRIORITY: PICTURE, RECORD_PRIORITY: RECORD}
_PRIORITY = f"coalesce(cast(prio as integer), {RECORD_PRIORITY})"
_ROWS = (
    f"select seq, cast(kind as blob), {_PRIORITY}, coalesce(cast(time_us as integer), 0), cast(body as blob), cast(crc as integer) "
    "from rows where seq > ? order by seq"
)
_DATA = "select cast(data as blob) from pictures where seq = ?"
_COUNTS = f"select {_PRIORITY}, count(*) from rows indexed by rows_prio group by 1"
_KEEP_ROW = "insert or ignore into rows(seq, kind, prio, time_us, body, crc) values(?, ?, ?, ?, ?, ?)"
_FURTHEST = 1 << 40  # no outbox comes to number its rows so high
_LEAST_ROW_BYTES = 64
_PAGES = slice(28, 32)  # of a database's header: how many pages it has
_PORTION_BYTES, _PORTION = 4 << 20, 16  # at most so many bytes, and one of so many parts of the room
_ROOM = 0.8  # of the cap, for what is saved
_RESERVE_BYTES = 3 * _PORTION_BYTES  # of the disk: a portion in the WAL and in the file, and what is declared
_PATIENCE_S = 120  # for the next portion


def salvage(file: Path, cap_mb: int) -> list[dict[str, Any]]:
    """Replace a damaged outbox by a fresh one with every row that can be read; return the losses that are declared in it.

    The damaged one becomes `*.damaged-<time>`. A power cut leaves the one or the other at its place, or `finish` to be called.
    Records go first: where the disk has no room for everything, pictures are what is missing."""
    fresh = beside(file, ".fresh")
    file.with_suffix(BALLAST).unlink(missing_ok=True)
    with contextlib.closing(lay_tables(connect(fresh), cap_mb)) as into:
        _make_readable(file, into, cap_mb)
        losses = _copy(file, into, cap_mb)
        into.execute("pragma journal_mode=delete")  # all of it in the one file that is moved
    _remove(fresh, "-wal", "-shm")
    file.with_suffix(NOTE).unlink(missing_ok=True)  # another stream begins
    fresh.replace(beside(file, ".whole"))
    finish(file)
    return losses


def finish(file: Path) -> None:
    """Bring what a salvage has finished to its place, and the damaged file out of it, its WAL first. Remove what one that was cut
    off has left: the next start may find the file in order."""
    _remove(beside(file, ".fresh"), "", "-wal", "-shm")
    whole = beside(file, ".whole")
    if not whole.exists():
        return
    aside = beside(file, f".damaged-{time.time_ns()}")
    _remove(file, "-shm")
    for suffix in ("-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            beside(file, suffix).rename(beside(aside, suffix))
    whole.rename(file)


def _copy(file: Path, into: apsw.Connection, cap_mb: int) -> list[dict[str, Any]]:
    """Copy what can be read and declare the rest: what the index names beyond it, or else what was passed over."""
    passed_over: Counter[str] = Counter()
    with contextlib.closing(_open_damaged(file)) as damaged:
        named = _counts(damaged)
        into.pragma("max_page_count", pages_within(cap_mb, _ROOM))
        with contextlib.suppress(apsw.FullError):
            for of_pictures in (False, True):
                passed_over += _copy_rows(damaged, into, of_pictures)
        into.pragma("max_page_count", pages_within(cap_mb))
    lost = passed_over
    if named is not None:
        missing = named - (_counts(into) or Counter())
        lost = Counter()
        for priority, n in missing.items():
            lost[_KINDS.get(priority, ROW)] += n
    losses = [loss_of(kind, min(n, file.stat().st_size // _LEAST_ROW_BYTES), why="damaged") for kind, n in lost.items()]
    with transaction(into):
        declare(into, losses, 0)
    return losses


def _copy_rows(damaged: apsw.Connection, into: apsw.Connection, of_pictures: bool) -> Counter[str]:
    """Copy either pictures or all else, in portions; return what was passed over, by kind. Raises FullError without room."""
    passed_over: Counter[str] = Counter()
    rows = _walk(damaged)
    portion_bytes = min(_PORTION_BYTES, first_of(into, "pragma max_page_count") * PAGE_BYTES // _PORTION)
    while True:
        extend_timeout(_PATIENCE_S)
        if free_bytes(Path(into.filename)) < _RESERVE_BYTES:
            raise apsw.FullError(f"{into.filename}: the disk is full")
        left = portion_bytes
        with transaction(into):
            for found in rows:
                if isinstance(found, range):
                    passed_over[ROW] += 0 if of_pictures else len(found)  # counted once
                elif (_KINDS.get(found[2]) == PICTURE) == of_pictures:
                    size = _keep(damaged, into, found)
                    left -= size
                    passed_over[_KINDS.get(found[2], ROW)] += not size
                if left <= 0:
                    break
            else:
                return passed_over


def _keep(damaged: apsw.Connection, into: apsw.Connection, row: _Found) -> int:
    """Copy one row with its picture, if they are what was once written; return its bytes, 0 where they are not."""
    seq, kind, priority, time_us, body, crc = row
    body, data = body or b"", b""
    with contextlib.suppress(apsw.Error):
        data = damaged.execute(_DATA, (seq,)).get or b""
    if not 0 < seq < _FURTHEST or shipping.crc_of(body, data) != crc:
        return 0
    into.execute(_KEEP_ROW, (seq, (kind or b"").decode(errors="replace"), priority, time_us, body, crc))
    if data and into.changes():
        into.execute("insert into pictures values(?, ?)", (seq, data))
    return len(body) + len(data)


def _walk(damaged: apsw.Connection) -> Iterator[_Found | range]:
    """Rows by their numbers, and in between the numbers behind which nothing could be read."""
    after, last = 0, _last(damaged)
    while after < last:
        try:
            for row in damaged.execute(_ROWS, (after,)):
                yield row
                after = row[0] if after < row[0] <= last else after + 1
            return
        except apsw.Error:
            beyond = _next_readable(damaged, after, last)
        yield range(after, beyond if beyond < _FURTHEST else after + 1)  # nobody knows how many
        after = beyond


def _last(damaged: apsw.Connection) -> int:
    """The highest number that was given, as far as that can be read."""
    with contextlib.suppress(apsw.Error):
        last = first_of(damaged, HIGHEST)
        return last if 0 < last < _FURTHEST else _FURTHEST
    return _FURTHEST


def _next_readable(damaged: apsw.Connection, after: int, last: int) -> int:
    """The least number behind which a row can be read again, at most the last one: by ever longer steps, and back by halves."""
    unreadable, step = after, 1
    while not _is_readable(damaged, min(unreadable + step, last)):
        unreadable += step
        step *= 2
        if unreadable >= last:
            return last
    readable = min(unreadable + step, last)
    while readable - unreadable > 1:
        middle = (readable + unreadable) // 2
        if _is_readable(damaged, middle):
            readable = middle
        else:
            unreadable = middle
    return readable


def _is_readable(damaged: apsw.Connection, after: int) -> bool:
    try:
        damaged.execute(_ROWS, (after,)).fetchone()
    except apsw.Error:
        return False
    return True


def _counts(connection: apsw.Connection) -> Counter[int] | None:
    """How many rows there are by priority, by the index alone; None where it cannot be read."""
    try:
        return Counter({int(priority): int(n) for priority, n in connection.execute(_COUNTS)})
    except apsw.Error:
        return None


def _open_damaged(file: Path) -> apsw.Connection:
    damaged = apsw.Connection(str(file))
    damaged.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # its WAL stays what it is
    return damaged


def _make_readable(file: Path, fresh: apsw.Connection, cap_mb: int) -> None:
    """Give a file that was cut short its length again, and one without a first page, which tells where its tables are, that of a
    fresh one: they are the same. SQLite reads nothing at all of such files."""
    with open(file, "r+b") as damaged_file:
        size = damaged_file.seek(0, os.SEEK_END)
        damaged_file.seek(0)
        was = int.from_bytes(damaged_file.read(_PAGES.stop)[_PAGES], "big") * PAGE_BYTES
        if size < was <= cap_mb << 20:
            size = damaged_file.truncate(was)
    if size < 2 * PAGE_BYTES or size % PAGE_BYTES:
        return  # no outbox
    with contextlib.suppress(apsw.Error), contextlib.closing(_open_damaged(file)) as damaged:
        damaged.execute("select 1 from rows, pictures limit 0")
        return
    fresh.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    page = bytearray(Path(fresh.filename).read_bytes()[:PAGE_BYTES])
    page[_PAGES] = (size // PAGE_BYTES).to_bytes(4, "big")
    with open(file, "r+b") as damaged_file:
        damaged_file.write(page)


def _remove(file: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        beside(file, suffix).unlink(missing_ok=True)
