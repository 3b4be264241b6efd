"""The durable queue to the datacenter: one writer thread, one transaction per batch, a hard cap on its size.

Nobody waits for it: `put_record` and `put_picture` only queue. At the cap, pictures of PASS go first, then pictures of NG,
then records, oldest first; each loss becomes a row of its own and is shipped like any other.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from edge_agent.events import say
from edge_agent.handoff import Refusing
from edge_agent.uplink.schema import LOST, PAGE_BYTES, PICTURE, RECORD, Row, open_outbox, open_reader, transaction
from edge_agent.uplink.shedding import Shedder

_QUEUE_LIMIT = 16_384
_BATCH = 256
_IDLE_S = 0.2
_RETRY_S = 0.5
_FILE = "outbox.db"
_GATHER_S = 0.004  # under load a commit waits this long for company: one fsync for many parts
_GATHER_ABOVE = 4
_LOOK_EVERY_ROWS = 256  # how often the size is looked at
_WAITING = "select coalesce((select max(seq) from rows) - (select min(seq) from rows) + 1, 0)"
_PORTIONS = (64, 16, 4, 1)
LOST_PRIORITY = 3


@dataclass(slots=True)
class Put:
    """One row on its way to the writer. `token` is handed back after the commit."""

    kind: str
    priority: int
    body: bytes
    data: bytes
    token: Any


@dataclass(slots=True)
class OutboxStats:
    """Counters since the start, and what waits now."""

    committed: int = 0
    acknowledged: int = 0
    records_committed: int = 0
    records_acknowledged: int = 0
    records_lost: int = 0
    pictures_lost: int = 0
    writer_failures: int = 0


@dataclass(slots=True)
class _Losses:
    """Losses not yet in the ledger, by kind."""

    counts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, n: int = 1) -> None:
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + n

    def take(self) -> dict[str, int]:
        with self.lock:
            counts, self.counts = self.counts, {}
        return counts


class Outbox:
    """Owns the database file. `put_*`, `acknowledge` from any thread; `read_after` from the sender's thread alone."""

    def __init__(
        self,
        folder: Path,
        cap_mb: int,
        on_committed: Callable[[list[Any]], None] | None = None,
    ) -> None:
        self.file = folder / _FILE
        self._connection, self.stream = open_outbox(self.file, cap_mb)
        self._shedder = Shedder(self._connection, self.file, cap_mb)
        self._reader: apsw.Connection | None = None
        self._on_committed = on_committed
        self._queue: Refusing[Put | int | threading.Event] = Refusing(_QUEUE_LIMIT)
        self._losses = _Losses()
        self._stats = OutboxStats()
        self._is_failing = False
        self._unlooked = 0
        self._rows = self._count_rows()
        self._stop = threading.Event()
        self.committed_event = threading.Event()  # set after each commit, for whoever ships
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    # --- any thread -----------------------------------------------------------------------------------------------
    def put_record(self, body: bytes, priority: int, token: Any = None) -> bool:
        """Queue a record. False where the queue is full: the loss is counted and will be declared."""
        if self._queue.offer(Put(RECORD, priority, body, b"", token)):
            return True
        self._losses.add(RECORD)
        return False

    def put_picture(self, note: bytes, data: bytes, priority: int) -> bool:
        """Queue a picture with its note, like a record."""
        if self._queue.offer(Put(PICTURE, priority, note, data, None)):
            return True
        self._losses.add(PICTURE)
        return False

    def declare_lost(self, kind: str) -> None:
        """Declare something lost that never reached the queue."""
        self._losses.add(kind)

    def acknowledge(self, upto: int) -> None:
        """Forget everything up to a shipping number: the collector has it durably."""
        self._queue.force(upto)

    def stats(self) -> OutboxStats:
        return self._stats

    def waiting(self) -> int:
        """Return how many rows are not acknowledged yet, those still queued included."""
        return len(self._queue) + self._rows

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued so far is committed; False after the timeout."""
        done = threading.Event()
        self._queue.force(done)
        return done.wait(timeout_s)

    def close(self) -> None:
        """Commit what is queued, as far as the disk takes it, and close."""
        self._stop.set()
        self._queue.force(threading.Event())
        self._thread.join()
        if self._reader is not None:
            self._reader.close()
        self._connection.close()

    # --- the sender's thread --------------------------------------------------------------------------------------
    def read_after(self, seq: int, most_rows: int, most_bytes: int) -> list[Row]:
        """Return the next rows to ship, at least one if there is one, at most so many rows and about so many bytes."""
        if self._reader is None:
            self._reader = open_reader(self.file)
        rows: list[Row] = []
        size = 0
        query = (
            "select r.seq, r.kind, r.body, p.data, r.crc from rows r left join pictures p using(seq) "
            "where r.seq > ? order by r.seq limit ?"
        )
        for number, kind, body, data, crc in self._reader.execute(query, (seq, most_rows)):
            rows.append(Row(number, kind, body, data or b"", crc))
            size += len(body) + len(data or b"")
            if size >= most_bytes:
                break
        return rows

    # --- the writer thread ----------------------------------------------------------------------------------------
    def _run(self) -> None:
        while not (self._stop.is_set() and not len(self._queue)):
            batch = self._queue.take(_IDLE_S, _BATCH)
            if batch or self._losses.counts:
                self._write(batch)
            if len(batch) > _GATHER_ABOVE:
                self._stop.wait(_GATHER_S)

    def _write(self, batch: list[Put | int | threading.Event]) -> None:
        puts = [item for item in batch if isinstance(item, Put)]
        upto = max((item for item in batch if isinstance(item, int)), default=0)
        for portion in self._portions(puts) or [[]]:
            self._write_portion(portion, upto)
            upto = 0
        for item in batch:
            if isinstance(item, threading.Event):
                item.set()

    def _portions(self, puts: list[Put]) -> list[list[Put]]:
        """Split a batch so that no transaction is larger than what shedding frees at a time."""
        portions: list[list[Put]] = []
        room = 0
        for put in puts:
            size = len(put.body) + len(put.data)
            if size > room or not portions:
                portions.append([])
                room = self._shedder.portion_bytes
            portions[-1].append(put)
            room -= size
        return portions

    def _write_portion(self, puts: list[Put], upto: int) -> None:
        """Commit, however long the disk takes to have room; only a stop gives up, and declares the loss if it still can."""
        while not self._try_commit(puts, upto):
            if self._stop.wait(_RETRY_S):
                self._losses.add(RECORD, sum(put.kind == RECORD for put in puts))
                self._losses.add(PICTURE, sum(put.kind == PICTURE for put in puts))
                return

    def _try_commit(self, puts: list[Put], upto: int) -> bool:
        """Commit a batch; on a full disk shed and try again, at last without the pictures. False where nothing helped."""
        for attempt in range(4):
            losses = self._losses.take()
            try:
                self._commit(puts, upto, losses)
            except apsw.Error as error:
                for kind, n in losses.items():
                    self._losses.add(kind, n)
                self._note_failure(error)
                self._make_room(error, puts, attempt)
                continue
            self._after_commit(puts)
            return True
        return False

    def _commit(self, puts: list[Put], upto: int, losses: dict[str, int]) -> None:
        connection, now_us = self._connection, time.time_ns() // 1000
        with transaction(connection):
            if upto:
                self._forget(upto)
            plain = [(p.kind, p.priority, now_us, p.body, zlib.crc32(p.body)) for p in puts if not p.data]
            self._insert_plain(plain)
            for put in puts:
                if put.data:
                    crc = zlib.crc32(put.data, zlib.crc32(put.body))
                    values = (put.kind, put.priority, now_us, put.body, crc)
                    connection.execute("insert into rows(kind, prio, time_us, body, crc) values(?, ?, ?, ?, ?)", values)
                    connection.execute("insert into pictures values(?, ?)", (connection.last_insert_rowid(), put.data))
            for kind, n in losses.items():
                self._declare({"what": kind, "n": n, "bytes": 0, "why": "refused", "first_seq": 0, "last_seq": 0})
                self._count_lost(kind, n)

    def _count_rows(self) -> int:
        found = self._connection.execute(_WAITING).fetchone()
        return int(found[0]) if found else 0

    def _insert_plain(self, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows many to a statement: apsw lets go of the interpreter once per statement, and asks for it back."""
        at = 0
        for size in _PORTIONS:
            while len(rows) - at >= size:
                values = [value for row in rows[at : at + size] for value in row]
                self._connection.execute(_insert_statement(size), values)
                at += size

    def _forget(self, upto: int) -> None:
        connection = self._connection
        records = connection.execute("select count(*) from rows where seq <= ? and kind = 'record'", (upto,)).fetchone()
        connection.execute("delete from pictures where seq <= ?", (upto,))
        connection.execute("delete from rows where seq <= ?", (upto,))
        self._stats.acknowledged += connection.changes()
        self._stats.records_acknowledged += int(records[0]) if records else 0

    def _after_commit(self, puts: list[Put]) -> None:
        if self._is_failing:
            self._is_failing = False
            say("outbox.recovered", file=str(self.file))
        self._rows = self._count_rows()
        self._stats.committed += len(puts)
        self._stats.records_committed += sum(put.kind == RECORD for put in puts)
        tokens = [put.token for put in puts if put.token is not None]
        if tokens and self._on_committed is not None:
            self._on_committed(tokens)
        self._unlooked += len(puts) + sum(len(put.data) for put in puts) // PAGE_BYTES
        if self._unlooked >= _LOOK_EVERY_ROWS:
            self._unlooked = 0
            self._look_at_size()
        self.committed_event.set()

    def _look_at_size(self) -> None:
        if self._shedder.is_near_cap():
            self._shed(self._shedder.portion_bytes)

    def _note_failure(self, error: apsw.Error) -> None:
        self._stats.writer_failures += 1
        if not self._is_failing:
            self._is_failing = True
            say("outbox.failed", file=str(self.file), why=str(error))

    def _make_room(self, error: apsw.Error, puts: list[Put], attempt: int) -> None:
        if isinstance(error, (apsw.FullError, apsw.IOError)):
            self._shedder.free_ballast()
            wanted = 2 * sum(len(put.body) + len(put.data) for put in puts) + 64 * PAGE_BYTES
            self._shed(max(self._shedder.portion_bytes, wanted))
        if attempt >= 1:
            for put in [put for put in puts if put.data]:
                puts.remove(put)
                self._losses.add(PICTURE)

    def _shed(self, wanted_bytes: int) -> None:
        """Free space; every loss becomes a row. A disk that refuses even this is tried again with the next batch."""
        try:
            with transaction(self._connection):
                for loss in self._shedder.shed(wanted_bytes):
                    self._declare(loss)
                    self._count_lost(str(loss["what"]), int(loss["n"]))
        except apsw.Error as error:
            self._note_failure(error)

    def _declare(self, loss: dict[str, Any]) -> None:
        body = msgspec.msgpack.encode(loss)
        values = (LOST, LOST_PRIORITY, time.time_ns() // 1000, body, zlib.crc32(body))
        self._connection.execute("insert into rows(kind, prio, time_us, body, crc) values(?, ?, ?, ?, ?)", values)
        say("outbox.shed", **loss)

    def _count_lost(self, kind: str, n: int) -> None:
        if kind == RECORD:
            self._stats.records_lost += n
        else:
            self._stats.pictures_lost += n


def _insert_statement(rows: int) -> str:
    return "insert into rows(kind, prio, time_us, body, crc) values" + ",".join(["(?, ?, ?, ?, ?)"] * rows)


def count_records(folder: Path) -> int:
    """Return how many records wait in a closed outbox."""
    reader = open_reader(folder / _FILE)
    try:
        found = reader.execute("select count(*) from rows where kind = 'record'").fetchone()
        return int(found[0]) if found else 0
    finally:
        reader.close()
