"""The whole daemon with a camera that fails: every pulse one outcome, no PASS for a bad picture, other lines undisturbed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aravis import require_aravis
from bright import gray
from simulation import wait_for
from stations import ROOT, StationFolder

from edge_agent.errors import EdgeAgentError, Reason
from edge_agent.plc.gateway import Gateway, ask
from edge_agent.simulator import SimulatedCamera
from edge_agent.wire import Request, Verdict

require_aravis()
_ADDRESSES = (f"127.9.2.{number}" for number in itertools.count(1))


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return __import__("soak_line")


@pytest.fixture
def account(line: ModuleType) -> ModuleType:
    return __import__("soak_camera")


@pytest.fixture
def address() -> str:
    return next(_ADDRESSES)


def test_outcomes_reconcile_with_the_pulses_of_a_camera_that_fails_in_every_way(
    tmp_path: Path, line: ModuleType, account: ModuleType, address: str
) -> None:
    record = line.soak(tmp_path, 400, 3, 50.0, address, power_every=180, freeze_every=150)
    found = account.reconcile(record)
    assert found.problems == []
    assert found.outcomes + found.cut_off == found.stations
    assert found.matched > 150
    assert len(record.sessions) >= 2
    fates = {fate for fate, _ in found.cells}
    assert len(fates & {"drop", "leader", "trailer", "truncated", "wrong_size", "frozen", "black", "saturated", "ignored"}) >= 4


@pytest.mark.parametrize(
    "words", ["--out nowhere/x.md", "--out .", "--rate 0", "--rate -1", "--rate nan", "--parts 0", "--seed -1"]
)
def test_what_makes_no_sense_is_refused_before_a_soak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: ModuleType, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(account, "soak", lambda *_args, **_events: pytest.fail("it began"))
    with pytest.raises(SystemExit, match="2"):
        account.main(words.split())
    assert words.split()[0] in capsys.readouterr().err


def test_the_reckoning_notices_what_does_not_reconcile(tmp_path: Path, line: ModuleType, account: ModuleType, address: str) -> None:
    record = line.soak(tmp_path, 40, 1, 80.0, address)
    assert account.reconcile(record).problems == []
    verdict = next(v for v in record.verdicts if v.outcome == "PASS")
    truth = next(t for t in record.truths if t.block_id == record.seen[verdict.seq].frame_id)
    record.truths[record.truths.index(truth)] = type(truth)(
        truth.trigger, truth.sequence, truth.block_id, "black", truth.trigger_ns
    )
    assert any("was judged" in problem for problem in account.reconcile(record).problems)
    record.verdicts.remove(verdict)
    problems = "; ".join(account.reconcile(record).problems)
    assert "are not the same" in problems
    assert "session 1" in problems


class Both:
    """A daemon in this process with two lines: `line` on a simulated camera, `other` on a folder of pictures."""

    def __init__(self, tmp_path: Path, line: ModuleType, address: str) -> None:
        self.record = line.Record()
        station = line.make_station(tmp_path, address)
        station.add_images([gray(level=100 + number) for number in range(40)])
        station.settings["cameras"][0]["frame_timeout_ms"] = 1500  # longer than a busy machine stands still
        station.settings["cameras"].append({"name": "pictures", "kind": "folder", "path": "images", "rate_hz": 40, "repeat": True})
        station.settings["lines"].append({"name": "other", "camera": "pictures", "recipe": "part", "frames": 64})
        self.running = line.Running(station, self.record)
        self.address = address

    @property
    def is_ready(self) -> bool:
        return bool(self.running.book.ready)

    def camera(self, line: ModuleType) -> SimulatedCamera:
        return line.simulate(self.address, self.record, 1, faults="")

    def outcomes(self, name: str) -> list[Verdict]:
        return [v for v in list(self.record.verdicts) if v.line == name]

    def assert_other_never_noticed(self) -> None:
        """Every part has its outcome, in its turn, and none came out of time."""
        others = sorted(self.outcomes("other"), key=lambda v: v.seq)
        assert [v.seq for v in others] == list(range(1, len(others) + 1))
        assert {v.outcome for v in others} == {"PASS"}
        times = [v.trigger_time_us for v in others]
        assert max(after - before for before, after in itertools.pairwise(times)) < 2_000_000
        assert self.record.summary["triggers"] == self.record.summary["outcomes"] == len(self.record.verdicts)


def pulse(camera: SimulatedCamera, count: int, rate_hz: float = 20.0) -> None:
    """Pulses in a row. The kernel's packet ring may keep the last picture until the next comes: look at those before it."""
    for _ in range(count):
        camera.pulse()
        time.sleep(1 / rate_hz)


