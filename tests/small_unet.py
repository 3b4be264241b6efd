"""A U-Net of two levels with known wiring: what calibration is tested on. Its first channel is the picture: it sees brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bright import save, write_papers
from onnx import TensorProto, helper, numpy_helper

SIZE = 32


def write_small_unet(folder: Path, seed: int = 0, *, opset: int = 17, kind: str = "logits") -> Path:
    """`kind` is what it gives: logits, or probability."""
    random = np.random.default_rng(seed)
    weights, nodes = [], []

    def conv(x: str, name: str, taken: int, given: int, op: str = "Conv", side: int = 3, through: float = 0.0) -> str:
        shape = (given, taken, side, side) if op == "Conv" else (taken, given, side, side)
        weight = (random.normal(0, 0.03, shape)).astype(np.float32)
        weight[0, 0, side // 2 if op == "Conv" else slice(None), side // 2 if op == "Conv" else slice(None)] += through
        weights.extend(
            [numpy_helper.from_array(weight, f"{name}.w"), numpy_helper.from_array(np.zeros(given, np.float32), f"{name}.b")]
        )
        strides = [2, 2] if op == "ConvTranspose" else [1, 1]
        pads = [side // 2] * 4 if op == "Conv" else [0] * 4
        nodes.append(helper.make_node(op, [x, f"{name}.w", f"{name}.b"], [name], name=name, strides=strides, pads=pads))
        return name

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"], name=f"{x}.relu"))
        return f"{x}.relu"

    down = relu(conv("frames", "down", 1, 4, through=1.0))
    nodes.append(helper.make_node("MaxPool", [down], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]))
    bottom = relu(conv("pool", "bottom", 4, 8))
    up = conv(bottom, "up", 8, 4, "ConvTranspose", 2)
    nodes.append(helper.make_node("Concat", [down, up], ["joined"], name="joined", axis=1))
    conv(relu(conv("joined", "join", 8, 4, through=1.0)), "head", 4, 1, side=1, through=20.0)
    weights.append(numpy_helper.from_array(np.array(-14.0, np.float32), "centre"))
    nodes.append(helper.make_node("Add", ["head", "centre"], ["logits"], name="logits"))
    nodes.append(helper.make_node("Sigmoid", ["logits"], ["probability"], name="probability"))
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])
    given = helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["n", 1, SIZE, SIZE])
    save(folder, nodes[: None if kind == "probability" else -1], [frames], [given], weights, opset)
    size = {"rows": SIZE, "cols": SIZE}
    papers_input = {"name": "frames", "layout": "NCHW", "dtype": "float32", "scale": 1 / 255, **size}
    return write_papers(folder, SIZE, SIZE, input=papers_input, output={"kind": kind, "map": kind})
