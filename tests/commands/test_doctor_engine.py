"""What the doctor says of the engine that will judge: the station's choice, and the TensorRT engine that is built or not."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import msgspec
import pytest
from fake_gpu import built, install
from fake_tensorrt import plan_of
from small_unet import SIZE, write_small_unet
from stations import StationFolder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="OpenVINO is not installed")

from edge_agent.activation import Choice, processor, read_choice, rules_hash, write_choice
from edge_agent.calibration.candidates import make, prepare
from edge_agent.commands.build_engine import models_of
from edge_agent.commands.doctor.engine import of_engines
from edge_agent.commands.doctor.looks import NOTE, PROBLEM, WELL, Look
from edge_agent.commands.doctor.machine import of_tensorrt
from edge_agent.inference import open_segmenter, tensorrt
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.settings import AutoEngine, CpuEngine, Station, TensorRtEngine, load_station

GPU = {"kind": "tensorrt", "slots": 2, "keep_warm_ms": 0, "library": "tensorrt"}


class Home:
    """A station of one recipe whose model has a candidate in FP16."""

    def __init__(self, station: StationFolder) -> None:
        self.folder = station
        station.recipe |= {"model": {"name": "unet"}, "regions": [{"name": "whole", "prepare": "resize"}]}
        self.model = load_model(write_small_unet(station.folder / "models" / "unet"))
        self.state = station.folder / "state"
        self.graph = make("fp16", prepare(finish(read_network(self.model), self.model.papers), CALIBRATED_PORTS), {})

    @property
    def settings(self) -> Station:
        return load_station(self.folder.write())

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.settings.path(self.settings.settings.recipes) / "part.yaml")

    def looks(self) -> list[Look]:
        return list(of_engines(self.settings))

    def choose(self, engine: str, **changes: object) -> None:
        content = self.graph.SerializeToString()
        choice = Choice(
            candidate="fp16",
            onnx=hashlib.sha256(content).hexdigest(),
            model=self.model.hash,
            rules=rules_hash(self.recipe),
            engine=engine,
            processor=processor(),
            speedup=1.5,
            images=100,
            flips=0,
            made_at="2026-01-01",
        )
        write_choice(self.state, self.recipe, msgspec.structs.replace(choice, **changes), content)

    def open(self, model: Model) -> str:
        """Open and close the engine as the daemon does; its id."""
        engine = open_segmenter(self.settings.settings.engine, model, self.folder.folder, self.state)
        engine.close()
        return engine.engine_id


@pytest.fixture
def home(station: StationFolder) -> Home:
    return Home(station)


@pytest.fixture
def gpu(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The station has a GPU, whose fake engines compute another network than the model's."""
    install(monkeypatch)
    built(monkeypatch, plan_of(1, SIZE, SIZE))
    monkeypatch.setattr(tensorrt, "require_parity", lambda *_: "0.1 map levels")
    home.folder.settings["engine"] = GPU
    return home


def test_without_a_choice_the_model_judges_as_it_is(home: Home) -> None:
    (look,) = home.looks()
    assert look.level == WELL
    assert look.told.startswith("recipe part: the model unet as it is, by openvino-")


def test_a_choice_of_this_station_is_told_with_what_the_gate_said(home: Home) -> None:
    home.choose(home.open(home.model))
    (look,) = home.looks()
    assert look.level == WELL
    assert "calibrated fp16-" in look.told
    assert "0 of 100 verdicts flipped, 1.50 times FP32's speed, 2026-01-01" in look.told


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"model": "0" * 64}, "of another model"), ({"rules": "0" * 64}, "rules"), ({"processor": "a b"}, "processor")],
)
def test_a_foreign_choice_is_a_note_with_its_remedy(home: Home, changes: dict[str, str], why: str) -> None:
    home.choose(home.open(home.model), **changes)
    first, second = home.looks()
    assert first.level == NOTE
    assert why in first.told
    assert "edge-agent calibrate --activate" in first.remedy
    assert str(home.state / "calibrated" / "part") in first.remedy
    assert second.told.startswith("recipe part: the model unet as it is")


