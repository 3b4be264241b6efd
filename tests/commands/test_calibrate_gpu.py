"""Calibrate on a station with a GPU, faked at the lowest call: the engine that was timed and gated is the one that judges."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bright import gray, with_defect
from fake_gpu import World, install
from fake_tensorrt import plan_of
from small_unet import SIZE, write_small_unet
from stations import Program, StationFolder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="OpenVINO is not installed")

import onnx

from edge_agent.commands.calibrating import manifest, report
from edge_agent.commands.calibrating.gate import Speed
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError, EngineUnavailable
from edge_agent.foundry import Foundry
from edge_agent.inference import tensorrt
from edge_agent.inference.model import load_model
from edge_agent.inference.tensorrt.network import Network
from edge_agent.recipe import load_recipe
from edge_agent.settings import load_station

GPU = {"kind": "tensorrt", "library": "tensorrt", "slots": 2, "keep_warm_ms": 0}
FRAMES = [with_defect(gray(SIZE, SIZE), 4, 6, 9, 5) if i % 3 == 2 else gray(SIZE, SIZE, 90 + i) for i in range(33)]


def is_half(network: Network) -> bool:
    graph = onnx.load_from_string(network.onnx).graph
    return any(each.data_type == onnx.TensorProto.FLOAT16 for each in graph.initializer)


@dataclass(frozen=True)
class Home:
    """A station with a fake GPU whose builder, as a real one, never makes the same plan twice. `builds` has every network built."""

    folder: StationFolder
    world: World
    builds: list[Network]
    edge_agent: Program

    @property
    def state(self) -> Path:
        return self.folder.folder / "state"

    @property
    def choice(self) -> dict[str, Any]:
        choice: dict[str, Any] = json.loads((self.state / "calibrated" / "part.json").read_text())
        return choice

    def calibrate(self, *words: object) -> Any:
        folder = self.folder.folder
        common = ("calibrate", "--model", folder / "models" / "unet", "--recipe", folder / "recipes" / "part.yaml")
        where = ("--images", self.folder.images, "--config", self.folder.write(), "--out", folder / "out")
        return self.edge_agent(*common, *where, "--only", "fp16", "--seconds", 0.05, "--least-speedup", 0, *words)

    def engine_id(self) -> str:
        """What the daemon would judge by."""
        foundry = Foundry(load_station(self.folder.write()))
        try:
            return foundry.forge("part", 1, 5).identity.engine_id
        finally:
            foundry.close()


@pytest.fixture
def home(station: StationFolder, within: Program, monkeypatch: pytest.MonkeyPatch) -> Home:
    builds, numbers = list[Network](), itertools.count(1)

    def build_aside(
        network: Network, timing: Path, library: str, workspace_mb: int, optimization: int, progress: Any, **_: Any
    ) -> bytes:
        timing.parent.mkdir(parents=True, exist_ok=True)
        progress("tactics 1/2")
        builds.append(network)
        return plan_of(1, SIZE, SIZE) + b" build %d" % next(numbers)

    world = install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    monkeypatch.setattr(tensorrt, "require_parity", lambda *_: "0.1 map levels")  # the fake computes another network
    station.settings["engine"] = GPU
    station.recipe |= {"model": {"name": "unet"}, "regions": [{"name": "whole", "prepare": "resize"}]}
    write_small_unet(station.folder / "models" / "unet")
    station.add_images(FRAMES)
    return Home(station, world, builds, within)


def test_the_engine_that_was_timed_and_gated_is_the_one_that_judges(home: Home) -> None:
    ran = home.calibrate("--activate")
    assert ran.returncode == 0, ran.stderr
    assert "fp16: its engine is being built" in ran.stderr
    engines = json.loads((home.folder.folder / "out" / "manifest.json").read_text())["gate"]["engines"]
    assert engines["fp16"] == home.choice["engine"]
    daemon = Daemon(load_station(home.folder.write()))
    verdicts: list[Any] = []
    daemon.publisher.on_verdict = verdicts.append
    daemon.run()
    assert {verdict.engine_id.rpartition("/")[0] for verdict in verdicts} == {engines["fp16"]}
    assert [verdict.outcome for verdict in sorted(verdicts, key=lambda each: each.seq)] == ["PASS", "PASS", "NG"] * 11
    assert [is_half(network) for network in home.builds] == [False, True]  # FP32 and the candidate, once each
    assert {file.suffix for file in (home.state / "engines").iterdir()} == {".engine"}
    assert not (home.folder.folder / "engines").exists()
    assert home.world.used == 0


def test_another_build_of_the_same_graph_has_not_passed_the_gate(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    assert home.calibrate("--activate").returncode == 0
    for file in (home.state / "engines").glob("*.engine"):
        file.unlink()
    judging = home.engine_id()
    assert "fp16" not in judging
    assert [is_half(network) for network in home.builds] == [False, True, False]  # FP32 alone is built again
    assert "".join(capfd.readouterr()).count("engine.choice_refused") == 1
    told = home.edge_agent("build-engine", "--config", home.folder.write(), "--rebuild")
    assert "recipe part: FP32 judges: fp16-" in told.stdout
    assert "not kept" in told.stdout
    assert [is_half(network) for network in home.builds] == [False, True, False, False]

    again = home.calibrate("--activate", "--gate-only")
    assert again.returncode == 0, again.stderr
    assert home.engine_id().startswith(f"{home.choice['engine']}/fp16-")
    told = home.edge_agent("build-engine", "--config", home.folder.write())
    assert f"judges, {home.choice['engine']}" in told.stdout
    assert [is_half(network) for network in home.builds] == [False, True, False, False, True]


def test_the_choice_is_kept_as_long_as_its_engine_is_open_or_in_its_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.calibrate("--activate").returncode == 0
    home.folder.settings["engine"] = {"kind": "auto"}
    foundry = Foundry(load_station(home.folder.write()))
    try:
        engine_id = foundry.forge("part", 1, 5).identity.engine_id
        assert engine_id.startswith(home.choice["engine"])
        for file in (home.state / "engines").glob("*.engine"):
            file.unlink()
        assert foundry.forge("part", 2, 5).identity.engine_id == engine_id
    finally:
        foundry.close()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert home.engine_id().startswith("openvino")  # `auto` without its GPU: FP32 on the CPU
    assert "fp16" not in home.engine_id()


def test_after_an_update_of_the_driver_nothing_is_built_for_the_choice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.calibrate("--activate").returncode == 0
    import pycuda.driver

    monkeypatch.setattr(pycuda.driver, "get_driver_version", lambda: 13010)
    assert "fp16" not in home.engine_id()
    assert [is_half(network) for network in home.builds] == [False, True, False]


def test_a_candidate_that_the_gpu_refuses_is_refused_and_not_tried_on_the_cpu(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tensorrt.build_aside

    def build_aside(network: Network, *others: Any, **more: Any) -> bytes:
        if is_half(network):
            raise ConfigurationError("no implementation for node 7")
        return original(network, *others, **more)

    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    home.folder.settings["engine"] = {"kind": "auto"}
    ran = home.calibrate()
    assert ran.returncode == 1, ran.stderr
    gate = json.loads((home.folder.folder / "out" / "manifest.json").read_text())["gate"]
    assert gate["refusals"]["fp16"] == ["the engine does not take it: no implementation for node 7"]
    assert list(gate["engines"]) == ["fp32"]
    assert "Fake T4" in gate["engine"]


def test_where_the_gpu_fails_for_fp32_all_are_tried_on_the_cpu(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tensorrt.build_aside

    def build_aside(network: Network, *others: Any, **more: Any) -> bytes:
        if not is_half(network):
            raise EngineUnavailable("too little free memory")
        return original(network, *others, **more)

    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    home.folder.settings["engine"] = {"kind": "auto"}
    home.calibrate()
    engines = json.loads((home.folder.folder / "out" / "manifest.json").read_text())["gate"]["engines"]
    assert {each.partition("-")[0] for each in engines.values()} == {"openvino"}
    assert home.builds == []


def test_an_engine_that_cannot_be_kept_is_not_activated(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder takes nothing: the line would judge by another build than the one that was timed."""

    def write_engine(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorrt, "write_engine", write_engine)
    ran = home.calibrate("--activate")
    assert ran.returncode == 1
    assert "was timed on the engine" in ran.stderr
    assert not (home.state / "calibrated").exists()


