"""A station whose engine is TensorRT: it comes late, is replaced by the CPU, breaks under way; never a wrong PASS or silence."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bright import gray, with_defect
from fake_gpu import Error, built, install
from stations import Program, StationFolder

from edge_agent import golden, notify, swapping
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError, EngineError, EngineLost
from edge_agent.inference import tensorrt
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.inference.tensorrt import build
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.settings import load_station
from edge_agent.wire import Verdict

pytest.importorskip("openvino")
GPU = {"kind": "tensorrt", "slots": 2, "keep_warm_ms": 0}
FOUR_TILES = {
    "deadline_ms": 13,
    "regions": [{"name": "r", "width": 200, "height": 64, "prepare": "tile", "overlap_px": 0}],
}


def open_daemon(station: StationFolder) -> tuple[Daemon, list[Verdict]]:
    daemon = Daemon(load_station(station.write()))
    verdicts: list[Verdict] = []
    daemon.publisher.on_verdict = verdicts.append
    return daemon, verdicts


def reasons(verdicts: list[Verdict]) -> list[tuple[str, tuple[str, ...]]]:
    return [(v.outcome, v.reasons) for v in sorted(verdicts, key=lambda v: v.seq)]


def test_parts_are_judged_by_the_gpu(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = install(monkeypatch)
    built(monkeypatch)
    station.settings["engine"] = GPU
    station.add_images(images(9))
    daemon, verdicts = open_daemon(station)
    daemon.run()
    assert [outcome for outcome, _ in reasons(verdicts)] == ["PASS", "PASS", "NG"] * 3
    assert verdicts[0].engine_id.startswith("tensorrt-10.3.0/Fake T4/")
    assert "+locked" in world.log  # a frame of the network's size is fetched from the ring
    assert world.used == 0


def test_without_a_gpu_it_is_up_and_not_ready(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], no_gpu: None
) -> None:
    station.settings["engine"] = GPU
    station.add_images(images(3))
    daemon, verdicts = open_daemon(station)
    daemon.run()
    assert reasons(verdicts) == [("FAULT", ("not_ready",))] * 3


def test_an_engine_that_comes_later_makes_the_line_ready(
    station: StationFolder, no_gpu: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(swapping, "_ENGINE_AGAIN_S", (0.05,))
    station.settings["engine"] = GPU
    station.settings["cameras"] = [{"name": "camera", "kind": "synthetic", "rows": 64, "cols": 64, "trigger": "software"}]
    daemon, verdicts = open_daemon(station)
    book = daemon.lines[0].book
    daemon.start()
    wait(lambda: "pycuda" in book.why_not_ready or "TensorRT" in book.why_not_ready)
    assert daemon.publisher.heartbeat()["lines"]["line"]["state"] == "Error"
    daemon.lines[0].grabber.triggers.trigger("early")
    install(monkeypatch)
    built(monkeypatch)
    wait(lambda: book.ready)
    daemon.lines[0].grabber.triggers.trigger("late")
    wait(lambda: len(verdicts) == 2)
    daemon.close()
    early, late = sorted(verdicts, key=lambda v: v.seq)
    assert early.reasons == ("not_ready",)
    assert late.reasons not in (("not_ready",), ("engine",))
    assert "Fake T4" in late.engine_id
    said = "".join(capfd.readouterr())
    assert said.count("engine.unavailable") == 1
    assert said.count("engine.available") == 1


def test_an_engine_that_comes_later_brings_the_alarm_of_the_recipe_as_it_is_by_then(
    station: StationFolder, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "_ENGINE_AGAIN_S", (0.05,))
    station.settings["engine"] = GPU
    station.settings["cameras"] = [{"name": "camera", "kind": "synthetic", "rows": 64, "cols": 64, "trigger": "software"}]
    daemon, _ = open_daemon(station)
    daemon.start()
    station.recipe["alarm_after_ng"] = 1
    station.write()
    install(monkeypatch)
    built(monkeypatch)
    wait(lambda: daemon.lines[0].book.ready)
    daemon.close()
    daemon.publisher.alarms.note_outcome("line", "NG")
    assert "ng_in_a_row/line" in daemon.publisher.alarms.active


def wait(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def test_auto_falls_back_to_the_cpu_and_says_so(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], no_gpu: None, capfd: pytest.CaptureFixture[str]
) -> None:
    station.settings["engine"] = {"kind": "auto"}
    station.add_images(images(3))
    daemon, verdicts = open_daemon(station)
    daemon.run()
    assert [outcome for outcome, _ in reasons(verdicts)] == ["PASS", "PASS", "NG"]
    assert verdicts[0].engine_id.startswith("openvino")
    assert "".join(capfd.readouterr()).count("engine.fallback") == 1


def test_auto_is_not_ready_where_the_cpu_cannot_meet_the_deadline(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], no_gpu: None
) -> None:
    station.settings["engine"] = {"kind": "auto"}
    station.recipe["deadline_ms"] = 5.001
    station.add_images(images(2))
    daemon, verdicts = open_daemon(station)
    assert "the recipe's deadline less the guard" in daemon.lines[0].bundle.refusal
    daemon.run()
    assert {v.outcome for v in verdicts} == {"FAULT"}
    assert not any(v.model_hash == "" for v in verdicts)


def test_auto_counts_the_tiles_of_a_part(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuSegmenter, "warm_up", lambda _: 2.0)
    station.settings["engine"] = {"kind": "auto"}
    station.recipe |= FOUR_TILES
    station.add_images(images(1))
    daemon, _ = open_daemon(station)  # four tiles of 2 ms in the 8 ms that the guard leaves
    assert "takes 2.0 ms, a part has 4 of them at least" in daemon.lines[0].bundle.refusal
    daemon.start()
    daemon.close()
    station.recipe["deadline_ms"] = 13.001
    daemon, _ = open_daemon(station)
    assert not daemon.lines[0].bundle.refusal
    daemon.start()
    daemon.close()


def test_auto_counts_no_tiles_where_a_gpu_overlaps_them(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    built(monkeypatch)
    monkeypatch.setattr(TensorRtSegmenter, "warm_up", lambda _: 2.0)
    station.settings["engine"] = {"kind": "auto"}
    station.recipe |= FOUR_TILES
    station.add_images(images(1))
    daemon, _ = open_daemon(station)  # four tiles, two or three at a time
    assert "Fake T4" in daemon.lines[0].bundle.identity.engine_id
    assert not daemon.lines[0].bundle.refusal
    daemon.start()
    daemon.close()


def test_a_gpu_that_breaks_ends_the_daemon_after_its_parts(
    station: StationFolder,
    images: Callable[[int], list[np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # the daemon sets its own
    world = install(monkeypatch)
    built(monkeypatch)
    station.settings["engine"] = GPU
    station.add_images([with_defect(gray(), 10, 20, 8, 6)] * 200)
    daemon, verdicts = open_daemon(station)

    def note(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if len(verdicts) == 5:
            world.broken = Error("cuEventQuery failed: an illegal memory access was encountered")

    daemon.publisher.on_verdict = note
    with pytest.raises(EngineLost, match="illegal memory access") as failure:
        daemon.run()
    assert failure.value.exit_code == 1
    found = [(v.outcome, v.reasons) for v in sorted(verdicts, key=lambda v: v.seq)]
    assert ("FAULT", ("engine",)) in found
    assert not [each for each in found if each[0] == "PASS"]
    assert daemon.summary()["triggers"] == len(found)
    assert "".join(capfd.readouterr()).count("engine.lost") == 1


def test_a_damaged_model_ends_it_for_good(station: StationFolder, no_gpu: None) -> None:
    station.settings["engine"] = GPU
    file = station.folder / "models" / "bright" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ConfigurationError, match="damaged or another model"):
        Daemon(load_station(station.write()))


def test_a_network_that_cannot_be_built_ends_it_for_good(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

    def build_aside(*_: Any, **__: Any) -> bytes:
        raise ConfigurationError("tensorrt cannot build the network: no implementation for node 7.")

    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    station.settings["engine"] = GPU
    with pytest.raises(ConfigurationError, match="node 7"):
        Daemon(load_station(station.write()))


def test_engines_are_built_ahead_or_the_reason_told(station: StationFolder, edge_agent: Program, within: Program) -> None:
    station.settings["engine"] = {"kind": "cpu"}
    told = within("build-engine", "--config", station.write())
    assert told.returncode == 2
    assert "only `tensorrt` and `auto`" in told.stderr
    station.settings["engine"] = {"kind": "tensorrt", "library": "tensorrt", "device": 63}
    told = edge_agent("build-engine", "--config", station.write())
    assert told.returncode == 1
    assert "no TensorRT can be imported" in told.stderr or "needs pycuda" in told.stderr or "GPU" in told.stderr


def test_while_an_engine_is_built_systemd_is_asked_for_time_and_told_why(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch)
    monkeypatch.setattr(build, "_CHILD", "slow_builder")
    monkeypatch.setattr(notify, "_TELL_S", 0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path]))
    monkeypatch.setenv("SLOW_BUILDER_GO", str(tmp_path / "go"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    station.settings["engine"] = GPU
    station.add_images(images(3))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        outcomes: list[list[Verdict]] = []

        def run() -> None:
            daemon, verdicts = open_daemon(station)
            daemon.start()
            wait(lambda: len(verdicts) == 3)
            daemon._supervision.look()
            daemon.close()
            outcomes.append(verdicts)

        thread = threading.Thread(target=run)
        thread.start()
        heard = [manager.recv(4096).decode().split("\n") for _ in range(3)]
        (tmp_path / "go").touch()
        while heard[-1][0] != "READY=1":
            heard.append(manager.recv(4096).decode().split("\n"))
        manager.setblocking(False)
        while thread.is_alive():
            with contextlib.suppress(BlockingIOError):
                manager.recv(4096)
            thread.join(0.01)
    building = [words for words in heard if words[0].startswith("EXTEND_TIMEOUT_USEC=") and len(words) == 2]
    assert len(building) >= 2
    for extend, status in building:
        assert extend == "EXTEND_TIMEOUT_USEC=120000000"
        assert re.fullmatch(r"STATUS=building the engine of bright for \d+ s: tactics \d+/99", status)
    assert [outcome for outcome, _ in reasons(outcomes[0])] == ["PASS", "PASS", "NG"]


def test_a_stop_gives_up_the_engine_that_is_being_built(
    station: StationFolder,
    images: Callable[[int], list[np.ndarray]],
    no_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What opened it after the end would have a GPU's context in a process that ends."""
    monkeypatch.setattr(swapping, "_ENGINE_AGAIN_S", (0.05,))
    monkeypatch.setattr(build, "_CHILD", "slow_builder")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path]))
    monkeypatch.setenv("SLOW_BUILDER_GO", str(station.folder / "never"))
    station.settings["engine"] = GPU
    station.add_images(images(3))
    daemon, verdicts = open_daemon(station)
    daemon.start()
    install(monkeypatch)
    wait(lambda: daemon._foundry._building.text.endswith("/99"))
    daemon.close()
    assert "open-engine" not in [thread.name for thread in threading.enumerate()]
    assert list((station.folder / "state" / "engines").iterdir()) == []
    assert reasons(verdicts) == [("FAULT", ("not_ready",))] * 3
    assert "station.thread_failed" not in "".join(capfd.readouterr())


