"""The durable queue to the datacenter: one writer thread, one transaction per batch, a hard cap on its size.

Nobody waits for it: `put_record` and `put_picture` only queue. At the cap, pictures of PASS go first, then pictures of NG,
then records, oldest first; losses become rows, one for each kind and cause, and are shipped
like any other.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from edge_agent import shipping
from edge_agent.errors import OUT_OF_MEMORY, DeliveryError
from edge_agent.events import say
from edge_agent.handoff import Refusing
from edge_agent.pulse import Pulse
from edge_agent.uplink.losses import GivenUp, Losses, declare
from edge_agent.uplink.mark import Mark, MarkFile
from edge_agent.uplink.opening import note_beside, open_outbox, remedy_of
from edge_agent.uplink.rows import (
    HIGHEST,
    delete_row,
    first_of,
    forget_upto,
    insert_picture,
    insert_plain,
    loss_of,
    read_rows,
    sent_upto,
)
from edge_agent.uplink.schema import (
    PAGE_BYTES,
    PICTURE,
    RECORD,
    RECORD_PRIORITY,
    Put,
    Row,
    open_reader,
    transaction,
)
from edge_agent.uplink.shedding import Shedder

_QUEUE_LIMIT, MOST_BATCH = 12_288, 256
_MOST_QUEUED_BYTES = 64 << 20  # of pictures that wait for the disk in memory
_IDLE_S, _RETRY_S = 0.2, 0.5
_NO_MEMORY = (MemoryError, apsw.NoMemError)
_CLOSES_S = 18.0  # three commits on a disk whose flush takes 6 s
_DISK_S = 60.0  # one commit may take so long on a disk that ails: nobody waits for it
_FILE = "outbox.db"
_GATHER_S = 0.02  # what comes first waits so long for company: one transaction and one fsync for many parts
_LOOK_EVERY_ROWS = 256  # how often the size is looked at
_MOST_BYTES = shipping.MOST_MESSAGE_BYTES - (1 << 20)  # a larger row could never be shipped and would hold up the rest


_Item = Put | Callable[[], None]  # a call is made on the writer thread, when what came with it is committed


@dataclass(slots=True)
class OutboxStats:
    """Counters of this run, and what waits now. `oldest_us` is the UTC time of the oldest row, 0 where none waits."""

    committed: int = 0
    acknowledged: int = 0
    records_committed: int = 0
    records_acknowledged: int = 0
    records_lost: int = 0
    pictures_lost: int = 0
    writer_failures: int = 0
    waiting_rows: int = 0
    waiting_bytes: int = 0
    oldest_us: int = 0


class Outbox:
    """Owns the database file. `put_*`, `acknowledge` from any thread; `read_after` from the sender's thread alone."""

    def __init__(
        self,
        folder: Path,
        cap_mb: int,
        on_committed: Callable[[list[Any]], None] | None = None,
        queue_limit: int = _QUEUE_LIMIT,
        batch: int = MOST_BATCH,
        owner: str = "",
    ) -> None:
        """At most `queue_limit` rows wait, and `batch` more are on their way to the disk. `owner` is a station on its machine."""
        self.file = folder / _FILE
        self._on_committed = on_committed
        self._queue: Refusing[_Item] = Refusing(queue_limit)
        self._batch = batch
        self._losses = Losses()
        self._queued_bytes = 0
        self._bytes_lock = threading.Lock()
        self._reading = threading.Lock()  # over the rows that are read to be shipped: what a collector may have changes no more
        self._reader: apsw.Connection | None = None
        self._is_failing = False
        self._unlooked = self._acknowledged_upto = self._forgotten_upto = 0
        self._stop = threading.Event()
        self._until_s = math.inf  # a stop begins no commit after that
        self._given_up = GivenUp(self._losses)
        try:
            self._connection, self.stream, losses = open_outbox(self.file, cap_mb, owner)
            self._mark = MarkFile(self.file)
            self._shedder = Shedder(self._connection, self.file, cap_mb)
            self._opened_at = first_of(self._connection, HIGHEST)  # rows up to here are an earlier run's
            self.known_upto = sent_upto(self._connection, self._opened_at)
            self._stats = OutboxStats(waiting_rows=first_of(self._connection, "select count(*) from rows"))
            self._count_declared(losses)
            self._look()
        except (apsw.Error, OSError) as error:
            raise DeliveryError(f"{self.file} cannot be opened: {error}. {remedy_of(error)}") from None
        self.thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self.pulse = Pulse(self.thread.name)
        self.thread.start()

    # --- any thread -----------------------------------------------------------------------------------------------
    def put_record(self, body: bytes, token: Any = None) -> bool:
        """Queue a record; its `token` is handed back after the commit. False where the queue is full: the loss will be declared."""
        return self._offer(Put(RECORD, RECORD_PRIORITY, body, b"", token))

    def put_picture(self, note: bytes, data: bytes, priority: int) -> bool:
        """Queue a picture with its note, like a record; refused early, so that records still find room and memory its end."""
        is_crowded = self._queued_bytes + len(data) > _MOST_QUEUED_BYTES or len(self._queue) > self._queue.limit // 2
        if is_crowded or not self._offer(Put(PICTURE, priority, note, data, None)):
            if is_crowded:
                self._losses.add(PICTURE)
            return False
        with self._bytes_lock:
            self._queued_bytes += len(data)
        return True

    def _offer(self, put: Put) -> bool:
        if len(put.body) + len(put.data) <= _MOST_BYTES and self._queue.offer(put):
            return True
        self._losses.add(put.kind, tokens=[put.token])
        return False

    def declare_lost(self, kind: str, n: int = 1) -> None:
        """Declare something lost that never reached the queue, or is not in it any more."""
        self._losses.add(kind, n)

    def acknowledge(self, upto: int) -> None:
        """Forget everything up to a shipping number: the collector has it durably."""
        self._acknowledged_upto = max(self._acknowledged_upto, upto)
        self._queue.force(_wake)

    def begin_stream(self, why: str, timeout_s: float) -> bool:
        """Ship what waits under a new stream id; False where the disk did not take it within the timeout."""
        done = threading.Event()
        self._queue.force(partial(self._begin_stream, why, done))
        return done.wait(timeout_s)

    def stats(self) -> OutboxStats:
        return self._stats

    def waiting(self) -> int:
        """Return how many rows are not acknowledged yet, those still queued included."""
        return len(self._queue) + self._stats.waiting_rows

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued so far is committed; False after the timeout."""
        done = threading.Event()
        self._queue.force(done.set)
        return done.wait(timeout_s)

    def close(self, drain_s: float = 0, patience_s: float = _CLOSES_S) -> None:
        """Commit what is queued and close, within `drain_s` and `patience_s`, of which the last two thirds are for the commit under
        way and one that declares. What a slow or full disk has not taken by then is declared lost, but for records with a token:
        those stay where that is from."""
        self.flush(drain_s)
        self._until_s = time.monotonic() + patience_s / 3
        self._stop.set()
        self._queue.force(_wake)
        self.thread.join(patience_s)
        is_stuck = self.thread.is_alive()
        if why := self._given_up.told(len(self._queue), is_stuck):
            say("station.given_up", what="outbox", why=why)
        if not is_stuck:
            self._close_files()

    def _close_files(self) -> None:
        if time.monotonic() >= self._until_s:  # the next start reads the WAL: to empty it takes this disk two flushes
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if self._reader is not None:
            self._reader.close()
        with contextlib.suppress(apsw.Error):
            self._connection.execute("pragma journal_size_limit=0")  # what the database has by now, its WAL need not keep
        self._connection.close()
        self._mark.close()

    # --- the sender's thread --------------------------------------------------------------------------------------
    def read_after(self, seq: int, most_rows: int, most_bytes: int) -> list[Row]:
        """Return the next rows to ship, at least one if there is one, at most so many rows and about so many bytes.

        A row that no longer has its CRC-32 is left out; the writer removes it and declares it lost."""
        if self._reader is None:
            self._reader = open_reader(self.file)
        with self._reading:
            rows, damaged = read_rows(self._reader, seq, most_rows, most_bytes)
            if rows:
                self.known_upto = max(self.known_upto, rows[-1].seq)
        for row in damaged:
            self._queue.force(partial(self._remove_damaged, row))
        return rows

    # --- the writer thread ----------------------------------------------------------------------------------------
    def _run(self) -> None:
        while not (self._stop.is_set() and (self._is_over() or not len(self._queue))):
            self.pulse.beat(_DISK_S)
            batch = self._queue.take(_IDLE_S, self._batch)
            if 0 < len(batch) < self._batch and all(isinstance(item, Put) for item in batch):
                self._stop.wait(_GATHER_S)
                batch += self._queue.take(0, self._batch - len(batch))
            if batch or self._losses.counts:
                self._write(batch)
        self._given_up.add(item for item in self._queue.take(0, len(self._queue)) if isinstance(item, Put))
        if self._losses.counts:
            self._try_commit([])
        self.pulse.rest()

    def _is_over(self) -> bool:
        """True where a stop has no time left to begin a commit but one that declares."""
        return time.monotonic() >= self._until_s

    def _write(self, batch: list[_Item]) -> None:
        puts = [item for item in batch if isinstance(item, Put)]
        pictures_bytes = sum(len(put.data) for put in puts)
        for portion in self._shedder.portions(puts):
            self._write_portion(portion)
        with self._bytes_lock:
            self._queued_bytes -= pictures_bytes
        for item in batch:
            if not isinstance(item, Put):
                item()

    def _write_portion(self, puts: list[Put]) -> None:
        """Commit, however long the disk takes to have room; only a stop gives up."""
        while self._is_over() or not self._try_commit(puts):
            self.pulse.beat(_DISK_S)  # a full disk is no stall
            if self._stop.wait(_RETRY_S):
                self._given_up.add(puts)
                return

    def _try_commit(self, puts: list[Put]) -> bool:
        """Commit a batch; without room shed and try again, at last without the pictures. False where nothing helped."""
        why = ""
        for attempt in range(4):
            losses, lost = self._losses.take()
            try:
                if attempt or self._shedder.is_squeezed or not self._unlooked:
                    self._shedder.fit_to_disk()
                self._commit(puts, losses)
            except (apsw.Error, OSError, MemoryError) as error:
                why = str(error) or OUT_OF_MEMORY
                self._stats.writer_failures += 1
                for kind, n in losses.items():
                    self._losses.add(kind, n)
                self._losses.add(RECORD, 0, lost)
                with contextlib.suppress(apsw.Error, OSError):
                    self._make_room(error, puts, attempt)
                continue
            self._after_commit(puts, lost)
            return True
        if not self._is_failing:
            self._is_failing = True
            say("outbox.failed", file=str(self.file), why=why)
        return False

    def _commit(self, puts: list[Put], losses: dict[str, int]) -> None:
        """Make a batch durable. Counters move after the commit alone: a batch may need several attempts."""
        connection, upto = self._connection, self._acknowledged_upto
        declared = [loss_of(kind, n, why="refused") for kind, n in losses.items() if n]
        with self._reading if declared else contextlib.nullcontext(), transaction(connection):
            forgotten = forget_upto(connection, upto, self._opened_at) if upto > self._forgotten_upto else (0, 0)
            insert_plain(connection, [(put.kind, put.priority, put.body) for put in puts if not put.data])
            for put in [put for put in puts if put.data]:
                insert_picture(connection, put.kind, put.priority, put.body, put.data)
            rows = declare(connection, declared, self.known_upto) if declared else 0
        self._forgotten_upto = max(self._forgotten_upto, upto)
        self._mark.write(Mark(self.stream, first_of(connection, HIGHEST), self._forgotten_upto))
        self._stats.acknowledged += forgotten[0]
        self._stats.records_acknowledged += forgotten[1]
        self._stats.waiting_rows += len(puts) + rows - forgotten[0]
        self._count_declared(declared)

    def _after_commit(self, puts: list[Put], lost: list[Any]) -> None:
        if self._is_failing:
            self._is_failing = False
            say("outbox.recovered", file=str(self.file))
        self._stats.committed += len(puts)
        self._stats.records_committed += sum(put.kind == RECORD for put in puts)
        if self._on_committed is not None and (tokens := [*(put.token for put in puts if put.token is not None), *lost]):
            self._on_committed(tokens)
        self._unlooked += len(puts) + sum(len(put.data) for put in puts) // PAGE_BYTES
        with contextlib.suppress(apsw.Error):
            self._look()

    def _look(self) -> None:
        """See how old and, from time to time, how large the outbox is; near its cap let something go."""
        self._stats.oldest_us = first_of(self._connection, "select coalesce((select time_us from rows order by seq limit 1), 0)")
        if self._unlooked >= _LOOK_EVERY_ROWS or not self._stats.waiting_rows or not self._stats.waiting_bytes:
            self._unlooked = 0
            self._stats.waiting_bytes = self._shedder.used_bytes() if self._stats.waiting_rows else 0
            if self._shedder.is_near_cap():
                self._shed(self._shedder.portion_bytes)

    def _make_room(self, error: Exception, puts: list[Put], attempt: int) -> None:
        if isinstance(error, (apsw.FullError, apsw.IOError)):
            self._shedder.free_ballast()
            self._shedder.fit_to_disk()
        if isinstance(error, apsw.FullError):
            self._shed_for(puts, attempt)
        if attempt >= 2 and isinstance(error, (apsw.FullError, *_NO_MEMORY)):
            for put in [put for put in puts if put.data]:
                puts.remove(put)
                self._losses.add(PICTURE)

    def _shed_for(self, puts: list[Put], attempt: int) -> None:
        wanted = 2 * sum(len(put.body) + len(put.data) for put in puts) + 64 * PAGE_BYTES
        room = (first_of(self._connection, "pragma max_page_count") - first_of(self._connection, "pragma page_count")) * PAGE_BYTES
        if attempt == 0 and room > wanted:
            return  # not our own limit: somebody filled the disk for a moment, and the ballast may be enough
        self._shed(max(self._shedder.portion_bytes, wanted))

    def _shed(self, wanted_bytes: int) -> None:
        """Free space. What the collector has goes first."""
        if self._acknowledged_upto > self._forgotten_upto:
            with contextlib.suppress(apsw.Error):
                self._commit([], {})
        else:
            self._let_go(lambda: self._shedder.shed(wanted_bytes))

    def _let_go(self, delete: Callable[[], Iterable[dict[str, Any]]]) -> None:
        """Delete and declare in one transaction; a disk that refuses even this is tried again with the next batch."""
        with contextlib.suppress(apsw.Error):
            with self._reading, transaction(self._connection):
                losses = list(delete())
                rows = declare(self._connection, losses, self.known_upto)
            self._stats.waiting_rows += rows - sum(int(loss["n"]) for loss in losses)
            self._count_declared(losses)

    def _remove_damaged(self, row: Row) -> None:
        """Remove a row that cannot be shipped; found twice it is declared once."""

        def delete() -> list[dict[str, Any]]:
            found = delete_row(self._connection, row.seq)
            return [loss_of(row.kind, 1, len(row.body) + len(row.data), "damaged", row.seq)] if found else []

        self._let_go(delete)

    def _begin_stream(self, why: str, done: threading.Event) -> None:
        stream = uuid.uuid4().hex
        with contextlib.suppress(apsw.Error, OSError):
            self._connection.execute("update meta set v = ? where k = 'stream'", (stream,))
            self.stream = stream
            self._acknowledged_upto = self._forgotten_upto = 0
            say("outbox.replaced", file=str(self.file), why=why)
            note_beside(self.file, stream)
            done.set()

    def _count_declared(self, losses: list[dict[str, Any]]) -> None:
        """Count and say losses that are durably declared."""
        for loss in losses:
            self._stats.records_lost += int(loss["n"]) if loss["what"] == RECORD else 0
            self._stats.pictures_lost += int(loss["n"]) if loss["what"] == PICTURE else 0
            say("outbox.shed", **loss)


def _wake() -> None:
    """Queued, it has the writer look: at what was acknowledged, or whether it is to stop."""


def count_records(folder: Path) -> int:
    """Return how many records wait in a closed outbox."""
    with contextlib.closing(open_reader(folder / _FILE)) as reader:
        return int(reader.execute("select count(*) from rows where kind = 'record'").get)
