"""How the outbox's file is opened: whole, damaged, copied, or replaced while nobody looked. Its stream id is noted beside it."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from edge_agent.errors import remedy_within
from edge_agent.events import say
from edge_agent.uplink.losses import declare
from edge_agent.uplink.mark import read_mark
from edge_agent.uplink.rows import HIGHEST, first_of, loss_of
from edge_agent.uplink.salvage import finish, salvage
from edge_agent.uplink.schema import DAMAGE, NOTE, ROW, connect, lay_tables, transaction
from edge_agent.uplink.wal import take_the_end

_LAST = "select coalesce(max(seq), 0) from rows"
_STREAM = re.compile(r"[0-9a-f]{32}")


class Opened(NamedTuple):
    """The database, its stream id, and the losses declared in it because it was damaged."""

    connection: apsw.Connection
    stream: str
    losses: list[dict[str, Any]]


def open_outbox(file: Path, cap_mb: int, owner: str = "") -> Opened:
    """Open or make the database. What can be read of a damaged one goes on under a new stream; so does one that came from another
    `owner`, with a copied disk, or two stations would number rows of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    finish(file)
    noted, losses = _stream_beside(file), []
    try:
        connection = connect(file)
        take_the_end(connection, file)
        lay_tables(connection, cap_mb)
        stream = _stream_in(connection, file, noted)
        losses = _declare_cut_off(connection, file, noted)
    except DAMAGE as error:
        say("outbox.replaced", file=str(file), why=str(error))
        losses = salvage(file, cap_mb)
        connection, stream = lay_tables(connect(file), cap_mb), None
        say("outbox.salvaged", file=str(file), rows=first_of(connection, "select count(*) from rows"))
    stream = _stream_of(owner, connection, file, stream)
    if stream != noted:
        note_beside(file, stream)
    return Opened(connection, stream, losses)


def _declare_cut_off(connection: apsw.Connection, file: Path, noted: str) -> list[dict[str, Any]]:
    """Declare the rows that were durable once and are not in the database, by the mark beside it, but for those acknowledged.

    Their numbers are not given again."""
    mark = read_mark(file)
    n = mark.highest - max(first_of(connection, HIGHEST), first_of(connection, _LAST), mark.acknowledged)
    if mark.stream != noted or n <= 0:
        return []
    say("outbox.cut_off", file=str(file), rows=n)
    losses = [loss_of(ROW, n, why="cut off")]
    with transaction(connection):
        connection.execute("delete from sqlite_sequence")
        connection.execute("insert into sqlite_sequence values('rows', ?)", (mark.highest,))
        declare(connection, losses, mark.highest)
    return losses


def _stream_in(connection: apsw.Connection, file: Path, noted: str) -> str | None:
    """The database's stream id, None where it has none that can be used; says what is wrong with it beside the one `noted`."""
    stream, why = _meta(connection, "stream"), ""
    if stream is not None and not _STREAM.fullmatch(stream):  # a collector refuses a name like that
        stream, why = None, "its stream id is damaged"
    elif noted and stream is None:
        why = "it was empty although a stream had begun"
    elif noted and stream != noted:
        why = "its stream id is not the one noted beside it"
    if why:
        say("outbox.replaced", file=str(file), why=why)
    return stream


def _stream_of(owner: str, connection: apsw.Connection, file: Path, stream: str | None) -> str:
    """The stream id by which this owner goes on: a new one without a `stream`, or with another owner's. Both are stored."""
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
    return stream


def _meta(connection: apsw.Connection, key: str) -> str | None:
    found = connection.execute("select cast(v as blob) from meta where k=?", (key,)).fetchone()
    return bytes(found[0]).decode(errors="replace") if found and found[0] is not None else None


def _stream_beside(file: Path) -> str:
    try:
        return file.with_suffix(NOTE).read_text(errors="replace").strip()
    except OSError:
        return ""


def note_beside(file: Path, stream: str) -> None:
    """Write the stream id next to the database, atomically: a truncated database opens as an empty one without an error."""
    note, fresh = file.with_suffix(NOTE), file.with_suffix(f"{NOTE}.new")
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
