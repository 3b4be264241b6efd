"""8 bits on OpenVINO are what the graph says, in the networks that pool and join, which signed steps are wrong for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stations import ROOT

pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime
from onnx import numpy_helper

from edge_agent.calibration.candidates import make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.inference.base import infer
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.inference.tensorrt.parity import shown
from edge_agent.inference.unsigned import as_unsigned
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

POOLED_AND_JOINED = ("demo-texture", "dagm-class1")
LEVELS, LOGITS = 0.1, 0.1  # on average; of the peak. With signed steps neither holds


def candidate_of(name: str, folder: Path) -> tuple[Model, Any, list[Pixels]]:
    """The shipped model with its own 8-bit graph in its place, the graph, and pictures (rows, cols)."""
    model = load_model(ROOT / "models" / name)
    frames = shown(model.papers.input.rows, model.papers.input.cols)
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    graph = make("int8", prepared, measure_ranges(prepared, frames, "minmax", 100, lambda: None))
    (folder / "int8.onnx").write_bytes(content := graph.SerializeToString())
    return model.calibrated(folder / "int8.onnx", hashlib.sha256(content).hexdigest()), graph, frames


def told(model: Model, frames: list[Pixels], *, is_reference: bool) -> tuple[np.ndarray, np.ndarray]:
    """Maps (frames, rows, cols) and peaks (frames,)."""
    engine, _ = open_cpu(CpuEngine(hint="latency", requests=1), model, is_reference=is_reference)
    maps, peaks = [], []
    for frame in frames:
        slot = infer(engine, frame, 60)
        maps.append(slot.maps[0].astype(int))
        peaks.append(float(slot.peak[0]))
        engine.release(slot)
    engine.close()
    return np.array(maps), np.array(peaks)


@pytest.mark.parametrize("name", POOLED_AND_JOINED)
def test_the_engine_computes_what_the_graph_says(tmp_path: Path, name: str) -> None:
    model, _, frames = candidate_of(name, tmp_path)
    (maps, peaks), (right, right_peaks) = (told(model, frames, is_reference=each) for each in (False, True))
    assert right.max() > 100
    assert np.abs(maps - right).mean() < LEVELS
    assert np.abs(peaks - right_peaks).max() < LOGITS


def test_the_steps_are_the_same_one_for_one(tmp_path: Path) -> None:
    _, graph, frames = candidate_of("dagm-class1", tmp_path)
    unsigned = as_unsigned(graph)
    types = {each.name: numpy_helper.to_array(each).dtype for each in unsigned.graph.initializer}
    ends = [node for node in unsigned.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    weights = [node for node in ends if node.input[0] in types or types[node.input[2]] == np.int8]
    assert {types[node.input[2]] for node in ends} == {np.dtype(np.uint8), np.dtype(np.int8)}
    assert len(weights) < len(ends), "activations are unsigned"
    assert all("weight" in node.input[0] for node in weights), "weights alone stay signed"
    for frame in frames:
        said, same = (run(each, frame) for each in (graph, unsigned))
        assert all(np.array_equal(*each) for each in zip(said, same, strict=True))


def run(graph: Any, frame: Pixels) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {CALIBRATED_PORTS[0]: frame[None, None]}))
