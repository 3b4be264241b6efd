"""Half precision written into a graph: numbers that it cannot hold stay what they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bright import write_float_model

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnxruntime

from edge_agent.calibration.half import halved, to_half
from edge_agent.inference.graph import FRAMES, MAP, PEAK, finish, read_network
from edge_agent.inference.model import load_model


def test_halving_keeps_infinity_and_lets_nothing_vanish() -> None:
    found = halved(np.array([1e9, -1e9, 1e-12, 0.0, np.inf, 0.5], np.float32))
    assert found.tolist()[0] == 65504
    assert found.tolist()[1] == -65504
    assert found[2] > 0
    assert found.tolist()[3:] == [0, np.inf, 0.5]


def test_a_probability_of_one_has_a_peak_where_everything_is_computed_in_half_precision(tmp_path: Path) -> None:
    model = load_model(write_float_model(tmp_path / "m", "NCHW", "probability", "sigmoid", channels=1, slope=20.0))
    network = finish(read_network(model), model.papers)
    for index, node in enumerate(network.graph.node):
        node.name = node.name or f"unnamed{index}"
    half = to_half(network, {node.name for node in network.graph.node if PEAK not in node.output})
    frames = (np.arange(1024, dtype=np.uint16) % 256).astype(np.uint8).reshape(1, 1, 32, 32)
    expected, _ = _run(network, frames)
    found, peak = _run(half, frames)
    assert {0, 255} < set(expected.ravel().tolist())
    assert np.abs(found.astype(int) - expected).max() <= 2
    assert 13 < peak[0] < 14


def _run(network: object, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([MAP, PEAK], {FRAMES: frames})
