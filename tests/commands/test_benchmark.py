"""The benchmarks' interfaces and what they must never lose. How fast they are is printed, not asserted."""

from __future__ import annotations

import json

import pytest
from stations import Program

PLUMBING = {"parts_per_s", "ng_share", "unaccounted", "p50_ms", "p99_ms", "rss_growth_kb", "bare_parts_per_s"}
STATION = {"station_fps", "engine_fps", "ratio", "cpu_ms_per_part"}
BOTH = {"seconds", "machine", "command"}


@pytest.mark.parametrize("ng_share", [0.01, 0.1])
def test_plumbing_accounts_for_every_part(edge_agent: Program, ng_share: float) -> None:
    result = edge_agent("benchmark", "plumbing", "--json", "--parts", 3000, "--ng-share", ng_share)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() >= PLUMBING | BOTH
    assert told["unaccounted"] == 0
    assert told["ng_share"] == ng_share


def test_station_stands_beside_the_bare_engine(edge_agent: Program) -> None:
    result = edge_agent("benchmark", "station", "--json", "--seconds", 2)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() >= STATION | BOTH
    assert told["ratio"] == pytest.approx(told["station_fps"] / told["engine_fps"], rel=0.5)
