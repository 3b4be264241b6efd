"""In the steady state nothing as large as a frame is allocated. The control shows that one copy of a frame would be seen."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from bright import gray, write_bright_model
from stations import StationFolder
from two_classes import write_two_class_model

from edge_agent.daemon import Daemon
from edge_agent.settings import load_station

SIDE, PARTS, WARM = 512, 300, 150
FRAME_BYTES = SIDE * SIDE


def peak_of_steady_state(station: StationFolder, observe: Any) -> int:
    """The most bytes that Python and NumPy held at a time beyond what they held after the first parts."""
    held = 1 << 40
    daemon = Daemon(load_station(station.write()), parts=PARTS, observe=observe)

    def watch(verdict: Any) -> None:
        nonlocal held
        if WARM - 50 < verdict.seq <= WARM:  # the least of them, since another thread may hold something for a moment
            held = min(held, tracemalloc.get_traced_memory()[0])
            tracemalloc.reset_peak()

    daemon.publisher.on_verdict = watch
    tracemalloc.start()
    try:
        summary = daemon.run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert summary["pass"] + summary["ng"] == PARTS
    assert held < 1 << 40
    return peak - held


@pytest.fixture
def preloaded(station: StationFolder) -> StationFolder:
    """Drawn frames of the network's size, shown in turn, and every kind of work on them but evidence."""
    write_bright_model(station.folder / "models" / "bright", SIDE, SIDE)
    camera = {"name": "camera", "kind": "synthetic", "rows": SIDE, "cols": SIDE, "rate_hz": 0, "preload": 8, "empty_share": 0}
    station.settings["cameras"] = [camera]
    station.settings["plc"]["replay_parts"] = 100  # full when the measuring begins
    station.recipe["classes"] = {"defect": {"threshold": 0.5, "hysteresis": 0.3, "min_area_px": 4}}
    station.recipe["exclusions"] = [{"name": "stamp", "polygon": [[0, 0], [60, 0], [60, 60], [0, 60]]}]
    station.recipe["quality"] = {"min_mean_gray": 1, "max_saturated_share": 0.9, "min_focus": 0}
    station.recipe["evidence"] = {"max_crops": 0, "whole_frame": "never", "pass_share": 0}
    return station


def test_no_allocation_as_large_as_a_frame(preloaded: StationFolder) -> None:
    assert peak_of_steady_state(preloaded, None) < FRAME_BYTES


def test_the_measure_would_see_a_single_copy(preloaded: StationFolder) -> None:
    copies: list[Any] = []

    def copy(inspection: Any, _judgement: Any) -> None:
        copies[:] = [inspection.frame.pixels.copy()]
        copies.clear()

    assert peak_of_steady_state(preloaded, copy) >= FRAME_BYTES


def test_maps_that_memory_has_no_room_for_are_declared_lost_and_their_parts_judged(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_two_class_model(station.folder / "models" / "two")
    station.recipe["model"] = {"name": "two"}
    station.recipe["evidence"] = {"max_crops": 0, "whole_frame": "never", "probability_map": "always"}
    station.add_images([gray(level=120 + n) for n in range(3)])

    def no_memory(*_words: Any, **_more: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("edge_agent.bundle.np.max", no_memory)
    daemon = Daemon(load_station(station.write()))
    summary = daemon.run()
    assert (summary["triggers"], summary["pass"], daemon.evidence.refused, daemon.outbox.stats().pictures_lost) == (3, 3, 3, 3)
    told = capsys.readouterr().out
    assert (told.count("evidence.refused"), told.count("part.failed")) == (1, 0)
