"""8 bits on OpenVINO are what the graph says, in the networks that pool and join, which signed steps are wrong for."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stations import ROOT

pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime
import openvino
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from edge_agent.calibration.candidates import make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.inference.base import infer
from edge_agent.inference.cpu import AS_WRITTEN, open_cpu
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.inference.tensorrt.parity import shown
from edge_agent.inference.unsigned import as_unsigned
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

POOLED_AND_JOINED = ("demo-texture", "dagm-class1")
LIMITS = {"int8": (0.1, 0.1), "int8_level0_fp16": (0.4, 0.4)}  # levels on average; logits of the peak. Signed steps break both


def candidate_of(name: str, kind: str, folder: Path) -> tuple[Model, Any, list[Pixels]]:
    """The shipped model with its own 8-bit graph in its place, the graph, and pictures (rows, cols)."""
    model = load_model(ROOT / "models" / name)
    frames = shown(model.papers.input.rows, model.papers.input.cols)
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    graph = make(kind, prepared, measure_ranges(prepared, frames, "minmax", 100, lambda: None))
    (folder / "8bit.onnx").write_bytes(content := graph.SerializeToString())
    return model.calibrated(folder / "8bit.onnx", hashlib.sha256(content).hexdigest()), graph, frames


def run(graph: Any, value: np.ndarray) -> list[np.ndarray]:
    """What the graph says, by onnxruntime without its fusions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: value}))


@pytest.mark.parametrize("name", POOLED_AND_JOINED)
@pytest.mark.parametrize("kind", LIMITS)
def test_the_engine_computes_what_the_graph_says(tmp_path: Path, name: str, kind: str) -> None:
    model, graph, frames = candidate_of(name, kind, tmp_path)
    engine, _ = open_cpu(CpuEngine(hint="latency", requests=1), model)
    levels, logits = [], []
    for frame in frames:
        map_said, peak_said = run(graph, frame[None, None])
        slot = infer(engine, frame, 60)
        levels.append(np.abs(slot.maps[0].astype(int) - map_said[0, 0]).mean())
        logits.append(abs(float(slot.peak[0]) - float(peak_said[0])))
        engine.release(slot)
    engine.close()
    assert (np.mean(levels) < LIMITS[kind][0], max(logits) < LIMITS[kind][1]) == (True, True), (levels, logits)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, list[Pixels]]:
    """A graph, the same with unsigned steps, and pictures (rows, cols)."""
    _, graph, frames = candidate_of("dagm-class1", "int8", tmp_path_factory.mktemp("unsigned"))
    return graph, as_unsigned(graph), frames


def test_the_steps_are_the_same_one_for_one_and_transposed_convolutions_keep_theirs(example: tuple[Any, Any, list[Pixels]]) -> None:
    graph, unsigned, frames = example
    types = {each.name: numpy_helper.to_array(each).dtype for each in unsigned.graph.initializer}
    starts = [node for node in unsigned.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in types]
    signed = [node for node in starts if types[node.input[2]] == np.int8]
    deconvolutions = sum(node.op_type == "ConvTranspose" for node in unsigned.graph.node)
    assert len(signed) == deconvolutions < len(starts)
    for frame in frames:
        said, same = (run(each, frame[None, None]) for each in (graph, unsigned))
        assert all(np.array_equal(*each) for each in zip(said, same, strict=True))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="on Arm OpenVINO computes transposed convolutions in floats")
def test_transposed_convolutions_are_computed_in_8_bits(example: tuple[Any, Any, list[Pixels]]) -> None:
    unsigned = example[1]
    compiled = openvino.Core().compile_model(openvino.Core().read_model(unsigned.SerializeToString()), "CPU", AS_WRITTEN)
    kinds = [
        (op.get_rt_info()["layerType"].astype(str), op.get_rt_info()["runtimePrecision"].astype(str)) for op in layers(compiled)
    ]
    assert kinds.count(("Deconvolution", "i8")) == sum(node.op_type == "ConvTranspose" for node in unsigned.graph.node)
    assert not any(precision == "f32" for layer, precision in kinds if layer == "Convolution")


def layers(compiled: Any) -> list[Any]:
    return list(compiled.get_runtime_model().get_ordered_ops())


# --- what other tools write -------------------------------------------------------------------------------------------
def pair(zeros: tuple[int, ...] = (0, 0), *, in_constants: bool = False, told_by: str = "zero") -> ModelProto:
    """A graph x -> Q -> one DQ for each further zero point -> their sum; `told_by` is what says int8: zero, dtype."""
    scale = numpy_helper.from_array(np.float32(0.05), "scale")
    points = [numpy_helper.from_array(np.int8(zero), f"zero{place}") for place, zero in enumerate(zeros)]
    typed = {"output_dtype": TensorProto.INT8} if told_by == "dtype" else {}
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero0"], ["q"], **typed)]
    nodes += [helper.make_node("DequantizeLinear", ["q", "scale", f"zero{i}"], [f"d{i}"]) for i in range(1, len(zeros))]
    nodes.append(helper.make_node("Sum", [f"d{i}" for i in range(1, len(zeros))], ["y"]))
    if in_constants:
        nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in points] + nodes
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64]) for name in "xy"]
    between = [helper.make_tensor_value_info("q", TensorProto.INT8, [64])]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], [scale, *([] if in_constants else points)], value_info=between)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def without_zero_behind() -> ModelProto:
    made = pair()
    del made.graph.node[1].input[2]
    return made


def read_in_a_branch() -> ModelProto:
    """The pair's second end lies inside of an If."""
    made = pair()
    inner = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale", "zero1"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [64])],
    )
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    made.graph.node[-1].CopyFrom(helper.make_node("If", ["always"], ["y"], then_branch=inner, else_branch=inner))
    return made


@pytest.mark.parametrize(
    ("make_graph", "is_changed"),
    [
        (pair, True),
        (lambda: pair((3, 3)), True),
        (lambda: pair((0, 5, -7)), True),
        (lambda: pair(in_constants=True), True),
        (lambda: pair(told_by="dtype"), True),
        (without_zero_behind, True),
        (read_in_a_branch, False),
    ],
)
def test_graphs_of_other_tools_say_the_same_before_and_after(make_graph: Callable[[], ModelProto], is_changed: bool) -> None:
    graph = make_graph()
    unsigned = as_unsigned(graph)
    values = np.linspace(-9, 9, 64, dtype=np.float32)  # beyond both ends of the steps
    (said,), (same,) = run(graph, values), run(unsigned, values)
    np.testing.assert_array_equal(said, same)
    quantise = next(node for node in unsigned.graph.node if node.op_type == "QuantizeLinear")
    zeros = {each.name: each.data_type for each in unsigned.graph.initializer}
    assert (zeros.get(quantise.input[2]) == TensorProto.UINT8) == is_changed
    told = [AttributeProto.INT, TensorProto.UINT8]
    assert all([each.type, each.i] == told for each in quantise.attribute if each.name == "output_dtype")
    openvino.Core().compile_model(openvino.Core().read_model(unsigned.SerializeToString()), "CPU")
