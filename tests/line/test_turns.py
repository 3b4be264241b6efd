"""Tensor slots that lines share: one that a line waited for is not kept for it when it waits elsewhere, or not at all."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from bright import gray
from running import wait_until
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.slots import SlotPool
from edge_agent.line import Line
from edge_agent.settings import load_station


def engine() -> tuple[Any, TensorSlot]:
    """An engine of one slot, and that slot: another line's part is in it."""
    empty = np.zeros((1, 1), np.uint8)
    pool = SlotPool([TensorSlot(0, empty, empty[None], np.zeros(1, np.float32))])
    slot = pool.lease()
    assert slot is not None
    return pool, slot


def waiting(line: Line, pool: Any, patience_s: float) -> Any:
    """A part that is to go to that engine, and can wait so long."""
    part = SimpleNamespace(deadline_ns=time.monotonic_ns() + int(patience_s * 1e9))
    return SimpleNamespace(
        bundle=SimpleNamespace(segmenter=pool), part=part, is_concluded=False, is_untouched=True, is_stitched=False
    )


def test_a_line_whose_engine_changed_leaves_its_turn_at_the_old_one_to_others(station: StationFolder) -> None:
    station.add_images([gray()])
    daemon = Daemon(load_station(station.write()))
    line = daemon.lines[0]  # its threads have not begun
    concluded: list[Any] = []
    line._conclude = lambda inspection, judgement: concluded.append(inspection)  # type: ignore[method-assign]
    (old, of_old), (new, of_new) = engine(), engine()
    line._pending.append(waiting(line, old, 0.05))
    line._submit()
    assert line._waiting_for is old
    line._pending.append(waiting(line, new, 60))
    wait_until(lambda: time.monotonic_ns() > line._pending[0].part.deadline_ns)
    line._submit()
    assert len(concluded) == 1
    assert line._waiting_for is new
    old.release(of_old)
    assert old.lease() is not None, "it would be kept for a line that never comes"
    line._pending.clear()
    line._wait_for(None)
    new.release(of_new)
    assert new.lease() is not None
    daemon._close_all()
