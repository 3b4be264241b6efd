"""The machine's clocks, as records can hold them."""

from __future__ import annotations

import time

import pytest

from edge_agent.clock import SystemClock


def test_a_clock_set_to_before_1970_tells_a_time_that_a_record_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: -1_000)
    assert SystemClock().wall_us() == 0
    monkeypatch.setattr(time, "time_ns", lambda: 1_784_000_012_345_678_901)
    assert SystemClock().wall_us() == 1_784_000_012_345_678