def test_a_choice_of_another_engine_is_a_note(home: Home) -> None:
    home.choose("openvino-1.0/cpu/throughput")
    (look,) = home.looks()
    assert look.level == NOTE
    assert "openvino-1.0/cpu/throughput" in look.told


def test_an_engine_that_would_be_built_at_the_start_is_a_note(gpu: Home) -> None:
    (look,) = gpu.looks()
    assert look.level == NOTE
    assert "would be built at the start" in look.told
    assert look.remedy == f"build it ahead: edge-agent build-engine --config {gpu.folder.folder / 'station.yaml'}"
    engine_id = gpu.open(gpu.model)
    (look,) = gpu.looks()
    assert look.level == WELL
    assert engine_id in look.told
    assert "0.1 map levels" in look.told


def test_a_damaged_engine_is_a_note(gpu: Home) -> None:
    gpu.open(gpu.model)
    (file,) = (gpu.state / "engines").glob("*.engine")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (look,) = gpu.looks()
    assert look.level == NOTE
    assert "checksum" in look.told
    assert "build-engine" in look.remedy


def test_a_choice_on_a_gpu_is_of_the_calibrated_graphs_own_engine(gpu: Home) -> None:
    of_fp32 = gpu.open(gpu.model)
    gpu.choose(of_fp32)
    foreign, look = gpu.looks()
    assert foreign.level == NOTE
    assert "which is not kept" in foreign.told  # the calibrated graph's own
    assert (look.level, of_fp32 in look.told) == (WELL, True)
    (fp32,) = models_of(gpu.settings, [])  # `build-engine` builds none that passed no gate
    assert fp32.papers.onnx.sha256 == gpu.model.papers.onnx.sha256
    _, calibrated = read_choice(gpu.state, gpu.recipe, gpu.model) or (None, gpu.model)
    own = gpu.open(calibrated)
    assert own != of_fp32
    foreign, _ = gpu.looks()
    assert foreign.level == NOTE  # it was not measured with that one
    assert of_fp32 in foreign.told
    gpu.choose(own)
    (look,) = gpu.looks()
    assert look.level == WELL
    assert own in look.told


def test_without_a_gpu_tensorrt_is_a_problem_and_auto_a_note(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    home.folder.settings["engine"] = GPU
    (look,) = home.looks()
    assert look.level == PROBLEM
    assert look.remedy
    home.folder.settings["engine"] = {"kind": "auto"}
    (look,) = home.looks()
    assert look.level == NOTE
    assert "by the CPU" in look.told
    home.choose("tensorrt-10.3.0/Fake T4/0123456789abcdef")
    foreign, look = home.looks()
    assert "chosen on the engine tensorrt-10.3.0" in foreign.told
    assert "as it is, by the CPU" in look.told
    (home.state / "calibrated" / "part.json").unlink()
    assert [look.level for look in of_tensorrt(TensorRtEngine())] == [WELL, PROBLEM, PROBLEM]
    assert [look.level for look in of_tensorrt(AutoEngine())] == [WELL, NOTE, NOTE]
    assert [look.level for look in of_tensorrt(CpuEngine())] == [WELL]


def test_either_library_will_do_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert [look.level for look in of_tensorrt(TensorRtEngine())] == [WELL]
    looks = list(of_tensorrt(TensorRtEngine(library="tensorrt_rtx")))
    assert [look.level for look in looks] == [WELL, PROBLEM]
    assert "tensorrt_rtx missing" in looks[1].told
    assert all(look.remedy for look in looks[1:])


def test_files_that_cannot_be_read_are_left_to_others(home: Home) -> None:
    settings = home.settings
    Path(home.folder.folder / "recipes" / "part.yaml").write_text("name: [")
    assert list(of_engines(settings)) == []
