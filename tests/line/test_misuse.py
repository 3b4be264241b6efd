"""What a recipe, a peer or an engine can do wrong costs a part or an answer: never a wrong PASS, the line or the daemon."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from bright import gray, with_defect
from running import wait_until
from simulation import ask
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError, EngineError
from edge_agent.foundry import Foundry
from edge_agent.inference.base import TensorSlot
from edge_agent.plc.gateway import Gateway
from edge_agent.settings import load_station
from edge_agent.wire import Request, Verdict


def run(station: StationFolder) -> list[Verdict]:
    daemon = Daemon(load_station(station.write()))
    verdicts: list[Verdict] = []
    daemon.publisher.on_verdict = verdicts.append
    daemon.run()
    return sorted(verdicts, key=lambda verdict: verdict.seq)


def test_one_bad_tile_costs_its_part_and_not_the_line(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    station.recipe["regions"] = [{"name": "whole", "prepare": "tile", "overlap_px": 16}]
    station.add_images([gray(150, 150, level=140 + n) for n in range(6)])
    seen = 0

    def believe(_slot: TensorSlot, _level: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise EngineError("this tile is damaged")

    monkeypatch.setattr("edge_agent.bundle.require_believable", believe)
    verdicts = run(station)
    assert [v.reasons for v in verdicts if v.outcome == "FAULT"] == [("engine",)]
    assert [v.outcome for v in verdicts].count("PASS") == 5


ELSEWHERE = [[1000, 1000], [1100, 1000], [1050, 1050]]
EVERYTHING = [[0, 0], [64, 0], [64, 64], [0, 64]]


@pytest.mark.parametrize(
    "recipe",
    [
        {"rules": [{"rule": "zone", "name": "seal", "polygon": ELSEWHERE, "max_count": 0}]},
        {"exclusions": [{"name": "all", "polygon": EVERYTHING}]},
        {"regions": [{"name": "left", "width": 80, "prepare": "resize"}]},
    ],
    ids=["zone outside the frame", "everything excluded", "region outside the frame"],
)
def test_where_nobody_would_look_nothing_passes_and_it_is_said_once(
    station: StationFolder, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    station.recipe.update(recipe)
    station.add_images([gray(), with_defect(gray(), 10, 20, 8, 6), gray()])
    assert [(v.outcome, v.reasons) for v in run(station)] == [("FAULT", ("bad_frame",))] * 3
    assert capsys.readouterr().out.count("line.recipe_unfit") == 1


@pytest.mark.parametrize(
    ("recipe", "line", "why"),
    [
        ({"deadline_ms": 5}, {"deadline_guard_ms": 5}, "every part would be late"),
        ({"regions": [{"name": "r", "prepare": "tile", "overlap_px": 40}]}, {}, "more than half a tile"),
        ({"rules": [{"rule": "zone", "name": "z", "polygon": [[0, 0], [1e10, 0], [0, 9]], "max_count": 0}]}, {}, "rules.0.polygon"),
    ],
)
def test_what_can_never_work_is_refused_at_the_start(
    station: StationFolder, recipe: dict[str, Any], line: dict[str, Any], why: str
) -> None:
    station.recipe.update(recipe)
    station.settings["lines"][0].update(line)
    settings = load_station(station.write())
    with pytest.raises(ConfigurationError, match=why):
        Foundry(settings).forge("part", 1, settings.settings.lines[0].deadline_guard_ms)


def test_evidence_says_what_the_record_says_also_where_the_part_was_late(station: StationFolder) -> None:
    station.recipe["deadline_ms"] = 40
    station.recipe["evidence"] = {"whole_frame": "ng", "pass_share": 1}
    station.add_images([gray(level=150 + n) for n in range(3)])
    seen: list[tuple[str, ...]] = []

    def observe(_inspection: object, judgement: Any) -> None:
        seen.append(judgement.reasons)

    daemon = Daemon(load_station(station.write()), observe=observe)
    segmenter = daemon.lines[0].bundle.segmenter
    submit = segmenter.submit

    def slowly(*words: Any) -> None:
        time.sleep(0.06)
        submit(*words)

    segmenter.submit = slowly  # type: ignore[method-assign]
    daemon.run()
    assert seen == [("late",)] * 3


PIPE_BYTES = 4096


@pytest.fixture
def running(station: StationFolder):
    """The daemon in a process of its own, whose log is a pipe that nobody reads."""
    station.add_images([gray(level=150)])
    station.settings["cameras"][0].update(repeat=True, rate_hz=50)
    file = station.write()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    command = [sys.executable, "-m", "edge_agent", "--log-level", "debug", "run", "--config", str(file)]
    process = subprocess.Popen(command, stderr=writer)
    os.close(writer)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    os.close(reader)


def test_a_log_that_nobody_reads_holds_up_nothing(running: Any, station: StationFolder) -> None:
    with Gateway(station.settings["plc"]["verdicts"], station.settings["plc"]["control"]) as gateway:
        heard = 0
        until = time.monotonic() + 30
        while heard < 100 and time.monotonic() < until:  # 170 bytes of log for each: four times what the pipe holds
            heard += sum(1 for _ in gateway.verdicts(0.2))
        assert heard >= 100
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=15) == 0


def test_no_request_ends_the_daemon_or_its_heartbeat(running: Any, station: StationFolder) -> None:
    control = station.settings["plc"]["control"]
    with Gateway(station.settings["plc"]["verdicts"], control) as gateway:
        wait_until(lambda: sum(1 for _ in gateway.verdicts(0.1)) > 0, 20)
        for name in ("a\0b", "", "../part", "x" * 100):
            reply = ask(control, Request(op="recipe", line="line", name=name))
            assert not reply.ok
            assert "is no name" in reply.error
        reply = ask(control, Request(op="trigger", line="line", part_id="x"))
        assert not reply.ok
        assert "runs free" in reply.error
        epoch = int(gateway.heartbeat["epoch"])
        reply = ask(control, Request(op="replay", line="line", epoch=epoch, seqs=(1,) * 4096))
        assert [json.loads(bytes(raw))["seq"] for raw in reply.verdicts] == [1]
        assert sum(1 for _ in gateway.verdicts(0.3)) > 0
    assert running.poll() is None


def test_a_line_that_has_ended_says_so(station: StationFolder) -> None:
    station.add_images([gray(level=150)])
    daemon = Daemon(load_station(station.write()))
    daemon.start()
    line = daemon.lines[0]
    wait_until(line.grabber.finished.is_set)
    assert daemon.publisher.heartbeat()["lines"]["line"]["state"] == "Error"
    assert "has shown all 1 images" in daemon.publisher.heartbeat()["lines"]["line"]["why"]
    daemon.close()


def test_a_recipe_is_held_against_the_only_model_given(station: StationFolder, within: Any) -> None:
    station.recipe["model"] = {"name": "another"}
    station.write()
    words = ("--recipe", station.folder / "recipes" / "part.yaml", "--model", station.folder / "models" / "bright")
    result = within("check", *words)
    assert result.returncode == 78
    assert "model.name: is another, and the model given is bright" in result.stdout
