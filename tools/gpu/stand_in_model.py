"""The model that the stand-in computes: a pixel is a defect when it is bright. An ONNX network, so that the CPU computes it too."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CENTRE, SLOPE = 200.0, 0.1  # gray level of probability 0.5, and logits for each level more
SIDE = 512
NAME = "stand-in"
PAPERS: dict[str, Any] = {"version": 1, "head": "sigmoid", "classes": ["defect"]}


def fingerprint(onnx: bytes) -> dict[str, Any]:
    """What model.yaml says of its file."""
    return {"onnx": {"file": "model.onnx", "sha256": hashlib.sha256(onnx).hexdigest()}}


def write_model(folder: Path, side: int = SIDE) -> Path:
    """Write model.onnx and model.yaml; return the folder."""
    from onnx import TensorProto, helper, numpy_helper

    values = {"centre": CENTRE, "slope": SLOPE, "full": 255.0}
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()]
    constants.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"))
    nodes = [
        helper.make_node("Cast", ["frames"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["gray", "centre"], ["above"]),
        helper.make_node("Mul", ["above", "slope"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probability"]),
        helper.make_node("Mul", ["probability", "full"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["level"]),
        helper.make_node("Cast", ["level"], ["map"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["logits", "axes"], ["peak"], keepdims=0),
    ]
    picture = ["n", 1, side, side]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, picture)]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.UINT8, picture),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(nodes, NAME, inputs, outputs, constants)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(network, {"kind": "edge-agent stand-in", "centre": str(CENTRE), "slope": str(SLOPE)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content := network.SerializeToString(deterministic=True))
    papers = (
        PAPERS
        | fingerprint(content)
        | {
            "name": NAME,
            "input": {"name": "frames", "layout": "NCHW", "dtype": "uint8", "rows": side, "cols": side},
            "output": {"kind": "map_and_peak", "map": "map", "peak": "peak"},
        }
    )
    (folder / "model.yaml").write_text(yaml.safe_dump(papers))
    return folder
