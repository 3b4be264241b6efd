"""TensorRT's rows of `benchmark engine`, on the faked GPU, whose clock is known: what each column tells; nothing is left."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpu import World, install
from fake_tensorrt import plan_of
from small_unet import SIZE, write_small_unet
from stations import ROOT, Program

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx

from edge_agent.calibration.candidates import CANDIDATES
from edge_agent.calibration.cost import cost_of
from edge_agent.commands.benchmarks import gpu as benchmark_gpu
from edge_agent.commands.benchmarks.engine import graphs_of, measure_engines, table_of
from edge_agent.commands.benchmarks.gpu import measure_gpu, throttling
from edge_agent.commands.calibrating.manifest import Calibration, Manifest, about, made, this_machine, write_manifest
from edge_agent.errors import EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.model import CALIBRATED_PORTS, load_model
from edge_agent.inference.tensorrt.network import Network
from edge_agent.recipe import load_recipe

PIXELS = SIZE * SIZE


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    def build_aside(network: Network, *_: object) -> bytes:
        batch = onnx.load_from_string(network.onnx).graph.input[0].type.tensor_type.shape.dim[0].dim_value
        return plan_of(1, SIZE, SIZE, batch)

    monkeypatch.setattr(benchmark_gpu, "build_aside", build_aside)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    return install(monkeypatch)


def rows_of(folder: Path, told: list[str]) -> list[dict[str, Any]]:
    model = load_model(write_small_unet(folder / "unet"))
    return list(measure_gpu(model, graphs_of(model, None), (1, 4), 0.01, told.append))


@pytest.mark.parametrize("captures", [True, False])
def test_each_precision_and_batch_has_its_times_by_the_gpus_clock(world: World, tmp_path: Path, captures: bool) -> None:
    if not captures:
        world.fail["begin"] = 1
    rows = rows_of(tmp_path, [])
    assert [(row["precision"], row["batch"]) for row in rows] == [(p, b) for p in ("fp32", *CANDIDATES) for b in (1, 4)]
    for row in rows:
        batch = row["batch"]
        assert row["engine"] == "tensorrt-10.3.0/Fake T4"
        assert row["h2d_ms"] == pytest.approx(batch * PIXELS / 1e7, abs=1e-4)
        assert row["compute_ms"] == pytest.approx(2 * batch, abs=1e-4)
        assert row["d2h_ms"] == pytest.approx(batch * (PIXELS + 4) / 1e7, abs=1e-4)
        assert row["images_per_s"] > 0
        assert row["latency_p99_ms"] >= row["latency_p50_ms"] > 0
        assert row["graph_nodes"] == (4 if captures else 0)
    assert world.used == 0
    assert world.pushed == 0


def test_the_roofline_is_of_the_listed_operations_and_the_measured_bytes(world: World, tmp_path: Path) -> None:
    row = next(row for row in rows_of(tmp_path, []) if row["precision"] == "fp32")
    assert row["peak_gbytes_per_s"] == pytest.approx(300, rel=0.01)
    clocks = 40 * 1.59e9  # multiprocessors of the fake, by the clock it lists
    assert row["peak_gop_per_s"]["float32"] == pytest.approx(128 * clocks / 1e9, rel=0.01)
    assert "listed" in row["peak"] and "measured" in row["peak"]
    assert row["roofline_share"] == pytest.approx(row["roofline_ms"] / row["compute_ms"], abs=1e-3)


def test_a_gpu_that_is_not_listed_has_no_roofline(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(benchmark_gpu.PER_CLOCK, "7.5")
    row = rows_of(tmp_path, [])[0]
    assert (row["roofline_ms"], row["roofline_share"], row["peak_gop_per_s"]) == (None, None, {})
    assert "not listed" in row["peak"]


def test_a_gpu_that_tells_no_clock_has_no_roofline(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = sys.modules["pycuda.driver"].Device
    told = device.get_attribute
    monkeypatch.setattr(device, "get_attribute", staticmethod(lambda name: 0 if name == 13 else told(name)))
    row = rows_of(tmp_path, [])[0]
    assert (row["roofline_ms"], row["roofline_share"], row["peak_gop_per_s"]) == (None, None, {})
    assert row["compute_ms"] > 0


def test_a_library_whose_gpu_fails_leaves_the_others(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([EngineError("the GPU failed in the copy")])
    original = benchmark_gpu.copied_bytes_per_s

    def copied_bytes_per_s(gpu: Any) -> float:
        for error in asked:
            raise error
        return original(gpu)

    monkeypatch.setattr(benchmark_gpu, "copied_bytes_per_s", copied_bytes_per_s)
    monkeypatch.setattr(benchmark_gpu, "LIBRARIES", ("tensorrt", "tensorrt"))  # the second as well as any
    told: list[str] = []
    assert len(rows_of(tmp_path, told)) == 2 * (1 + len(CANDIDATES))
    assert told[0] == "no rows of tensorrt: the GPU failed in the copy"


def test_a_precision_that_cannot_be_built_leaves_the_others(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = benchmark_gpu.build_aside

    def build_aside(network: Network, *others: Any) -> bytes:
        if any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(network.onnx).graph.node):
            raise EngineError("no implementation in 8 bits")
        return original(network, *others)

    monkeypatch.setattr(benchmark_gpu, "build_aside", build_aside)
    told: list[str] = []
    rows = rows_of(tmp_path, told)
    assert {row["precision"] for row in rows} == {"fp32", "fp16"}
    assert [text for text in told if text == "no row of tensorrt int8 batch 4: no implementation in 8 bits"]
    assert world.used == 0


def test_a_precision_that_this_version_does_not_know_leaves_the_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As float16 of TensorRT 8, whose int8 is to be measured all the same; it is asked for once."""
    original = benchmark_gpu.build_aside

    def build_aside(network: Network, *others: Any) -> bytes:
        if any(each.data_type == onnx.TensorProto.FLOAT16 for each in onnx.load_from_string(network.onnx).graph.initializer):
            raise EngineUnavailable("builds no network with float16 in its file")
        return original(network, *others)

    monkeypatch.setattr(benchmark_gpu, "build_aside", build_aside)
    told: list[str] = []
    rows = rows_of(tmp_path, told)
    assert [(row["precision"], row["batch"]) for row in rows] == [(p, b) for p in ("fp32", "int8") for b in (1, 4)]
    assert [text for text in told if "fp16" in text and text.startswith("no row")] == [
        f"no row of tensorrt {name} batch 1 or more: builds no network with float16 in its file"
        for name in ("fp16", "int8_level0_fp16")
    ]


