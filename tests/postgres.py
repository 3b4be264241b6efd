"""A PostgreSQL server of the tests' own: it listens on a socket in its folder alone, and ends with whoever started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

INSTALLED = Path("/usr/lib/postgresql")  # where Debian keeps what is not on the path
NOBODY = "nobody"  # the server refuses to run as root


class Postgres:
    """A server with a database in the encoding asked for. Skips the test where PostgreSQL or its driver is not installed."""

    def __init__(self, encoding: str = "UTF8") -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        found = shutil.which("initdb") or next(iter(sorted(INSTALLED.glob("*/bin/initdb"), key=_version, reverse=True)), "")
        if not found:
            pytest.skip("PostgreSQL is not installed")
        self._programs = Path(found).resolve().parent
        self.folder = Path(tempfile.mkdtemp(prefix="edge-agent-pg-", dir="/tmp"))  # a socket's path has 107 bytes
        self._as_user = ["setpriv", "--pdeathsig", "QUIT"]
        if os.geteuid() == 0:
            user = pwd.getpwnam(NOBODY)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        try:
            words = ("--auth=trust", "--username=collector", "--no-sync", f"--encoding={encoding}", "--locale=C")
            subprocess.run(self._command("initdb", *words), check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self.folder)
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def address(self) -> str:
        """What `--store` takes."""
        return f"postgresql+psycopg://collector@/postgres?host={self.folder}"

    def start(self) -> None:
        words = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}")
        with open(self.folder / "log", "ab") as log:
            self._server = subprocess.Popen(self._command("postgres", *words), stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + 30
        while True:
            try:
                return self.do("select 1")
            except sa.exc.OperationalError:
                if self._server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def crash(self) -> None:
        """End it as a power cut does: nothing is written any more."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(30)

    def do(self, *statements: str) -> None:
        engine = sa.create_engine(self.address, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                for each in statements:
                    connection.exec_driver_sql(each)
        finally:
            engine.dispose()

    def empty(self) -> None:
        """A database as it was in the beginning, whatever the last test did to it."""
        if self._server.poll() is not None:
            self.start()
        self.do("drop schema public cascade", "create schema public")

    def close(self) -> None:
        try:
            self.crash()
        finally:
            shutil.rmtree(self.folder)

    def _command(self, program: str, *words: str) -> list[str]:
        return [*self._as_user, str(self._programs / program), "-D", f"{self.folder}/data", *words]


def _version(initdb: Path) -> int:
    name = initdb.parents[1].name.partition(".")[0]
    return int(name) if name.isdecimal() else 0
