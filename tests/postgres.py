"""A PostgreSQL server of the tests' own: it listens on a socket in its folder alone, and leaves nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

INSTALLED = Path("/usr/lib/postgresql")  # where Debian keeps what is not on the path
NOBODY = "nobody"  # the server refuses to run as root


class Postgres:
    """A server with an empty database. Skips the test where PostgreSQL or its driver is not installed."""

    def __init__(self) -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        found = shutil.which("initdb") or max(map(str, INSTALLED.glob("*/bin/initdb")), default="")
        if not found:
            pytest.skip("PostgreSQL is not installed")
        self._programs = Path(found).resolve().parent
        self.folder = Path(tempfile.mkdtemp(prefix="edge-agent-pg-"))
        if os.geteuid() == 0:
            os.chown(self.folder, pwd.getpwnam(NOBODY).pw_uid, -1)
        self._call("initdb", "--auth=trust", "--username=collector", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.start()

    @property
    def address(self) -> str:
        """What `--store` takes."""
        return f"postgresql+psycopg://collector@/postgres?host={self.folder}"

    def start(self) -> None:
        self._call("pg_ctl", "start", "-w", "-l", f"{self.folder}/log", "-o", f"-c listen_addresses='' -k {self.folder}")

    def crash(self) -> None:
        """End it as a power cut does: nothing is written any more."""
        self._call("pg_ctl", "stop", "-w", "-m", "immediate")

    def empty(self) -> None:
        engine = sa.create_engine(self.address)
        with engine.begin() as connection:
            connection.execute(sa.text("drop schema public cascade"))
            connection.execute(sa.text("create schema public"))
        engine.dispose()

    def close(self) -> None:
        self.crash()
        shutil.rmtree(self.folder)

    def _call(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), "-D", f"{self.folder}/data", *words]
        if os.geteuid() == 0:
            command = ["runuser", "-u", NOBODY, "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd=self.folder)