def test_a_gpu_that_is_lost_is_asked_for_nothing_more(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def measure_plan(*of: object) -> None:
        asked.append(of)
        raise EngineLost("the GPU is lost: an illegal memory access was encountered")

    monkeypatch.setattr(benchmark_gpu, "measure_plan", measure_plan)
    told: list[str] = []
    assert rows_of(tmp_path, told) == []
    assert len(asked) == 1
    assert "no rows of tensorrt: the GPU is lost: an illegal memory access was encountered" in told


def test_a_batch_that_is_refused_frees_everything(world: World, tmp_path: Path) -> None:
    world.fail["execute"] = True
    told: list[str] = []
    assert rows_of(tmp_path, told) == []
    assert any("refused to enqueue" in text for text in told)
    assert world.used == 0
    assert world.pushed == 0


def test_a_batch_without_a_row_leaves_its_place_in_the_table_empty() -> None:
    one = {"engine": "e", "model": "m", "precision": "fp32", "latency_p50_ms": 1.0, "latency_p99_ms": 1.0, "roofline_share": None}
    table = table_of([one | {"batch": batch, "images_per_s": float(batch)} for batch in (1, 4, 16)])
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert (cells["batch 2"], cells["batch 4"], cells["batch 8"]) == ([""], ["4.0 (1.0, 1.0)"], [""])
    assert cells["batch 16"] == ["16.0 (1.0, 1.0)"]


def test_without_openvino_the_gpu_is_measured(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    told: list[str] = []
    rows = list(measure_engines(str(write_small_unet(tmp_path / "unet")), 0.01, None, told.append))
    assert {row["engine"] for row in rows} == {"tensorrt-10.3.0/Fake T4"}
    assert told[0].startswith("no rows of openvino: ")


def test_where_nothing_can_be_measured_it_is_an_error(tmp_path: Path, within: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    ran = within("benchmark", "engine", "--model", write_small_unet(tmp_path / "unet"), "--seconds", 0.01)
    assert ran.returncode == 1
    assert "no engine could be measured here" in ran.stderr


def test_throttling_is_told_in_words() -> None:
    assert throttling(0x1 | 0x2) == []  # idle, and clocks set by hand
    assert throttling(0x4 | 0x40) == ["power cap", "hardware thermal"]


def test_what_is_asked_of_nvml_exists() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    source = Path(benchmark_gpu.__file__).read_text()
    names = set(re.findall(r"pynvml\.(\w+)", source))
    assert len(names) >= 8
    assert [name for name in names if not hasattr(pynvml, name)] == []


def test_candidates_made_elsewhere_are_measured_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a station whose Python has none."""
    model = load_model(write_small_unet(tmp_path / "unet"))
    recipe = load_recipe(ROOT / "config" / "recipes" / "demo-texture.yaml")
    made_here = graphs_of(model, None)
    files = {name: made(tmp_path / f"{name}.onnx", made_here[name].SerializeToString(), "") for name in CANDIDATES}
    for name, each in files.items():
        (tmp_path / each.file).write_bytes(made_here[name].SerializeToString())
    calibration: Calibration = {"images": 1, "used": 1, "tensors": 1, "sha256": "", "ranges": "percentile", "percentile": 99.9}
    of_desk = {"calibration": calibration, "ranges": {}, "made_at": "", "made_on": this_machine()}
    write_manifest(tmp_path, Manifest(**about(model, recipe), **of_desk, candidates=files))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    graphs = graphs_of(model, tmp_path)
    assert graphs.keys() == {"fp32", *CANDIDATES}
    for name, graph in graphs.items():
        assert cost_of(graph) == cost_of(made_here[name])
        assert [each.name for each in (*graph.graph.input, *graph.graph.output)] == list(CALIBRATED_PORTS)


def test_every_row_has_the_same_columns(edge_agent: Program) -> None:
    pytest.importorskip("openvino")
    model = Path(__file__).parents[2] / "models" / "dagm-class1"
    ran = edge_agent("benchmark", "engine", "--model", model, "--seconds", 0.01, "--json", timeout_s=300)
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len({tuple(sorted(row)) for row in rows}) == 1
    assert {row["precision"] for row in rows} == {"fp32", *CANDIDATES}
    for row in rows:
        if row["engine"].startswith("openvino"):
            assert row["h2d_ms"] is None
            assert (row["roofline_share"] is None) == (row["precision"] != "fp32")
    assert table_of(rows).row_count == len({(row["engine"], row["precision"]) for row in rows})
    assert "no rows of tensorrt" in ran.stderr or any(row["engine"].startswith("tensorrt") for row in rows)
