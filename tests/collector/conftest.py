"""A real PostgreSQL server, one for all tests of the collector, and a fresh database for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres import Postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def postgres(server: Postgres) -> Postgres:
    server.empty()
    return server
