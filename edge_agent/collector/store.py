"""The datacenter's memory: records, pictures, declared losses. Every row may come any number of times.

SQLite in a folder by default, PostgreSQL by its URL; one code path.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
import sqlalchemy as sa

from edge_agent.collector import tables
from edge_agent.collector.pictures import PictureFolder
from edge_agent.errors import UNREADABLE, DeliveryError
from edge_agent.events import say
from edge_agent.records import OUTCOMES, Pixels
from edge_agent.wire import PictureNote, Verdict, read_verdict_json

_NOTE = msgspec.msgpack.Decoder(PictureNote)
_KEY = ("station", "line", "epoch", "seq")
_SAME = ("outcome", "part_id", "trigger_time_us")  # what a part that comes again has again; another station of its name has not
_MOST_EPOCH = 1 << 40


@dataclass(frozen=True, slots=True)
class Arrived:
    """One row as it came over the link."""

    stream: str
    seq: int
    kind: str
    body: bytes
    data: bytes
    sender: str | None = None  # whose key it came with; None where nobody needs one


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a station could not keep: `n` of a kind, and why."""

    what: str
    n: int
    bytes: int = 0
    why: str = ""


_LOSS = msgspec.msgpack.Decoder(Loss)


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture in the store."""

    line: str
    epoch: int
    seq: int
    kind: str
    number: int
    path: str
    folder: PictureFolder

    def read(self) -> Pixels:
        """Return it as (rows, cols) uint8."""
        encoded = np.frombuffer(self.folder.read(self.path), np.uint8)
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


class Store:
    """One thread at a time. `commit` makes a batch durable or raises; nothing may be acknowledged before."""

    def __init__(self, engine: sa.Engine, folder: PictureFolder) -> None:
        self._engine = engine
        self._folder = folder
        self._has_tables = False
        self._lay_tables()

    def close(self) -> None:
        self._engine.dispose()

    def _lay_tables(self) -> None:
        """Make the tables that are missing: after a failure, too, since the database may be another one by then."""
        if not self._has_tables:
            tables.metadata.create_all(self._engine)
            self._has_tables = True

    def known(self, stream: str) -> tuple[str, int]:
        """Whose stream it is, and its last row that is stored; '' and 0 for a new one."""
        columns = tables.streams.c
        with self._opened_anew_after_failure():
            self._lay_tables()
            with self._engine.connect() as connection:
                found = connection.execute(sa.select(columns.station, columns.upto).where(columns.stream == stream)).first()
        return (str(found[0]), int(found[1])) if found else ("", 0)

    def commit(self, rows: list[Arrived], upto: dict[str, tuple[str, int]]) -> None:
        """Store rows and move each stream (its station, its last row) on, in one transaction.

        A row that cannot be read is kept whole in `refused`: it would be no better the next time."""
        with self._opened_anew_after_failure(), self._engine.begin() as connection:
            for row in rows:
                try:
                    self._keep(connection, row)
                except (DeliveryError, *UNREADABLE) as error:
                    self._refuse(connection, row, str(error))
            for stream, (station, last) in upto.items():
                moved = connection.execute(
                    tables.streams.update().where(tables.streams.c.stream == stream).values(station=station, upto=last)
                )
                if not moved.rowcount:
                    connection.execute(tables.streams.insert().values(stream=stream, station=station, upto=last))

    @contextmanager
    def _opened_anew_after_failure(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError):
            self._engine.dispose()  # SQLite keeps a file open that is gone, and for reading alone one that it once could not write
            self._has_tables = False
            raise

    def _keep(self, connection: sa.Connection, row: Arrived) -> None:
        match row.kind:
            case "record":
                verdict = read_verdict_json(row.body)
                _require_own(row, verdict.station)
                self._keep_record(connection, verdict, row.body)
            case "picture":
                note = _NOTE.decode(row.body)
                _require_own(row, note.station)
                self._keep_picture(connection, note, row.data)
            case "lost":
                loss = _LOSS.decode(row.body)
                values = {"stream": row.stream, "row": row.seq, **msgspec.structs.asdict(loss)}
                self._insert(connection, tables.losses, values)
            case _:
                raise DeliveryError(f"rows of kind {row.kind[:20]!r} are not known to this collector")

    def _refuse(self, connection: sa.Connection, row: Arrived, why: str) -> None:
        kind, reason = (text.replace("\0", "")[:200] for text in (row.kind, why))
        say("collector.refused", stream=row.stream, row=row.seq, kind=kind, why=reason)
        values = {"stream": row.stream, "row": row.seq, "kind": kind, "why": reason, "body": row.body, "data": row.data}
        self._insert(connection, tables.refused, values)

    def _keep_record(self, connection: sa.Connection, verdict: Verdict, body: bytes) -> None:
        if verdict.outcome not in OUTCOMES:
            raise DeliveryError(f"{verdict.outcome[:20]!r} is no outcome; there are {', '.join(OUTCOMES)}")
        key = {name: getattr(verdict, name) for name in _KEY}
        names = (
            "part_id",
            "outcome",
            "shadow",
            "trigger_time_us",
            "latency_ms",
            "recipe",
            "recipe_hash",
            "model_hash",
            "engine_id",
        )
        values = {name: getattr(verdict, name) for name in names}
        if self._insert(connection, tables.records, {**key, **values, "reasons": json.dumps(verdict.reasons), "body": body}):
            return
        table = tables.records
        columns = [table.c[name] for name in _SAME]
        known = connection.execute(sa.select(*columns).where(*(table.c[name] == key[name] for name in _KEY))).one()
        if known != tuple(values[name] for name in _SAME):
            say("collector.contradicted", **key, known=known.outcome, now=verdict.outcome)
            self._insert(connection, tables.contradictions, {**key, "outcome": verdict.outcome, "body": body})

    def _keep_picture(self, connection: sa.Connection, note: PictureNote, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != note.sha256:
            raise DeliveryError("the picture does not have the hash its note says")
        if not 0 <= note.epoch <= _MOST_EPOCH or note.seq < 0:
            raise DeliveryError(f"a picture of part {note.seq} in epoch {note.epoch} cannot be")
        path = self._folder.path_of(note)
        names = (*_KEY, "kind", "x", "y", "width", "height", "sha256")
        values = {**{name: getattr(note, name) for name in names}, "number": note.index, "path": path}
        _check(tables.pictures, values)
        if not self._is_known(connection, tables.pictures, values):  # the first one stays, file and row
            self._folder.write(path, data)
            self._insert(connection, tables.pictures, values)

    def _is_known(self, connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
        key = [column == values[column.name] for column in table.primary_key]
        return connection.execute(sa.select(sa.literal(1)).where(*key)).first() is not None

    def _insert(self, connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
        """Insert a row unless its key is there; True where it was new. Raises DeliveryError for what no column can hold."""
        _check(table, values)
        insert = INSERTS[self._engine.dialect.name](table).values(**values).on_conflict_do_nothing()
        return bool(connection.execute(insert).rowcount == 1)

    # --- for people ---------------------------------------------------------------------------------------------------
    def verdicts(self) -> Iterable[Verdict]:
        """Every record, by line, epoch and sequence."""
        table = tables.records
        query = sa.select(table.c.body).order_by(table.c.station, table.c.line, table.c.epoch, table.c.seq)
        with self._engine.connect() as connection:
            bodies = connection.execute(query).scalars().all()
        return [read_verdict_json(body) for body in bodies]

    def pictures(self) -> list[StoredPicture]:
        table = tables.pictures
        columns = (table.c.line, table.c.epoch, table.c.seq, table.c.kind, table.c.number, table.c.path)
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(*columns).order_by(table.c.epoch, table.c.seq)).all()
        return [StoredPicture(line, epoch, seq, kind, number, path, self._folder) for line, epoch, seq, kind, number, path in found]

    def count(self, table: str) -> int:
        """How many rows a table of the store has."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(tables.metadata.tables[table])).scalar() or 0)

    def lost(self, what: str) -> int:
        """How many of a kind (record, picture) the stations have declared lost."""
        table = tables.losses
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.sum(table.c.n)).where(table.c.what == what)).scalar() or 0)


