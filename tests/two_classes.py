"""A network of two classes whose answer is known: bright pixels are `light`, dark ones `dark`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bright import constant, save, write_papers
from onnx import TensorProto, helper


def write_two_class_model(folder: Path, rows: int = 64, cols: int = 64) -> Path:
    """uint8 frames -> uint8 maps of light (0.5 at gray 200) and dark (0.5 at gray 50), and the larger logit."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "centres"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "slopes"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
        helper.make_node("Mul", ["p", "full"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["level"]),
        helper.make_node("Cast", ["level"], ["map"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["logits", "axes"], ["peak"], keepdims=0),
    ]
    weights = [
        constant("centres", np.array([200.0, 50.0]).reshape(1, 2, 1, 1)),
        constant("slopes", np.array([0.1, -0.1]).reshape(1, 2, 1, 1)),
        constant("full", 255.0),
        constant("axes", [1, 2, 3], np.int64),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 1, rows, cols])]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.UINT8, ["n", 2, rows, cols]),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n"]),
    ]
    save(folder, nodes, inputs, outputs, weights)
    return write_papers(folder, rows, cols, classes=["light", "dark"])
