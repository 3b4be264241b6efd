"""The benchmarks' interfaces and what they must never lose. How fast they are is printed, not asserted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aravis import require_aravis
from stations import Program

from edge_agent.commands.benchmarks import metrics as benchmark_metrics

PLUMBING = {"parts_per_s", "ng_share", "unaccounted", "p50_ms", "p99_ms", "rss_growth_kb", "bare_parts_per_s"}
STATION = {"station_fps", "engine_fps", "ratio", "cpu_ms_per_part"}
CAMERA = {"fps", "bare_fps", "ratio", "bad_frames", "cpu_ms_per_frame", "size"}
BOTH = {"seconds", "machine", "command"}


@pytest.mark.parametrize("ng_share", [0.01, 0.1])
def test_plumbing_accounts_for_every_part(edge_agent: Program, ng_share: float) -> None:
    result = edge_agent("benchmark", "plumbing", "--json", "--parts", 3000, "--ng-share", ng_share)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() >= PLUMBING | BOTH
    assert told["unaccounted"] == 0
    assert told["ng_share"] == ng_share


def test_a_benchmark_that_is_ended_leaves_no_daemon_and_no_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")  # short, for the sockets in it
    command = [sys.executable, "-m", "edge_agent", "benchmark", "plumbing", "--parts", "2000000"]
    places = {"TMPDIR": str(folder)}
    with subprocess.Popen(command, env={**os.environ, **places}, stderr=subprocess.DEVNULL) as benchmark:
        until = time.monotonic() + 60
        while not list(folder.glob("*/state-flat")) and benchmark.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        pids = Path(f"/proc/{benchmark.pid}/task/{benchmark.pid}/children").read_text().split()
        benchmark.send_signal(signal.SIGTERM)
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert (benchmark.returncode, len(pids), left) == (-signal.SIGTERM, 1, [])
    assert list(folder.iterdir()) == []


def test_metrics_are_measured_against_a_daemon_without_them(within: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_metrics, "_ROUNDS", 2)  # of three daemons each
    result = within("benchmark", "metrics", "--json", "--parts", 500)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    sides = {f"{what}_{side}" for what in ("cpu_us_per_part", "parts_per_s") for side in ("off", "on", "scraped")}
    assert told.keys() >= sides | {"ratio_cpu_on", "ratio_cpu_scraped", "machine", "command"}
    assert told["unaccounted"] == 0


def test_station_stands_beside_the_bare_engine(edge_agent: Program) -> None:
    result = edge_agent("benchmark", "station", "--json", "--seconds", 1)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() >= STATION | BOTH
    assert told["ratio"] == pytest.approx(told["station_fps"] / told["engine_fps"], rel=0.5)


def test_camera_stands_beside_the_bare_library(edge_agent: Program) -> None:
    require_aravis()
    result = edge_agent("benchmark", "camera", "--json", "--size", "320x240", "--seconds", 0.3, timeout_s=40)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() >= CAMERA | BOTH
    assert told["size"] == "320x240"
    assert told["frames"] > 50
    assert told["fps"] > 0 and told["bare_fps"] > 0
    ratios = sorted(own / bare for bare, own in told["rounds"])
    assert told["ratio"] == pytest.approx(ratios[len(ratios) // 2], rel=0.02)


def test_camera_follows_triggers_to_their_pictures_though_packets_are_lost(edge_agent: Program) -> None:
    require_aravis()
    words = ("--json", "--size", "320x240", "--parts", 20, "--faults", "loss=0.1,resend_loss=0.1")
    result = json.loads(edge_agent("benchmark", "camera", *words, timeout_s=40).stdout)
    assert (result["triggers"], result["pictures"], result["lost_parts"], result["unaccounted"]) == (20, 20, 0, 0)
    assert result["resent_packets"] > 0


def test_camera_refuses_a_size_that_is_none(within: Program) -> None:
    result = within("benchmark", "camera", "--size", "wide")
    assert result.returncode == 2
    assert "--size wide is no WxH" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plumbing", "--candidates", "out"), "--candidates changes nothing of benchmark plumbing: it is for engine"),
        (("station", "--parts", 5), "--parts changes nothing of benchmark station: it is for plumbing, metrics, camera"),
        (("engine", "--hint", "throughput"), "--hint changes nothing of benchmark engine"),
        (("metrics", "--size", "9x9"), "--size changes nothing of benchmark metrics"),
        (("camera", "--faults", "loss=0.1"), "Give --parts N beside it"),
        (("camera", "--parts", 5, "--rate", 3), "Leave --seconds and --rate out"),
    ],
)
def test_words_of_another_measurement_are_refused(within: Program, words: tuple[object, ...], said: str) -> None:
    refused = within("benchmark", *words)
    assert refused.returncode == 2
    assert said in refused.stderr