def _require_own(row: Arrived, station: str) -> None:
    """Raise DeliveryError where a row is of another station than the one whose key it came with."""
    if row.sender not in (None, station):
        raise DeliveryError(f"a {row.kind} of station {station[:80]!r} came with the key of {row.sender!r}")


def _check(table: sa.Table, values: dict[str, Any]) -> None:
    """Raise DeliveryError for a value that the database would refuse: a row must not hold up those behind it."""
    for name, value in values.items():
        kind = table.c[name].type
        match value:
            case str():
                fits = "\0" not in value and len(value) <= (getattr(kind, "length", None) or len(value))
            case int():
                bits = 63 if isinstance(kind, sa.BigInteger) else 31
                fits = -(1 << bits) <= value < 1 << bits
            case float():
                fits = math.isfinite(value)
            case _:
                fits = True
        if not fits:
            raise DeliveryError(f"{table.name}.{name} cannot hold {str(value)[:80]!r}")


def cause(error: Exception) -> str:
    """What the database or the disk itself says, on one line: not the statement, nor where to read about SQLAlchemy."""
    own = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    primary = getattr(getattr(own, "diag", None), "message_primary", None)  # PostgreSQL's, without the place in the statement
    return " ".join(str(primary or own).split())


def _inserts() -> dict[str, Any]:
    from sqlalchemy.dialects.postgresql import insert as postgresql
    from sqlalchemy.dialects.sqlite import insert as sqlite

    return {"postgresql": postgresql, "sqlite": sqlite}


INSERTS = _inserts()
