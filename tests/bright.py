"""A network whose answer is known: a pixel is a defect when it is bright. Real ONNX for the real engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

CENTRE, SLOPE = 200.0, 0.1  # probability 0.5 at gray 200


def constant(name: str, value: object, kind: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, kind), name)


def write_bright_model(folder: Path, rows: int = 64, cols: int = 64, *, nan: bool = False) -> Path:
    """uint8 frames -> uint8 map and peak logit, as the tools export them. With `nan` one weight is damaged."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "centre"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "slope"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
        helper.make_node("Mul", ["p", "full"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["level"]),
        helper.make_node("Cast", ["level"], ["map"], to=TensorProto.UINT8),
        helper.make_node("IsNaN", ["logits"], ["bad"]),
        helper.make_node("Where", ["bad", "inf", "logits"], ["loud"]),
        helper.make_node("ReduceMax", ["loud", "axes"], ["peak"], keepdims=0),
    ]
    slope = np.full((1, 1, 1, cols), SLOPE, np.float32)
    if nan:
        slope[..., 3] = np.nan
    weights = [
        constant("centre", CENTRE),
        constant("slope", slope),
        constant("full", 255.0),
        constant("inf", np.inf),
        constant("axes", [1, 2, 3], np.int64),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 1, rows, cols])]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.UINT8, ["n", 1, rows, cols]),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n"]),
    ]
    save(folder, nodes, inputs, outputs, weights)
    return write_papers(folder, rows, cols)


def save(folder: Path, nodes: list, inputs: list, outputs: list, weights: list) -> None:
    graph = helper.make_graph(nodes, "bright", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))


def write_papers(folder: Path, rows: int, cols: int, **changes: object) -> Path:
    papers = {
        "name": folder.name,
        "version": 1,
        "onnx": {"file": "model.onnx", "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()},
        "input": {"name": "frames", "layout": "NCHW", "dtype": "uint8", "rows": rows, "cols": cols},
        "output": {"kind": "map_and_peak", "map": "map", "peak": "peak", "layout": "NCHW"},
        "head": "sigmoid",
        "classes": ["defect"],
        "stride": 1,
        **changes,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(papers))
    return folder


def gray(rows: int = 64, cols: int = 64, level: int = 100) -> np.ndarray:
    """A surface without a defect: bright enough to be a part, dark enough to be good; never twice quite the same."""
    return np.full((rows, cols), level, np.uint8)


def with_defect(frame: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    frame = frame.copy()
    frame[y : y + height, x : x + width] = 250
    return frame
