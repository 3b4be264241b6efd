"""Every graph that calibrate emits, built by NVIDIA's own parser and strongly typed builder, without a GPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.calibration.candidates import CANDIDATES, make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, load_model

trt = pytest.importorskip("tensorrt_rtx", reason="NVIDIA's builder (pip install tensorrt_rtx) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROOT = Path(__file__).parents[2]
SHIPPED = ("demo-texture", "dagm-class1", "magnetic-tile")
MODELS = {name: ROOT / "models" / name for name in SHIPPED} | {"keras-small": ROOT / "tests" / "models" / "keras-small"}
CAPABILITIES = dict.fromkeys(MODELS, ("SM86",)) | dict.fromkeys(("demo-texture", "keras-small"), ("SM75", "SM86", "SM89", "SM120"))


@cache
def graphs(name: str) -> dict[str, bytes]:
    model = load_model(MODELS[name])
    size = (model.papers.input.rows, model.papers.input.cols)
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    frames = [np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)]
    ranges = measure_ranges(prepared, frames, "minmax", 100, lambda: None)
    made = {each: make(each, prepared, ranges).SerializeToString() for each in CANDIDATES}
    return {"fp32": prepared.SerializeToString(), **made}


def build(graph: bytes, size: tuple[int, int], capabilities: tuple[str, ...]) -> tuple[bytes, str]:
    """The plan, and what the parser or the builder said where there is none."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # strongly typed, always
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        return b"", "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), place)
    profile = builder.create_optimization_profile()
    shape = (1, 1, *size)
    profile.set_shape(CALIBRATED_PORTS[0], shape, shape, shape)
    config.add_optimization_profile(profile)
    plan: Any = builder.build_serialized_network(network, config)
    return (bytes(plan), "") if plan is not None else (b"", "the builder gave no plan")


@pytest.mark.parametrize("candidate", ["fp32", *CANDIDATES])
@pytest.mark.parametrize("name", MODELS)
def test_a_graph_parses_and_builds(name: str, candidate: str) -> None:
    told = load_model(MODELS[name]).papers.input
    for capability in CAPABILITIES[name]:
        plan, why = build(graphs(name)[candidate], (told.rows, told.cols), (capability,))
        assert plan, f"{candidate} of {name} for {capability}: {why}"


def test_a_pair_of_another_type_than_its_neighbours_is_refused_by_the_builder() -> None:
    """What this file relies on: strong typing tells of a graph whose FP16 was written carelessly."""
    import onnx

    network = onnx.load_from_string(graphs("demo-texture")["fp16"])
    cast = next(node for node in network.graph.node if node.op_type == "Cast" and node.name.endswith(".half/Cast"))
    for node in network.graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
    plan, why = build(network.SerializeToString(), (512, 512), ("SM86",))
    assert not plan
    assert why
