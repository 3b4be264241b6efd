"""A disk that fails while the station runs: its stop comes to its end, and says what is in memory alone."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.plc import counters, journal
from edge_agent.plc.counters import LineCounters
from edge_agent.plc.journal import Journal
from edge_agent.records import PASS

Said = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Said]:
    """Calling it is the disk's end; it returns what is said from then on."""
    fails = False

    class Map(mmap.mmap):
        def flush(self, *_: int) -> None:
            if fails:
                raise OSError(errno.EIO, "Input/output error")

    def fail() -> Said:
        nonlocal fails
        fails, said = True, Said()
        for room in (journal, counters):
            monkeypatch.setattr(room, "say", lambda event, **told: said.append((event, told)))
        return said

    monkeypatch.setattr(mmap, "mmap", Map)
    return fail


def test_a_journal_says_how_many_parts_are_in_memory_alone(tmp_path: Path, failing: Callable[[], Said]) -> None:
    kept = Journal(tmp_path / "journal", 64)
    kept.adopt()
    kept.open_part(1, 1000, b"one", b"A")
    said = failing()
    kept.close()
    assert said == [("journal.unwritten", {"file": str(tmp_path / "journal"), "parts": 1, "why": "Input/output error"})]


def test_counters_say_whose_they_are(tmp_path: Path, failing: Callable[[], Said]) -> None:
    kept = LineCounters(tmp_path / "one", 1000)
    kept.count(1, 1, PASS, ())
    said = failing()
    kept.close()
    assert said == [("counters.unwritten", {"line": "one", "why": "Input/output error"})]
