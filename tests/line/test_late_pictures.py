"""A picture that comes too late is not judged, but it is looked at: the next one may be the same again."""

from __future__ import annotations

import time

import pytest
from running import wait_until
from scripted import Script
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.settings import load_station
from edge_agent.wire import Verdict

SIDE = 64


@pytest.fixture
def camera() -> Script:
    return Script(side=SIDE)


def outcomes(station: StationFolder, camera: Script, count: int) -> list[tuple[str, ...]]:
    """The reasons of so many parts of what the camera's `acts` say, under a recipe that asks nothing of the picture."""
    station.images.mkdir()
    (station.images / "0.png").touch()
    daemon = Daemon(load_station(station.write()))
    verdicts: list[Verdict] = []
    daemon.publisher.on_verdict = verdicts.append
    daemon.lines[0].grabber.camera = daemon.lines[0].grabber.triggers.camera = camera
    daemon.start()
    wait_until(lambda: len(verdicts) == count)
    daemon.close()
    return [verdict.reasons for verdict in sorted(verdicts, key=lambda verdict: verdict.seq)]


def test_the_same_picture_after_a_late_one_is_frozen(station: StationFolder, camera: Script) -> None:
    station.recipe["quality"] = {}
    long_ago_ns = time.monotonic_ns() - 60_000_000_000
    camera.acts.put(camera.show(150, long_ago_ns))
    camera.acts.put(camera.show(150))
    camera.acts.put(camera.show(151))
    assert outcomes(station, camera, 3) == [("late",), ("frozen",), ()]


def test_black_white_and_the_same_again_are_faults_where_the_recipe_says_nothing(station: StationFolder, camera: Script) -> None:
    station.recipe |= {"quality": {}, "presence": None, "rules": [{"rule": "blob_count", "max": 10}]}
    for level in (0, 1, 255, 40, 40):
        camera.acts.put(camera.show(level))
    assert outcomes(station, camera, 5) == [("dark",), ("dark",), ("saturated",), (), ("frozen",)]
