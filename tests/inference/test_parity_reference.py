"""What a built engine is held against must be right itself, also for graphs in 8 bits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime

from edge_agent.calibration.candidates import make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, load_model
from edge_agent.inference.tensorrt.parity import compare, reference_of, shown

DAGM = Path(__file__).parents[2] / "models" / "dagm-class1"


def test_the_reference_of_an_8_bit_graph_is_what_the_graph_says(tmp_path: Path) -> None:
    """onnxruntime without its fusions is the witness: neither of the two engines computes in 8 bits here."""
    model = load_model(DAGM)
    frames = shown(model.papers.input.rows, model.papers.input.cols)
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    content = make("int8", prepared, measure_ranges(prepared, frames, "minmax", 100, lambda: None)).SerializeToString()
    file = tmp_path / "int8.onnx"
    file.write_bytes(content)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    said = np.concatenate([session.run(None, {CALIBRATED_PORTS[0]: frame[None, None]})[0] for frame in frames])
    found = reference_of(model.calibrated(file, hashlib.sha256(content).hexdigest()), tmp_path / "maps")
    assert found is not None
    assert said.max() > 100
    assert compare(said, found).levels < 0.5
