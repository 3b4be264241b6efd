"""The datacenter's memory: every row any number of times, and no row, however wrong, holds up those behind it."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from postgres import Postgres
from stations import an_ordinary_user, open_folder

from edge_agent.collector.opening import open_store, shown
from edge_agent.collector.store import Arrived, Store
from edge_agent.errors import EXIT_CONFIGURATION, EXIT_FAILURE, ConfigurationError, EdgeAgentError
from edge_agent.wire import PictureNote, Verdict, verdict_json

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8)
DOCS = Path(__file__).parents[2] / "docs" / "collector.md"
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()


def verdict(seq: int, **other: Any) -> Verdict:
    values: dict[str, Any] = {
        "station": "s",
        "line": "l",
        "epoch": 7,
        "seq": seq,
        "part_id": str(seq),
        "outcome": "PASS",
        "reasons": (),
        "trigger_time_us": 1,
        "latency_ms": 1.0,
        "recipe": "r",
        "recipe_hash": "ab",
        "model_hash": "cd",
        "engine_id": "e",
        "blobs": (),
        "findings": (),
    }
    return Verdict(**{**values, **other})


def picture(row: int, data: bytes = PNG, **other: Any) -> Arrived:
    values: dict[str, Any] = {"station": "s", "line": "l", "epoch": 7, "seq": 1, "part_id": "../../etc/passwd", "outcome": "NG"}
    where = {"kind": "crop", "index": 0, "x": 0, "y": 0, "width": 8, "height": 6}
    note = PictureNote(**{**values, **where, "sha256": hashlib.sha256(data).hexdigest(), **other})
    return Arrived("stream", row, "picture", msgspec.msgpack.encode(note), data)


def record(row: int, seq: int, **other: Any) -> Arrived:
    return Arrived("stream", row, "record", verdict_json(verdict(seq, **other)), b"")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "crops" in path.parts]


Opener = Callable[[], Store]


@pytest.fixture(params=["folder", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store each time: in a folder, or in a PostgreSQL server's database."""
    if request.param == "folder":
        return lambda: open_store(str(tmp_path / "store"))
    address = request.getfixturevalue("postgres").address
    return lambda: open_store(address, crops=str(tmp_path / "store" / "crops"))


@pytest.fixture
def store(opener: Opener) -> Iterator[Store]:
    store = opener()
    yield store
    store.close()


def test_what_is_committed_is_there_after_a_restart(opener: Opener) -> None:
    store = opener()
    store.commit([record(n, n) for n in range(1, 6)] + [picture(6)], {"stream": ("s", 6)})
    store.close()
    again = opener()
    assert again.known("stream")[1] == 6
    assert again.known("another")[1] == 0
    assert [v.seq for v in again.verdicts()] == [1, 2, 3, 4, 5]
    assert (again.pictures()[0].read() == PIXELS).all()
    again.close()


def test_a_database_that_may_be_written_again_is_written() -> None:
    """One of root's, whom somebody made it as, is given to the account while the collector runs."""
    folder = open_folder()
    folder.chmod(0o777)
    open_store(str(folder / "first")).close()  # what it imports may be closed to nobody
    with an_ordinary_user():
        open_store(str(folder / "store")).close()
        database = folder / "store" / "collector.db"
        database.chmod(0o444)
        store = open_store(str(folder / "store"))
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            store.commit([record(1, 1)], {"stream": ("s", 1)})
        for file in database.parent.glob("collector.db*"):
            file.chmod(0o644)
        store.commit([record(1, 1)], {"stream": ("s", 1)})
        assert store.count("records") == 1
        store.close()
    shutil.rmtree(folder)


def test_tables_that_are_gone_are_made_again(postgres: Postgres, tmp_path: Path) -> None:
    """As where a database is dropped and created while the collector runs; it failed until a restart."""
    store = open_store(postgres.address, crops=str(tmp_path))
    postgres.empty()
    with pytest.raises(sa.exc.ProgrammingError):
        store.commit([record(1, 1)], {"stream": ("s", 1)})
    assert store.known("stream")[1] == 0
    store.commit([record(1, 1)], {"stream": ("s", 1)})
    assert store.count("records") == 1
    store.close()


def test_a_store_of_another_release_is_refused_at_the_start(tmp_path: Path) -> None:
    open_store(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "collector.db") as database:
        database.execute("alter table records drop column shadow")
    database.close()
    with pytest.raises(ConfigurationError, match=r"its table records has no shadow: .* Give another folder"):
        open_store(str(tmp_path))