@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_cu12", "tensorrt_cu13"])
def test_the_manifest_tells_tensorrts_version_however_its_package_is_called(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == package:
            return "10.16.1"
        raise manifest.PackageNotFoundError(name)

    monkeypatch.setattr(manifest, "version", version)
    tools = manifest.this_machine()["tools"]
    assert {name: told for name, told in tools.items() if name not in ("edge-agent", "python")} == {"tensorrt": "10.16.1"}


def test_the_manifest_tells_the_gpus_or_the_board_that_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, gpus = tmp_path / "model", tmp_path / "gpus"
    monkeypatch.setattr(manifest, "_BOARD", board)
    monkeypatch.setattr(manifest, "_GPUS", gpus)
    assert manifest.this_machine()["gpus"] == []
    board.write_text("Raspberry Pi 5\0")
    assert manifest.this_machine()["gpus"] == []
    board.write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
    assert manifest.this_machine()["gpus"] == ["NVIDIA Jetson AGX Orin Developer Kit"]
    (gpus / "0000:01:00.0").mkdir(parents=True)
    (gpus / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA T4\nIRQ:   \t\t 35\n")
    assert manifest.this_machine()["gpus"] == ["NVIDIA T4"]


@pytest.mark.parametrize(("engine", "usual"), [("openvino-2026/cpu/latency", "processor"), ("tensorrt-10.3.0/T4/01", "GPU")])
def test_where_int8_gains_nothing_the_report_says_on_what_that_is_usual(tmp_path: Path, engine: str, usual: str) -> None:
    station = StationFolder(tmp_path)
    station.write()
    recipe, model = load_recipe(station.folder / "recipes" / "part.yaml"), load_model(station.folder / "models" / "bright")
    calibration: manifest.Calibration = {"images": 1, "used": 1, "tensors": 1, "sha256": "", "ranges": "minmax", "percentile": None}
    of_desk = {"calibration": calibration, "ranges": {}, "candidates": {}, "made_at": "", "made_on": manifest.this_machine()}
    gate = {"engine": engine, "golden": {"defective": 1, "good": 1}}
    told = manifest.Manifest(**manifest.about(model, recipe), **of_desk, gate=gate)
    speeds = {name: Speed(100, 10, 1, 1, 1) for name in ("fp32", "int8")}
    (warning,) = report._warnings(report.Report(told, recipe, [], {}, {}, speeds, {}, None))
    assert f"That is usual on a {usual} " in warning
