"""Starts stations of `running.py` and stops them at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Station, start_stations


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    yield from start_stations(tmp_path)
