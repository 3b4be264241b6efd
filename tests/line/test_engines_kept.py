"""Engines stay loaded for a way back, and not for ever."""

from __future__ import annotations

import pytest
from bright import gray, write_bright_model
from stations import StationFolder

from edge_agent import foundry as room
from edge_agent.bundle import Bundle
from edge_agent.daemon import Daemon
from edge_agent.foundry import Foundry
from edge_agent.settings import load_station

NAMES = [f"bright{n}" for n in range(7)]


def test_engines_of_long_ago_are_unloaded_but_for_the_last_few_and_those_in_use(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(NAMES):
        write_bright_model(station.folder / "models" / name, cols=64 + 32 * number)
        station.recipe |= {"name": name, "model": {"name": name}}
        station.write()
    clock_s = [1000.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: clock_s[0])
    foundry = Foundry(load_station(station.folder / "station.yaml"))
    closed: list[str] = []

    def change(to: str, judges: Bundle | None) -> Bundle:
        clock_s[0] += 1000
        foundry.release([judges.segmenter] if judges else [])
        made = foundry.forge(to, 1, 5)
        shut = made.segmenter.close
        made.segmenter.close = lambda: (closed.append(to), shut())[1]  # type: ignore[method-assign]
        return made

    first = change(NAMES[0], None)
    for name in NAMES[1:]:
        change(name, first)  # which stays the line's all the time
    assert closed == [NAMES[1]], "of six that judge nothing four are kept, and the last was only just made"
    assert foundry.forge(NAMES[0], 2, 5).segmenter is first.segmenter
    clock_s[0] += 10_000
    foundry.release([first.segmenter])
    clock_s[0] += 500
    foundry.release([first.segmenter])
    assert closed == NAMES[1:3]
    foundry.close()
    assert sorted(closed) == sorted(NAMES)


def test_engines_of_a_start_that_takes_long_are_the_lines(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be built for minutes, and none has a line before the last one is."""
    monkeypatch.setattr(room, "_IDLE_S", -1.0)
    station.add_images([gray()])
    station.recipe["regions"] = [{"name": "whole", "prepare": "resize"}]
    for number, name in enumerate(NAMES):
        write_bright_model(station.folder / "models" / name, cols=64 + 32 * number)
        station.recipe |= {"name": name, "model": {"name": name}}
        station.write()
    station.settings["cameras"] = [{"name": name, "kind": "folder", "path": "images"} for name in NAMES]
    station.settings["lines"] = [{"name": name, "camera": name, "recipe": name} for name in NAMES]
    summary = Daemon(load_station(station.write())).run()
    assert (summary["pass"], summary["fault"]) == (len(NAMES), 0)
