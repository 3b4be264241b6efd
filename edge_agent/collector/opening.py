"""Opens the store: a folder with SQLite, or a PostgreSQL server's database by its URL; what an address may show of itself."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_agent.collector import tables
from edge_agent.collector.pictures import PictureFolder
from edge_agent.collector.store import INSERTS, Store, cause
from edge_agent.errors import ConfigurationError, EdgeAgentError

_PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 30_000}  # s and ms, of libpq: below the service's watchdog


def open_store(address: str, crops: str | None = None) -> Store:
    """Open or make a store: a folder, or a database URL with `crops` beside it.

    Raises ConfigurationError for an address that can never work, EdgeAgentError where the disk or the server may yet come."""
    is_folder = "://" not in address
    if not address:
        raise ConfigurationError("--store is empty. Give a folder, or a database URL.")
    if not (crops or (is_folder and crops is None)):
        raise ConfigurationError(f"--store {shown(address)}: say with --crops where the pictures go.")
    folder = PictureFolder(crops or str((Path(address) / "crops").resolve()))
    engine = _engine(f"sqlite:///{Path(address) / 'collector.db'}" if is_folder else address)
    try:
        if is_folder:
            Path(address).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(engine.dispose)
            _require_unicode(engine)
            store = Store(engine, folder)
            _require_columns(engine, shown(address))
            stack.pop_all()
            return store
    except (sa.exc.SQLAlchemyError, OSError) as error:
        is_nonsense = isinstance(error, sa.exc.ProgrammingError) and getattr(error.orig, "sqlstate", "") is None
        kind = ConfigurationError if is_nonsense else EdgeAgentError  # a word in the URL that the driver does not know
        raise kind(f"--store {shown(address)} cannot be opened now: {cause(error)}") from None


def _engine(address: str) -> sa.Engine:
    """For the address of a database; nothing is connected yet. Raises ConfigurationError."""
    try:
        url = sa.make_url(address)
        database = url.get_dialect().name
        if database not in INSERTS:
            raise ConfigurationError(f"--store: {database} is not supported; use {' or '.join(INSERTS)}.")
        if database == "sqlite" and url.database in (None, "", ":memory:"):
            raise ConfigurationError(f"--store {address} is a database in memory, which keeps nothing. Give a folder.")
        if "@" in (url.host or ""):
            raise ConfigurationError("--store: a password holds @, which ends it. Write %40 for it, or leave it to PGPASSWORD.")
        patience = {name: each for name, each in _PATIENCE.items() if database == "postgresql" and name not in url.query}
        engine = sa.create_engine(url, hide_parameters=True, connect_args=patience)
    except ImportError as error:
        remedy = "Write postgresql+psycopg://, and pip install 'edge-agent[postgresql]'."
        raise ConfigurationError(f"--store {shown(address)} needs a driver that is not here: {error}. {remedy}") from None
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigurationError(f"--store {shown(address)} cannot be used: {error}") from None
    if database == "sqlite":
        sa.event.listen(engine, "connect", _be_durable)
        sa.event.listen(engine, "checkout", _require_its_file)
    return engine


def _require_unicode(engine: sa.Engine) -> None:
    """Raise ConfigurationError for a database that cannot hold every text: its rows would be refused, one by one."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            encoding = connection.exec_driver_sql("show server_encoding").scalar()
        if encoding != "UTF8":
            remedy = "Make it with: create database NAME encoding 'UTF8' template template0"
            raise ConfigurationError(f"--store: the database is encoded in {encoding}, which cannot hold every text. {remedy}")


def _require_columns(engine: sa.Engine, store: str) -> None:
    """Raise ConfigurationError for a table that was there and lacks a column: no row would ever be stored."""
    found = sa.inspect(engine)
    for table in tables.metadata.sorted_tables:
        has = {column["name"] for column in found.get_columns(table.name)}
        if lacking := [column.name for column in table.columns if column.name not in has]:
            raise ConfigurationError(
                f"--store {store}: its table {table.name} has no {', '.join(lacking)}: it is of another release, or of another "
                "program. Give another folder or database, and keep this one."
            )


def shown(address: str) -> str:
    """The address as it may stand in a log: without a password."""
    try:
        url = sa.make_url(address) if "://" in address else None
    except (sa.exc.ArgumentError, ValueError):
        return "(unreadable address)"
    if url is None:
        return address
    secret = {name: "***" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True)


def _be_durable(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    file = cursor.execute("pragma database_list").fetchone()[2]
    cursor.close()
    record.info["file"] = Path(file), _place_of(Path(file))


def _require_its_file(_connection: Any, record: Any, _proxy: Any) -> None:
    """Raise OSError where the file that is open is not the one of its name any more: what is written there, nobody finds again."""
    file, place = record.info["file"]
    if _place_of(file) != place:
        raise OSError(f"{file} was removed or replaced while it was open; the one that is there now is opened, or a new one made")


def _place_of(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
