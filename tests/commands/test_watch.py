"""`edge-agent watch` and `edge-agent control` against a running daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from running import Station, start_stations, wait_until
from stations import Program, StationFolder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    yield from start_stations(tmp_path)


@contextmanager
def daemon(station: StationFolder) -> Iterator[None]:
    """The daemon on a folder shown again and again, ten parts a second."""
    station.settings["cameras"][0] |= {"repeat": True, "rate_hz": 20}
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run", "--config", str(station.write())], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_watch_shows_verdicts_and_control_answers(
    edge_agent: Program, station: StationFolder, images: Callable[[int], list[np.ndarray]]
) -> None:
    station.add_images(images(3))
    file = station.folder / "station.yaml"
    verdicts, control = station.settings["plc"]["verdicts"], station.settings["plc"]["control"]
    with daemon(station):
        heard = edge_agent("watch", "--connect", verdicts, "--json", "--count", 6, "--timeout", 30)
        assert heard.returncode == 0, heard.stderr
        objects = [json.loads(line) for line in heard.stdout.splitlines()]
        assert len(objects) == 6
        assert {each["outcome"] for each in objects} == {"PASS", "NG"}
        assert [each["seq"] for each in objects] == list(range(objects[0]["seq"], objects[0]["seq"] + 6))
        assert all(each["station"] == "test" and each["trigger_time_us"] > 1.6e15 for each in objects)
        shown = edge_agent("watch", "--config", file, "--count", 2, "--timeout", 30)
        assert shown.returncode == 0
        assert len(shown.stdout.splitlines()) == 2
        status = edge_agent("control", "--connect", control, "status")
        assert json.loads(status.stdout)["lines"]["line"]["state"] == "Ready"
        wrong = edge_agent("control", "--connect", control, "recipe", "nowhere", "--line", "line")
        assert wrong.returncode == 1
        assert "nowhere" in wrong.stdout
        assert "line" in edge_agent("counters", "--config", file).stdout
        assert "runs free" in edge_agent("trigger", "--config", file).stdout
        assert "has no master parts" in edge_agent("challenge", "--config", file, "--line", "line").stdout


def test_a_reload_is_answered_with_what_came_of_it(
    edge_agent: Program, station: StationFolder, images: Callable[[int], list[np.ndarray]]
) -> None:
    station.add_images(images(2))
    file = station.folder / "station.yaml"
    with daemon(station):
        by_config = ("control", "--config", file)
        wait_until(lambda: edge_agent(*by_config, "status").returncode == 0)
        well = edge_agent(*by_config, "reload")
        assert (well.returncode, well.stdout) == (0, "ok\n")
        station.settings["station"], station.settings["cameras"][0]["rate_hz"] = "other", 21
        station.write()
        later = edge_agent(*by_config, "reload")
        assert (later.returncode, later.stdout) == (0, "ok; restart to apply: station, cameras.0.rate_hz\n")
        station.recipe["rules"] = [{"rule": "blob_count", "max": -1}]
        station.write()
        refused = edge_agent(*by_config, "reload")
        assert refused.returncode == 1
        assert "refused, the recipes before stay: " in refused.stdout
        assert "rules.0.max" in refused.stdout
        whole = file.read_text()
        for whole_line, broken_line in (("cameras:", "cameras"), ("plc:", "plcs:"), ("cameras:", "# gr\xfcn\ncameras: [")):
            file.write_bytes(whole.replace(whole_line, broken_line, 1).encode("latin-1"))
            broken = edge_agent(*by_config, "reload")
            assert "station.yaml" in broken.stdout, "the daemon is reached, and says what is wrong"


def test_watch_with_nobody_there_ends_after_its_timeout(edge_agent: Program, station: StationFolder) -> None:
    alone = edge_agent("watch", "--config", station.write(), "--count", 1, "--timeout", 0.5)
    assert alone.returncode == 1
    assert f"no heartbeat from {station.settings['plc']['verdicts']}" in alone.stderr
    assert "Another address: --config or --connect" in alone.stderr


@pytest.mark.parametrize(
    "words", [("control", "reload"), ("control", "recipe", "x", "--line", "line"), ("counters",), ("trigger",)]
)
def test_where_nobody_answers_that_is_told_soon(edge_agent: Program, station: StationFolder, words: tuple[str, ...]) -> None:
    alone = edge_agent(*words, "--connect", station.settings["plc"]["control"], timeout_s=50)  # an answer is waited for longer
    assert alone.returncode == 1
    assert f"no answer from {station.settings['plc']['control']}" in alone.stderr
    assert "Another address: --config or --connect" in alone.stderr


def test_watch_at_the_control_socket_is_told_so(start: Callable[..., Station], within: Program) -> None:
    here = start()
    told = within("watch", "--connect", here.publisher.sockets.control_endpoint, "--timeout", 0.3)
    assert told.returncode == 1
    assert "The daemon's control socket is there: verdicts come from the address of its plc.verdicts." in told.stderr


@pytest.mark.parametrize("words", [("control", "status"), ("watch",)])
def test_an_address_without_its_transport_is_given_one(within: Program, words: tuple[str, ...]) -> None:
    told = within(*words, "--connect", "127.0.0.1:5557")
    assert told.returncode == 1
    assert "Say how, too: tcp://127.0.0.1:5557." in told.stderr
    assert "Give it as tcp://HOST:PORT." in within(*words, "--connect", "tcp://127.0.0.1").stderr