LOST = Error("cuEventQuery failed: an illegal memory access was encountered")


def test_a_gpu_that_breaks_before_the_lines_run_ends_the_daemon_all_the_same(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While another engine is built, say: the idle one notices as it keeps itself warm."""
    world = install(monkeypatch)
    built(monkeypatch)
    station.settings["engine"] = {**GPU, "keep_warm_ms": 5}
    station.add_images([gray()])
    daemon, verdicts = open_daemon(station)
    world.broken = LOST
    wait(lambda: daemon._stop.is_set())
    with pytest.raises(EngineLost, match="illegal memory access"):
        daemon.run()
    assert all(v.outcome == "FAULT" for v in verdicts)
    assert "".join(capfd.readouterr()).count("engine.lost") == 1


def test_a_gpu_that_breaks_on_a_golden_picture_is_no_fault_of_the_recipe(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 78 would keep the service down for good."""
    world = install(monkeypatch)
    built(monkeypatch)
    station.settings["engine"] = GPU
    station.add_images([gray()])
    station.recipe["golden"] = {"good": ["good.png"], "bad": ["bad.png"]}
    station.write()
    for name, picture in (("good", gray()), ("bad", with_defect(gray(), 10, 20, 8, 6))):
        cv2.imwrite(str(station.folder / "recipes" / f"{name}.png"), picture)
    judge = golden.judge

    def breaking(*words: Any) -> Any:
        world.broken = LOST
        return judge(*words)

    monkeypatch.setattr(golden, "judge", breaking)
    with pytest.raises(EngineError, match="illegal memory access") as raised:
        open_daemon(station)
    assert raised.value.exit_code == 1
