"""A grabber with a camera that does what the test says, in a station of `running.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import GOOD, Station, start_stations, wait_until
from scripted import Script, bundle_of

from edge_agent.grabber import Grabber
from edge_agent.triggers import Budget


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    yield from start_stations(tmp_path)


class Bench:
    """A grabber with a real publisher; pictures it delivers are judged PASS with their level kept."""

    def __init__(self, station: Station, camera: Script, parts: int = 0, frames: int = 4) -> None:
        self.station, self.camera = station, camera
        self.levels: dict[str, int] = {}
        self.keeps = False
        self.kept: list[int] = []
        bundle = bundle_of(station.line.identity)
        self.grabber = Grabber(station.line, camera, frames, station.publisher, Budget(parts), lambda: bundle, self.deliver, 0.05)
        self.grabber.thread.start()

    def deliver(self, item: object) -> None:
        part, _, frame = item  # type: ignore[misc]
        self.levels[part.part_id] = int(frame.pixels[0, 0])
        if self.keeps:
            self.kept.append(frame.slot)
            return
        self.grabber.ring.give_back(frame.slot)  # type: ignore[union-attr]
        self.station.publisher.judged(part, GOOD)

    def outcomes(self, count: int) -> dict[str, int]:
        """Wait for so many outcomes; how often each reason, and '' for a picture that was delivered."""
        wait_until(lambda: sum(self.station.line.outcomes.values()) >= count)
        assert self.station.line.triggers == sum(self.station.line.outcomes.values()) == count
        return {"": len(self.levels), **self.station.line.reasons}


@pytest.fixture
def bench(station: Callable[..., Station]):
    made: list[Bench] = []

    def make(camera: Script, deadline_ms: float = 10_000, **words: int) -> Bench:
        here = station(deadline_ms=deadline_ms)
        here.line.ready = False
        made.append(Bench(here, camera, **words))
        return made[-1]

    yield make
    for each in made:
        each.grabber.stop(1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    heard: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("edge_agent.grabber.say", lambda name, **values: heard.append((name, values)))
    return heard


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr("edge_agent.grabber.say", lambda name, **_: names.append(name))
    return names
