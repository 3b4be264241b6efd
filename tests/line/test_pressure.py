"""The daemon under load, haste and misuse: every trigger still gets exactly one outcome, and the right one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import yaml
from bright import gray, with_defect
from running import wait_until
from simulation import ask
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.inference.base import TensorSlot
from edge_agent.records import Pixels
from edge_agent.settings import load_station
from edge_agent.wire import Request, Verdict


class Running:
    """A daemon between its start and its end, with what it published."""

    def __init__(self, station: StationFolder, parts: int = 0) -> None:
        self.control = station.settings["plc"]["control"]
        self.daemon = Daemon(load_station(station.write()), parts=parts)
        self.verdicts: list[Verdict] = []
        self.daemon.publisher.on_verdict = self.verdicts.append
        self.summary: dict = {}

    def __enter__(self) -> Running:
        self.daemon.start()
        wait_until(lambda: all(line.book.ready or line.grabber.finished.is_set() for line in self.daemon.lines))
        return self

    def __exit__(self, *_: object) -> None:
        self.summary = self.daemon.close()

    def wait_for(self, verdicts: int) -> None:
        wait_until(lambda: len(self.verdicts) >= verdicts, 20)


def test_triggers_the_camera_never_served_are_faults_when_the_daemon_stops(station: StationFolder) -> None:
    station.add_images([gray(level=170)])
    station.settings["cameras"][0].update(trigger="software", repeat=True, rate_hz=0)
    with Running(station) as running:
        for number in range(50):
            assert ask(running.control, Request(op="trigger", line="line", part_id=f"P-{number}")).ok
    assert running.summary["triggers"] == running.summary["outcomes"] == 50
    assert sorted(v.part_id for v in running.verdicts) == sorted(f"P-{number}" for number in range(50))
    assert {v.outcome for v in running.verdicts} <= {"PASS", "FAULT"}
    assert {v.reasons for v in running.verdicts if v.outcome == "FAULT"} <= {("not_ready",), ("overrun",)}


def test_every_part_is_judged_by_the_recipe_of_its_trigger(station: StationFolder) -> None:
    station.add_images([gray(level=170)])
    station.settings["cameras"][0].update(repeat=True, rate_hz=300)
    file = station.write()
    for index in range(6):
        peak = 0.0 if index % 2 else 0.99
        changed = {**station.recipe, "name": f"r{index}", "rules": [{"rule": "peak_score", "max": peak}]}
        (file.parent / "recipes" / f"r{index}.yaml").write_text(yaml.safe_dump(changed))
    with Running(station) as running:
        asking = [
            threading.Thread(target=ask, args=(running.control, Request(op="recipe", line="line", name=f"r{index}")))
            for index in range(6)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        time.sleep(0.2)
    assert running.summary["triggers"] == running.summary["outcomes"] == len(running.verdicts)
    seen = {(v.recipe, v.outcome) for v in running.verdicts if v.outcome != "FAULT"}
    assert {recipe for recipe, _ in seen} > {"part"}
    assert seen <= {("part", "PASS"), *((f"r{index}", "NG" if index % 2 else "PASS") for index in range(6))}


def test_more_broken_limits_than_a_verdict_holds_are_still_ng(station: StationFolder) -> None:
    square = [[0, 0], [60, 0], [60, 60], [0, 60]]
    zones = [{"rule": "zone", "name": f"{index:02}-{'z' * 50}", "polygon": square, "max_count": 0} for index in range(100)]
    station.recipe["rules"] = zones
    station.add_images([with_defect(gray(), 10, 20, 8, 6)])
    with Running(station, parts=1) as running:
        running.wait_for(1)
    assert [v.outcome for v in running.verdicts] == ["NG"]
    assert running.summary["ng"] == 1


def test_a_part_whose_time_is_over_does_not_make_the_next_late(station: StationFolder) -> None:
    """The engine hangs on to the first part. Those that wait behind it are late too: they must not be computed any more."""
    station.add_images([gray(level=150 + n) for n in range(4)])
    station.recipe["deadline_ms"] = 300
    computed: list[int] = []
    running = Running(station, parts=4)
    segmenter = running.daemon.lines[0].bundle.segmenter
    submit = segmenter.submit

    def hang(slot: TensorSlot, source: Pixels, done: Callable[[TensorSlot], None]) -> None:
        computed.append(int(source[0, 0]))
        time.sleep(0.6)
        submit(slot, source, done)

    segmenter.submit = hang  # type: ignore[method-assign]
    with running:
        running.wait_for(4)
    assert Counter(v.reasons for v in running.verdicts) == {("late",): 4}
    assert computed == [150]


def test_a_second_daemon_on_the_same_state_is_refused(station: StationFolder) -> None:
    station.add_images([gray(level=170)])
    station.settings["cameras"][0].update(trigger="software", repeat=True)
    with Running(station) as running:
        station.settings["plc"] = {"verdicts": f"ipc://{station.folder}/v2", "control": f"ipc://{station.folder}/c2"}
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(station.write())]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert second.returncode != 0
        assert "is in use by process" in second.stderr
        assert "Stop that daemon" in second.stderr
        assert ask(running.control, Request(op="trigger", line="line", part_id="A")).ok
    assert [v.part_id for v in running.verdicts] == ["A"]