def test_a_camera_that_is_absent_at_the_start_makes_the_line_ready_when_it_appears(
    tmp_path: Path, line: ModuleType, address: str
) -> None:
    both = Both(tmp_path, line, address)
    with ExitStack() as last, both.running:
        assert wait_for(lambda: "camera" in both.running.book.why_not_ready, 8)
        assert not both.is_ready
        camera = last.enter_context(both.camera(line))
        assert wait_for(lambda: both.is_ready and camera.is_acquiring, 15), both.running.book.why_not_ready
        pulse(camera, 11)
        assert wait_for(lambda: len(both.outcomes("line")) == 11)
    assert {v.outcome for v in both.outcomes("line") if v.seq <= 10} == {"PASS", "NG"}
    both.assert_other_never_noticed()


def test_a_camera_that_dies_and_comes_back_is_not_ready_in_between(tmp_path: Path, line: ModuleType, address: str) -> None:
    both = Both(tmp_path, line, address)
    with ExitStack() as last, both.running:
        with both.camera(line) as camera:
            assert wait_for(lambda: both.is_ready and camera.is_acquiring, 8)
            pulse(camera, 10)
            assert wait_for(lambda: len(both.outcomes("line")) == 10)
            camera.inject("ignored", 3)
            pulse(camera, 3)
            time.sleep(0.15)
        assert wait_for(lambda: not both.is_ready, 12), "the line is ready without its camera"
        assert wait_for(lambda: len(both.outcomes("line")) == 13)
        assert [v.reasons for v in both.outcomes("line")[10:]] == [(Reason.NO_FRAME.value,)] * 3
        assert "camera camera" in both.running.book.why_not_ready
        camera = last.enter_context(both.camera(line))
        assert wait_for(lambda: both.is_ready and camera.is_acquiring, 15)
        pulse(camera, 11)
        assert wait_for(lambda: len(both.outcomes("line")) == 24)
    assert all(v.outcome in ("PASS", "NG") for v in both.outcomes("line") if 13 < v.seq <= 23)
    both.assert_other_never_noticed()


@pytest.mark.slow
def test_a_stop_with_a_dead_camera_takes_nothing_from_the_other_line(tmp_path: Path, line: ModuleType, address: str) -> None:
    both = Both(tmp_path, line, address)
    with both.running:
        with both.camera(line) as camera:
            assert wait_for(lambda: both.is_ready and camera.is_acquiring, 8)
        asked_us = time.time_ns() // 1000
    assert time.time_ns() // 1000 - asked_us < 15_000_000
    both.assert_other_never_noticed()
    assert both.outcomes("other")[-1].trigger_time_us < asked_us + 5_000_000


class Outside:
    """The daemon in a process of its own, with a gateway."""

    def __init__(self, station: StationFolder) -> None:
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(station.write())]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        plc = station.settings["plc"]
        self.control: str = plc["control"]
        self.gateway = Gateway(plc["verdicts"], self.control)
        self.heard: list[Verdict] = []

    def is_ready(self) -> bool:
        try:
            status: Any = ask(self.control, Request(op="status"), timeout_s=1).status
        except EdgeAgentError:
            return False
        return bool(status["lines"]["line"]["state"] == "Ready")

    def hear(self, count: int, timeout_s: float = 40) -> None:
        until = time.monotonic() + timeout_s
        while len(self.heard) < count and time.monotonic() < until:
            self.heard += self.gateway.verdicts(0.05)
        assert len(self.heard) >= count, f"heard {len(self.heard)} of {count}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.gateway.close()


@pytest.fixture
def outside() -> Iterator[Callable[[StationFolder], Outside]]:
    made: list[Outside] = []

    def start(station: StationFolder) -> Outside:
        made.append(Outside(station))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_daemon_that_was_killed_takes_its_camera_over_again(
    tmp_path: Path, line: ModuleType, address: str, outside: Callable[[StationFolder], Outside]
) -> None:
    """The camera streams on to nobody, and stays the dead daemon's until its heartbeat times out."""
    station = line.make_station(tmp_path, address)
    record = line.Record()
    with line.simulate(address, record, 1, faults="") as camera:
        first = outside(station)
        assert wait_for(lambda: camera.is_acquiring, 15)
        pulse(camera, 5)
        first.hear(5)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert camera.is_acquiring
        pulse(camera, 3)
        holder = camera.controller
        second = outside(station)
        assert wait_for(lambda: camera.is_acquiring and camera.controller not in (None, holder), 20)
        assert wait_for(second.is_ready, 5)
        pulse(camera, 6)
        second.hear(5)
    epochs = {v.epoch for v in first.heard} | {v.epoch for v in second.heard}
    assert len(epochs) == 2
    assert [v.outcome for v in sorted(second.heard, key=lambda v: v.seq)].count("FAULT") == 0
