"""Candidates of a small U-Net: their wiring is what TensorRT wants, and they still see what FP32 sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bright import gray, with_defect
from small_unet import SIZE, write_small_unet

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime
from onnx import TensorProto, numpy_helper

from edge_agent.calibration.candidates import CANDIDATES, make, prepare
from edge_agent.calibration.cost import operations
from edge_agent.calibration.ranges import Ranges, measure_ranges
from edge_agent.calibration.trunk import trunk_of
from edge_agent.errors import ConfigurationError
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, load_model

FRAMES = [with_defect(gray(SIZE, SIZE), 4, 6, 9, 5), gray(SIZE, SIZE, 60)]


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    model = load_model(write_small_unet(tmp_path / "unet"))
    return prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)


@pytest.fixture
def ranges(prepared: Any) -> Ranges:
    return measure_ranges(prepared, FRAMES, "minmax", 100, lambda: None)


def answers(network: Any) -> list[np.ndarray]:
    """The map and the peak by the reference runtime: without its fusions, which are wrong for some Q/DQ graphs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {CALIBRATED_PORTS[0]: np.stack(FRAMES)[:, None]})


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_sees_what_fp32_sees(prepared: Any, ranges: Ranges, name: str) -> None:
    (reference, peaks), (found, found_peaks) = answers(prepared), answers(make(name, prepared, ranges))
    assert reference.max() > 200
    assert reference[1].max() < 50
    assert found.dtype == np.uint8
    assert found_peaks.dtype == np.float32
    assert np.abs(found.astype(int) - reference).mean() < 3
    assert np.abs(found_peaks - peaks).max() < 1


@pytest.mark.parametrize("opset", [13, 15, 16, 18, 21])
@pytest.mark.parametrize("kind", ["logits", "probability"])
def test_every_operator_set_can_be_made_cheaper(tmp_path: Path, opset: int, kind: str) -> None:
    model = load_model(write_small_unet(tmp_path / "unet", opset=opset, kind=kind))
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    ranges = measure_ranges(prepared, FRAMES, "minmax", 100, lambda: None)
    for name in CANDIDATES:
        found, _ = answers(make(name, prepared, ranges))
        assert np.abs(found.astype(int) - answers(prepared)[0]).mean() < 3


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_same_images_make_the_same_bytes(prepared: Any, ranges: Ranges, name: str) -> None:
    again = measure_ranges(prepared, FRAMES, "minmax", 100, lambda: None)
    both = [make(name, prepared, each).SerializeToString(deterministic=True) for each in (ranges, again)]
    assert both[0] == both[1]


def test_what_a_concatenation_joins_has_one_scale_and_no_pair_behind_it(prepared: Any, ranges: Ranges) -> None:
    made = make("int8", prepared, ranges)
    makers = {output: node for node in made.graph.node for output in node.output}
    scales = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    joined = next(node for node in made.graph.node if node.op_type == "Concat")
    pairs = [makers[name] for name in joined.input]
    assert [pair.op_type for pair in pairs] == ["DequantizeLinear"] * 2
    assert scales[pairs[0].input[1]] == scales[pairs[1].input[1]]
    assert [node.op_type for node in made.graph.node if joined.output[0] in node.input] == ["Conv"]


def test_weights_have_a_scale_for_each_channel_but_transposed_ones(prepared: Any, ranges: Ranges) -> None:
    made = make("int8", prepared, ranges)
    makers = {output: node for node in made.graph.node for output in node.output}
    sizes = {each.name: int(np.prod(each.dims)) for each in made.graph.initializer}
    zeros = [each for each in made.graph.initializer if each.data_type == TensorProto.INT8]
    assert all(not numpy_helper.to_array(each).any() for each in zeros)
    of = {node.output[0]: sizes[makers[node.input[1]].input[1]] for node in made.graph.node if node.op_type.startswith("Conv")}
    assert of == {"down": 4, "bottom": 8, "up": 1, "join": 4, "head": 1}
    assert next(node for node in made.graph.node if "up" in node.input).op_type == "QuantizeLinear"
    assert next(node for node in made.graph.node if "head" in node.input).op_type == "Add"


def test_the_first_level_stays_in_half_precision(prepared: Any, ranges: Ranges) -> None:
    first = {name.partition("/")[2] for name in trunk_of(prepared).first_level}
    assert first == {"down", "down.relu", "up", "join", "join.relu", "head", "joined", "pool"}
    made = make("int8_level0_fp16", prepared, ranges)
    makers = {output: node for node in made.graph.node for output in node.output}
    dequantised = {n.output[0] for n in made.graph.node if n.op_type.startswith("Conv") and makers.get(n.input[1]) is not None}
    assert dequantised == {"bottom"}
    types = {each.name: each.data_type for each in made.graph.initializer}
    assert types["down.w.half"] == TensorProto.FLOAT16


def test_the_alarm_of_a_nan_stays_infinite_in_half_precision(tmp_path: Path) -> None:
    model = load_model(write_small_unet(tmp_path / "unet"))
    network = read_network(model)
    weight = next(each for each in network.graph.initializer if each.name == "head.w")
    weight.CopyFrom(numpy_helper.from_array(np.full((1, 4, 1, 1), np.nan, np.float32), "head.w"))
    prepared = prepare(finish(network, model.papers), CALIBRATED_PORTS)
    assert np.isinf(answers(make("fp16", prepared, {}))[1]).all()


def test_the_cost_counts_multiplications_and_additions(prepared: Any) -> None:
    full, half = SIZE * SIZE, SIZE * SIZE // 4
    down, bottom, up, join, head = 36 * full, 288 * half, 128 * half, 288 * full, 4 * full
    assert operations(prepared) == 2 * (down + bottom + up + join + head)


def test_a_network_without_convolutions_is_refused(tmp_path: Path) -> None:
    from bright import write_bright_model

    model = load_model(write_bright_model(tmp_path / "bright"))
    with pytest.raises(ConfigurationError, match="no convolution"):
        prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)


def test_the_runtime_tells_nobody_that_it_was_used(tmp_path: Path) -> None:
    """Its telemetry keeps what it will send in the home folder, and its session in that of temporary files."""
    surroundings = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    surroundings |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "from edge_agent.calibration.ranges import require_onnxruntime; require_onnxruntime()"
    subprocess.run([sys.executable, "-c", code], env=surroundings, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