def test_one_outcome_under_two_shipping_numbers_is_one_row_and_a_contradiction_is_kept(store: Store) -> None:
    store.commit([record(1, 1), record(2, 1), record(3, 1, outcome="NG"), record(4, 1, outcome="NG")], {"stream": ("s", 4)})
    store.commit([Arrived("new-stream", 9, "record", verdict_json(verdict(1)), b"")], {"new-stream": ("s", 9)})
    assert [(v.seq, v.outcome) for v in store.verdicts()] == [(1, "PASS")]
    assert store.count("contradictions") == 1


def test_a_part_of_another_station_of_the_same_name_is_kept_as_a_contradiction(store: Store) -> None:
    """Two stations from one image that begin in the same second number the parts of the same line and epoch."""
    store.commit([record(1, 1)], {"stream": ("s", 1)})
    store.commit([Arrived("other", 1, "record", verdict_json(verdict(1, trigger_time_us=2)), b"")], {"other": ("s", 1)})
    assert [v.trigger_time_us for v in store.verdicts()] == [1]
    assert store.count("contradictions") == 1


def test_a_second_picture_of_the_same_name_leaves_the_first_as_it_is(store: Store) -> None:
    other = cv2.imencode(".png", PIXELS + 1)[1].tobytes()
    store.commit([picture(1), picture(2), picture(3, other)], {"stream": ("s", 3)})
    (kept,) = store.pictures()
    assert (kept.read() == PIXELS).all()


def test_declared_losses_are_summed_and_counted_once(store: Store) -> None:
    body = msgspec.msgpack.encode({"what": "picture", "n": 12, "bytes": 5, "why": "cap", "first_seq": 1, "last_seq": 40})
    for _ in range(2):
        store.commit([Arrived("stream", 3, "lost", body, b"")], {"stream": ("s", 3)})
    assert store.lost("picture") == 12
    assert store.lost("record") == 0


