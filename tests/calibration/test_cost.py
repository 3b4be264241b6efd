"""What a frame costs follows from the graph and its precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bright import gray
from small_unet import SIZE, write_small_unet

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx

from edge_agent.calibration.candidates import make, prepare
from edge_agent.calibration.cost import EIGHT, FLOAT, HALF, Cost, cost_of
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, load_model


@pytest.fixture
def graphs(tmp_path: Path) -> dict[str, Any]:
    model = load_model(write_small_unet(tmp_path / "unet"))
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    ranges = measure_ranges(prepared, [gray(SIZE, SIZE)], "minmax", 100, lambda: None)
    return {"fp32": prepared} | {name: make(name, prepared, ranges) for name in ("fp16", "int8", "int8_level0_fp16")}


def test_the_same_operations_in_another_precision(graphs: dict[str, Any]) -> None:
    costs = {name: cost_of(graph) for name, graph in graphs.items()}
    assert {name: set(cost.operations) for name, cost in costs.items()} == {
        "fp32": {FLOAT},
        "fp16": {HALF},
        "int8": {EIGHT},
        "int8_level0_fp16": {EIGHT, HALF},
    }
    assert len({sum(cost.operations.values()) for cost in costs.values()}) == 1
    weights = {name: cost.weight_bytes for name, cost in costs.items()}
    assert weights["fp32"] == 2 * weights["fp16"] == 4 * weights["int8"]
    assert costs["int8"].frame_bytes < costs["int8_level0_fp16"].frame_bytes <= costs["fp16"].frame_bytes
    assert 2 * costs["fp16"].frame_bytes == costs["fp32"].frame_bytes


def test_the_bytes_are_those_of_convolutions_and_poolings(graphs: dict[str, Any]) -> None:
    full, half = SIZE * SIZE, SIZE * SIZE // 4
    down, pool, bottom, up, join, head = 5 * full, 4 * full + 4 * half, 12 * half, 8 * half + 4 * full, 12 * full, 5 * full
    assert cost_of(graphs["fp32"]).frame_bytes == 4 * (down + pool + bottom + up + join + head)


def test_weights_may_be_written_as_constants(graphs: dict[str, Any]) -> None:
    network = onnx.ModelProto()
    network.CopyFrom(graphs["fp32"])
    constants = [onnx.helper.make_node("Constant", [], [each.name], value=each) for each in network.graph.initializer]
    nodes = [*constants, *network.graph.node]
    del network.graph.initializer[:], network.graph.node[:]
    network.graph.node.extend(nodes)
    assert cost_of(network) == cost_of(graphs["fp32"])


def test_the_slower_of_computing_and_memory_is_the_roof() -> None:
    cost = Cost({FLOAT: 1000, EIGHT: 500}, frame_bytes=400, weight_bytes=100)
    peak = {FLOAT: 1e3, EIGHT: 1e3}
    assert cost.least_s(2, peak, 1e9) == pytest.approx(3.0)
    assert cost.least_s(2, peak, 90) == pytest.approx(10.0)
    assert np.isclose(cost.least_s(1, {FLOAT: 1e3, EIGHT: 2e3}, 1e9), 1.25)
