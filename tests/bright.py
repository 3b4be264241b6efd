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


def write_bright_model(folder: Path, rows: int = 64, cols: int = 64, *, nan: bool = False, nan_at: int = -1) -> Path:
    """uint8 frames -> uint8 map and peak logit, as the tools export them. With `nan` one weight is damaged; with `nan_at` every
    answer is NaN to a frame whose brightest pixel has that level."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "centre"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "slope"], ["sound"]),
        helper.make_node("ReduceMax", ["x", "axes"], ["brightest"], keepdims=1),
        helper.make_node("Sub", ["brightest", "nan_at"], ["from_there"]),
        helper.make_node("Div", ["zero", "from_there"], ["zero_or_nan"]),
        helper.make_node("Add", ["sound", "zero_or_nan"], ["logits"]),
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
        constant("zero", 0.0),
        constant("nan_at", nan_at),
        constant("axes", [1, 2, 3], np.int64),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 1, rows, cols])]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.UINT8, ["n", 1, rows, cols]),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n"]),
    ]
    save(folder, nodes, inputs, outputs, weights)
    return write_papers(folder, rows, cols)


def write_float_model(
    folder: Path,
    layout: str,
    kind: str,
    head: str,
    channels: int,
    told: str = "",
    slope: float = SLOPE,
    background: str | None = None,
    opset: int = 18,
) -> Path:
    """Frames as floats 0..1; channel 0 the bright logit, further channels 1 lower each; the background's logit is 0.

    `told` is the kind that the papers tell, where it is not the file's; `slope` is the weight of the first column's pixels;
    `background` is where it is, None for what that head has if nothing is said."""
    slopes = np.full(32, 255 * SLOPE, np.float32)
    slopes[0] = 255 * slope
    shape = ["n", 1, 32, 32] if layout == "NCHW" else ["n", 32, 32, 1]
    axis = 1 if layout == "NCHW" else 3
    nodes = [
        helper.make_node("Mul", ["frames", "slope"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "centre"], ["z0"]),
    ]
    names = ["z0"]
    for index in range(1, channels):
        nodes.append(helper.make_node("Sub", [names[-1], "one"], [f"z{index}"]))
        names.append(f"z{index}")
    place = background or ("first" if head == "softmax" else "none")
    if place != "none":
        nodes.append(helper.make_node("Mul", ["frames", "zero"], ["background"]))
        names.insert(0 if place == "first" else channels, "background")
    nodes.append(helper.make_node("Concat", names, ["logits"], axis=axis))
    if kind == "probability":
        nodes.append(
            helper.make_node(
                "Sigmoid" if head == "sigmoid" else "Softmax", ["logits"], ["out"], **({} if head == "sigmoid" else {"axis": axis})
            )
        )
    else:
        nodes.append(helper.make_node("Identity", ["logits"], ["out"]))
    weights = [
        constant("slope", slopes.reshape((32, 1) if layout == "NHWC" else 32)),
        constant("centre", CENTRE * SLOPE),
        constant("one", 1.0),
        constant("zero", 0.0),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "a", "b", "c"])]
    save(folder, nodes, inputs, outputs, weights, opset)
    return write_papers(
        folder,
        32,
        32,
        input={"name": "frames", "layout": layout, "dtype": "float32", "rows": 32, "cols": 32, "scale": 1 / 255},
        output={"kind": told or kind, "map": "out", "layout": layout},
        head=head,
        classes=[f"c{i}" for i in range(channels)],
        **({"background": background} if background else {}),
    )


def save(folder: Path, nodes: list, inputs: list, outputs: list, weights: list, opset: int = 18) -> None:
    graph = helper.make_graph(nodes, "bright", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
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
