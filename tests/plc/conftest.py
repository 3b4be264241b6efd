"""Starts stations of `running.py` and stops them at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import ANY, Station

from edge_agent.clock import Clock, SystemClock
from edge_agent.settings import PlcSettings


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Start stations; all are stopped and closed at the end."""
    running: list[Station] = []

    def start(clock: Clock | None = None, deadline_ms: float = 10_000, modes: dict[str, str] | None = None, **plc: Any) -> Station:
        settings = PlcSettings(verdicts=ANY, control=ANY, expect_subscriber=False, **plc)
        made = Station(tmp_path / str(len(running)), clock or SystemClock(), deadline_ms, modes or {"one": "online"}, settings)
        running.append(made)
        made.publisher.start()
        return made

    yield start
    for made in running:
        made.close()
