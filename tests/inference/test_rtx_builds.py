"""What a station builds of every candidate, built by NVIDIA's own parser and strongly typed builder, without a GPU."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_agent.calibration.candidates import CANDIDATES, make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.errors import ConfigurationError
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.inference.tensorrt.api import BuildOptions, build_plan, load_library
from edge_agent.inference.tensorrt.network import network_of

pytest.importorskip("tensorrt_rtx", reason="NVIDIA's builder (pip install tensorrt_rtx) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROOT = Path(__file__).parents[2]
SHIPPED = ("demo-texture", "dagm-class1", "magnetic-tile")
MODELS = {name: ROOT / "models" / name for name in SHIPPED} | {"keras-small": ROOT / "tests" / "models" / "keras-small"}
EVERY_GPU = BuildOptions(capabilities=("7.5", "8.6", "8.9", "12.0"))


@cache
def graphs(name: str) -> dict[str, bytes]:
    model = load_model(MODELS[name])
    size = (model.papers.input.rows, model.papers.input.cols)
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    frames = [np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)]
    ranges = measure_ranges(prepared, frames, "minmax", 100, lambda: None)
    return {each: make(each, prepared, ranges).SerializeToString() for each in CANDIDATES}


def calibrated(model: Model, graph: bytes, folder: Path) -> Model:
    (folder / "candidate.onnx").write_bytes(graph)
    return model.calibrated(folder / "candidate.onnx", hashlib.sha256(graph).hexdigest())


def build(model: Model) -> bytes:
    """The plan for every GPU, as the process that builds makes it."""
    plan, _ = build_plan(load_library("tensorrt_rtx"), network_of(model).onnx, EVERY_GPU)
    return plan


@pytest.mark.parametrize("candidate", ["fp32", *CANDIDATES])
@pytest.mark.parametrize("name", MODELS)
def test_what_a_station_builds_is_built_for_every_gpu(name: str, candidate: str, tmp_path: Path) -> None:
    model = load_model(MODELS[name])
    assert build(model if candidate == "fp32" else calibrated(model, graphs(name)[candidate], tmp_path))


def test_a_pair_of_another_type_than_its_neighbours_is_refused_by_the_builder(tmp_path: Path) -> None:
    """What this file relies on: strong typing tells of a graph whose FP16 was written carelessly."""
    import onnx

    network = onnx.load_from_string(graphs("demo-texture")["fp16"])
    cast = next(node for node in network.graph.node if node.op_type == "Cast" and node.name.endswith(".half/Cast"))
    for node in network.graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
    careless = calibrated(load_model(MODELS["demo-texture"]), network.SerializeToString(), tmp_path)
    with pytest.raises(ConfigurationError, match=r"tensorrt_rtx .* cannot"):
        build(careless)
