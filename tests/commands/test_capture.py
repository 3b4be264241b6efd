"""`edge-agent capture`: every picture on the disk as the camera took it, every lost one told, and the camera free again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from aravis import require_aravis
from bright import gray
from simulation import wait_for
from stations import Program, StationFolder

from edge_agent.simulator import SimulatedCamera, Truth

ADDRESS = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.250"


def index(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


@pytest.fixture
def simulated(station: StationFolder) -> Any:
    """The station's camera is a simulated one; it is closed in the end."""
    require_aravis()
    camera = SimulatedCamera(ADDRESS, rows=64, cols=96, rate_hz=50, exposure_us=100.0)
    camera.open()
    station.settings["cameras"] = [{"name": "cam", "kind": "aravis", "address": ADDRESS, "socket": "standard"}]
    station.settings["lines"][0]["camera"] = "cam"
    yield camera
    camera.close()


def test_a_folder_is_captured_and_its_end_is_told(edge_agent: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray(), gray(), gray()])
    got = edge_agent("capture", "--config", station.write(), "--count", 2, "--out", "two")
    assert got.returncode == 0, got.stderr
    assert got.stdout.startswith("saved 2 of 2 pictures in two; lost: none")
    for line in index(tmp_path / "two"):
        shown = cv2.imread(str(tmp_path / "two" / line["file"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(shown, gray())
        assert (line["rows"], line["cols"]) == shown.shape
        assert abs(line["trigger_time_us"] / 1e6 - time.time()) < 60
    short = edge_agent("capture", "--config", station.write(), "--count", 9, "--out", "nine")
    assert short.returncode == 1
    assert "saved 3 of 9" in short.stdout
    assert len(index(tmp_path / "nine")) == 3


def test_a_software_trigger_is_given_by_the_command(
    edge_agent: Program, station: StationFolder, simulated: SimulatedCamera, tmp_path: Path
) -> None:
    simulated.inject("drop")
    file = station.write()
    got = edge_agent("capture", "--config", file, "--set", "cameras.0.trigger=software", "--count", 4, "--out", "out", timeout_s=30)
    assert got.returncode == 0, got.stderr
    assert "saved 4 of 4 pictures in out; lost: 1 no_frame" in got.stdout
    assert "lost 1: no_frame, no picture within" in got.stderr
    truths = [truth for truth in simulated.log if isinstance(truth, Truth) and truth.fate == "good"]
    lines = index(tmp_path / "out")
    assert len(truths) == len(lines) == 4
    for truth, line in zip(truths, lines, strict=True):
        shown = cv2.imread(str(tmp_path / "out" / line["file"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(shown, simulated.picture(truth.sequence))
    assert wait_for(lambda: not simulated.is_acquiring)


def test_a_trigger_that_never_comes_ends_at_the_timeout(
    edge_agent: Program, station: StationFolder, simulated: SimulatedCamera
) -> None:
    station.settings["cameras"][0]["trigger"] = "hardware"
    begun = time.monotonic()
    got = edge_agent("capture", "--config", station.write(), "--count", 1, "--out", "out", "--timeout", 1)
    assert got.returncode == 1
    assert "saved 0 of 1" in got.stdout
    assert "--timeout is over" in got.stderr
    assert 1 < time.monotonic() - begun < 8


def test_a_camera_that_fails_meanwhile_is_opened_again(
    edge_agent: Program, station: StationFolder, simulated: SimulatedCamera, tmp_path: Path
) -> None:
    command = ["capture", "--config", str(station.write()), "--count", "150", "--out", "out", "--timeout", "40"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert wait_for(lambda: (tmp_path / "out" / "000010.png").exists(), 15)
    simulated.power_cycle()
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    assert "saved 150 of 150" in out
    assert "camera failed:" in err
    assert len(index(tmp_path / "out")) == len(list((tmp_path / "out").glob("*.png"))) == 150


def test_an_absent_camera_is_an_error_at_once_and_the_next_try_may_have_the_folder(
    edge_agent: Program, station: StationFolder, simulated: SimulatedCamera
) -> None:
    simulated.close()
    words = ["capture", "--config", station.write(), "--count", 1, "--out", "out", "--timeout", 30]
    got = edge_agent(*words, timeout_s=15)
    assert got.returncode == 1
    assert f"camera cam at {ADDRESS}" in got.stderr
    simulated.open()
    got = edge_agent(*words)
    assert got.returncode == 0, got.stderr


def test_a_signal_lets_go_of_the_camera(station: StationFolder, simulated: SimulatedCamera, tmp_path: Path) -> None:
    command = ["capture", "--config", str(station.write()), "--count", "100000", "--out", "out"]
    process = subprocess.Popen([sys.executable, "-m", "edge_agent", *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: simulated.is_acquiring, 15)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 130
    assert not simulated.is_acquiring


def test_what_makes_no_sense_is_refused(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray()])
    station.settings["cameras"].append({"name": "other", "kind": "folder", "path": "images"})
    file = station.write()
    for words, told in [
        ((), "has camera, other. Name one with --camera"),
        (("--camera", "none"), "no camera is called none"),
        (("--camera", "other", "--slots", 10**12), "--slots 1000000000000, of "),
        (("--camera", "other", "--slots", 10**18), "find no room in memory"),
    ]:
        got = within("capture", "--config", file, "--out", "out", *words)
        assert (got.returncode, told in got.stderr) == (2, True), got.stderr
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "frames.jsonl").write_text("kept\n")
    got = within("capture", "--config", file, "--camera", "other", "--out", "out")
    assert got.returncode == 2
    assert (tmp_path / "out" / "frames.jsonl").read_text() == "kept\n"
    (tmp_path / "out" / "frames.jsonl").rename(tmp_path / "out" / "000000.png")
    got = within("capture", "--config", file, "--camera", "other", "--out", "out")
    assert (got.returncode, "holds pictures already" in got.stderr) == (2, True), got.stderr
    assert (tmp_path / "out" / "000000.png").read_text() == "kept\n"


def test_what_cannot_be_written_ends_it(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray(), gray()])
    (tmp_path / "out" / "000001.png").mkdir(parents=True)
    got = within("capture", "--config", station.write(), "--count", 2, "--out", "out")
    assert got.returncode == 1
    assert "000001.png cannot be written: Is a directory" in got.stderr
    assert "Traceback" not in got.stderr
    assert [line["file"] for line in index(tmp_path / "out")] == ["000000.png"]