WRONG = {
    "no record": Arrived("stream", 1, "record", b"nonsense", b""),
    "empty": Arrived("stream", 1, "record", b"", b""),
    "unknown kind": Arrived("stream", 1, "hologram\0" * 50, b"", b""),
    "number too large": record(1, (1 << 64) - 1),
    "time too large": record(1, 1, trigger_time_us=1 << 63),
    "no outcome": record(1, 1, outcome="MAYBE"),
    "name too long": record(1, 1, recipe="r" * 65),
    "zero byte": record(1, 1, part_id="a\0b"),
    "not a number": record(1, 1, latency_ms=float("nan")),
    "wrong hash": picture(1, sha256="0" * 64),
    "station is a path": picture(1, station="../../etc"),
    "line is a path": picture(1, line="/etc"),
    "kind is a path": picture(1, kind="../x"),
    "format is a path": picture(1, format="png/../../x"),
    "epoch before time": picture(1, epoch=-(1 << 62)),
    "epoch after time": picture(1, epoch=1 << 62),
    "part number negative": picture(1, seq=-1),
    "box too large": picture(1, width=1 << 40),
    "loss without a kind": Arrived("stream", 1, "lost", msgspec.msgpack.encode({"n": 1}), b""),
    "loss of a wrong type": Arrived("stream", 1, "lost", msgspec.msgpack.encode({"what": [1], "n": "x"}), b""),
    "loss too large": Arrived("stream", 1, "lost", msgspec.msgpack.encode({"what": "record", "n": 1 << 40}), b""),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_row_that_cannot_be_read_is_kept_aside_and_the_next_one_is_stored(store: Store, tmp_path: Path, wrong: Arrived) -> None:
    store.commit([wrong, record(2, 2)], {"stream": ("s", 2)})
    assert [v.seq for v in store.verdicts()] == [2]
    assert store.known("stream")[1] == 2
    assert store.count("refused") == 1
    assert not files(tmp_path)


def test_file_names_are_made_of_names_and_numbers_alone(store: Store, tmp_path: Path) -> None:
    store.commit([picture(1)], {"stream": ("s", 1)})
    (file,) = files(tmp_path)
    assert file.relative_to(tmp_path).as_posix() == "store/crops/s/l/1970-01-01/7/0000000001-crop-0.png"


def test_a_database_url_keeps_its_pictures_where_crops_says(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/data.db", crops=str(tmp_path / "crops"))
    store.commit([picture(1)], {"stream": ("s", 1)})
    assert len(files(tmp_path)) == 1
    store.close()


NEVER = [
    "",
    "://",
    "sqlite:////tmp/x.db",
    "sqlite://",
    "sqlite:///:memory:",
    "mysql+nothing://u:secret@h/db",
    "nonsense://u:secret@h/db",
    "postgresql+psycopg://u:secret@h:port/db",
    "postgresql+psycopg://u:a@secret@h/db",
]


@pytest.mark.parametrize("address", NEVER)
def test_an_address_that_can_never_work_is_a_configuration_error_without_its_password(address: str, tmp_path: Path) -> None:
    crops = None if address.startswith("sqlite:////") else str(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        open_store(address, crops)
    assert raised.value.exit_code == EXIT_CONFIGURATION
    assert "secret" not in str(raised.value)


def test_a_store_that_may_yet_come_is_no_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for address in (str(tmp_path / "file" / "store"), f"sqlite:///{tmp_path}/missing/data.db"):
        with pytest.raises(EdgeAgentError) as raised:
            open_store(address, str(tmp_path / "crops"))
        assert raised.value.exit_code == EXIT_FAILURE


def test_the_driver_that_is_missing_is_told_with_the_one_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ConfigurationError, match=r"psycopg2.* Write postgresql\+psycopg://, and pip install"):
        open_store("postgresql+psycopg2://u@h/db", str(tmp_path))


def test_the_questions_of_the_docs_are_answered_by_both_databases(store: Store) -> None:
    rows = [record(1, 1), record(2, 2, outcome="NG"), record(3, 5, outcome="FAULT"), record(4, 6, outcome="NG", shadow=True)]
    rows.append(record(5, 1, station="t"))
    body = msgspec.msgpack.encode({"what": "record", "n": 2})
    store.commit([*rows, picture(6, seq=2), Arrived("stream", 7, "lost", body, b"")], {"stream": ("s", 7)})
    yields, crops, missing, lost = (answer(store, query) for query in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.S))
    assert [(*row[:2], *row[3:]) for row in yields] == [("s", "l", 3, 1, 1), ("t", "l", 1, 0, 0)]
    assert [(part, path.rsplit("/", 1)[1]) for _, part, _, path in crops] == [("2", "0000000002-crop-0.png")]
    assert missing == [("s", "l", 7, 2)]
    assert lost == [("s", "record", "", 2)]


def answer(store: Store, query: str) -> list[tuple[Any, ...]]:
    with store._engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_a_password_is_never_shown() -> None:
    assert shown("postgresql+psycopg://me:secret@host/db") == "postgresql+psycopg://me:***@host/db"
    assert shown("postgresql://h/db?password=secret&sslmode=require") == "postgresql://h/db?password=%2A%2A%2A&sslmode=require"
    assert shown("/data/store") == "/data/store"


def test_where_pictures_cannot_go_is_told_of_crops(tmp_path: Path) -> None:
    for crops in ("foo://x", ""):
        with pytest.raises(ConfigurationError, match="--crops"):
            open_store(str(tmp_path / "store"), crops)
    assert not (tmp_path / "store").exists()


def test_a_station_that_asks_after_the_database_was_removed_is_answered(tmp_path: Path) -> None:
    """Nothing is stored before it is told how far, and that found no tables in the new file, for ever."""
    store = open_store(str(tmp_path))
    for file in tmp_path.glob("collector.db*"):
        file.unlink()
    with pytest.raises(OSError, match="removed or replaced"):
        store.known("stream")
    assert store.known("stream")[1] == 0
    store.close()


class Away(Exception):
    """An error of a library's own: nothing but an exception."""


def test_an_object_store_that_is_away_is_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_nothing(*_: object) -> None:
        raise Away("no keys")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", put_nothing)
    away = open_store(str(tmp_path / "another"), "memory://crops")
    with pytest.raises(OSError, match="no keys"):
        away.commit([record(1, 1), picture(2)], {"stream": ("s", 2)})
    assert (away.known("stream")[1], away.count("records")) == (0, 0), "all of it comes again"
    away.close()


def test_a_database_that_cannot_hold_every_text_is_refused(tmp_path: Path) -> None:
    server = Postgres("LATIN1")
    try:
        with pytest.raises(ConfigurationError, match="encoded in LATIN1"):
            open_store(server.address, str(tmp_path))
    finally:
        server.close()


def test_what_a_database_refuses_is_told_in_its_own_words(tmp_path: Path, postgres: Postgres) -> None:
    postgres.do("drop role if exists guest", "create role guest login", "grant usage on schema public to guest")
    guest = postgres.address.replace("collector@", "guest@")
    with pytest.raises(EdgeAgentError, match=r"cannot be opened now: permission denied for schema public$") as refused:
        open_store(guest, str(tmp_path))
    assert "sqlalche.me" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="invalid connection option"):
        open_store(f"{postgres.address}&nonsense=1", str(tmp_path))


def test_every_column_that_text_goes_to_has_a_length_or_none_on_both_databases() -> None:
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.schema import CreateTable

    from edge_agent.collector import tables

    for table in tables.metadata.tables.values():
        for dialect in (postgresql.dialect(), sqlite.dialect()):
            assert table.name in str(CreateTable(table).compile(dialect=dialect))
    assert isinstance(tables.records.c.seq.type, sa.BigInteger)
