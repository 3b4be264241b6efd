"""The network as an ONNX graph, written node by node: batch norm folded, gray levels in, probability map and peak out.

Written by hand rather than traced, so that the graph holds exactly what is below, under names a person can read, and so
that no exporter's version decides what an engine on a station has to parse. Opset 17 is what TensorRT 8.5 still reads.

frames uint8 (N, 1, rows, cols) -> map uint8 (N, classes, rows, cols), round(255 p); peak float32 (N), the largest logit
of any defect class (softmax: the log-odds of any defect against the background). A NaN among the logits makes the peak
+inf: a uint8 map could never show it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from lite import Lite
from lite_graph import write_lite
from networks import Network
from nodes import Graph, array_of, with_norm
from onnx import TensorProto, helper
from unet import FLAT, GRAY_CENTRE, GRAY_SCALE, Block, Shape, UNet

OPSET = 17
IR_VERSION = 8


def graph_of(network: Network, name: str) -> Any:
    """A checked ModelProto of the network in evaluation mode; N, rows and cols stay open."""
    graph = Graph()
    logits = _write_logits(graph, network)
    if network.shape.head == "sigmoid":
        _write_sigmoid(graph, logits, network.shape)
    else:
        _write_softmax(graph, logits, network.shape)
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, "rows", "cols"])
    maps = helper.make_tensor_value_info("map", TensorProto.UINT8, ["N", len(network.shape.classes), "rows", "cols"])
    peak = helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["N"])
    body = helper.make_graph(graph.nodes, name, [frames], [maps, peak], graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(body, opset_imports=opset, ir_version=IR_VERSION, producer_name="edge-agent tools/export.py")
    onnx.checker.check_model(model, full_check=True)
    return model


def _write_logits(graph: Graph, network: Network) -> str:
    """Everything up to the head: (N, logits, rows / stem, cols / stem), of a fine head times stem^2, still folded."""
    gray = graph.add("Cast", ["frames"], "gray", to=TensorProto.FLOAT)
    centred = graph.add("Sub", [gray, graph.number("gray_centre", GRAY_CENTRE)], "centred")
    x = graph.add("Mul", [centred, graph.number("gray_scale", GRAY_SCALE)], "scaled")
    if network.shape.normalise:
        x = _write_normalised(graph, x)
    x = write_lite(graph, x, network) if isinstance(network, Lite) else _write_unet(graph, x, network)
    return graph.conv(x, "head", array_of(network.head.weight), array_of(network.head.bias))


def _write_unet(graph: Graph, x: str, network: UNet) -> str:
    """All of the U-Net but its head."""
    if network.shape.stem > 1:
        x = graph.add("SpaceToDepth", [x], "stem", blocksize=network.shape.stem)
    skipped = []
    for level, block in enumerate(network.down):
        skipped.append(_write_block(graph, x, block, f"down{level}"))
        x = graph.add("MaxPool", [skipped[-1]], f"pool{level}", kernel_shape=[2, 2], strides=[2, 2])
    x = _write_block(graph, x, network.bottom, "bottom")
    for level, up, join in zip(reversed(range(network.shape.levels)), network.up, network.join, strict=True):
        x = graph.conv(x, f"up{level}", array_of(up.weight), array_of(up.bias), op="ConvTranspose", strides=[2, 2])
        x = graph.add("Concat", [skipped[level], x], f"joined{level}", axis=1)
        x = _write_block(graph, x, join, f"join{level}")
    return x


def _write_normalised(graph: Graph, x: str) -> str:
    """Each frame less its mean, by its standard deviation. Squares of scaled gray levels stay small: FP16 holds their sum."""
    centred = graph.add("Sub", [x, graph.add("ReduceMean", [x], "mean", axes=[2, 3])], "frame_centred")
    variance = graph.add("ReduceMean", [graph.add("Mul", [centred, centred], "squares")], "variance", axes=[2, 3])
    deviation = graph.add("Add", [graph.add("Sqrt", [variance], "deviation"), graph.number("flat", FLAT)], "divisor")
    return graph.add("Div", [centred, deviation], "normalised")


def _write_block(graph: Graph, x: str, block: Block, name: str) -> str:
    """Two convolutions with their batch norm folded in, each with its ReLU."""
    for half, conv, norm in ((1, block.conv1, block.norm1), (2, block.conv2, block.norm2)):
        x = graph.conv(x, f"{name}.conv{half}", *with_norm(conv, norm), pads=[1, 1, 1, 1])
        x = graph.add("Relu", [x], f"{name}.relu{half}")
    return x


def _write_sigmoid(graph: Graph, folded: str, shape: Shape) -> None:
    """Each class on its own. The peak is taken before the unfolding, which moves logits but changes none."""
    _write_map(graph, graph.add("Sigmoid", [_unfold(graph, folded, shape)], "probability"), shape.cell_px)
    is_nan = graph.add("IsNaN", [folded], "is_nan")
    shown = graph.add("Where", [is_nan, graph.number("alarm", np.inf), folded], "shown")
    graph.add("ReduceMax", [shown], "peak", axes=[1, 2, 3], keepdims=0)


def _write_softmax(graph: Graph, folded: str, shape: Shape) -> None:
    """Log-odds of any defect = log of the sum of exp of the defects' logits, stable by the largest, less the background's logit.

    The likeliest class gets that probability, the others 0."""
    logits, classes = _unfold(graph, folded, shape), len(shape.classes)
    ends = {k: graph.constant(f"end_{k}", np.array([v], np.int64)) for k, v in (("0", 0), ("1", 1), ("all", classes + 1))}
    background = graph.add("Slice", [logits, ends["0"], ends["1"], ends["1"]], "background")
    defects = graph.add("Slice", [logits, ends["1"], ends["all"], ends["1"]], "defects")
    largest = graph.add("ReduceMax", [defects], "largest", axes=[1], keepdims=1)
    share = graph.add("Exp", [graph.add("Sub", [defects, largest], "lowered")], "share")
    total = graph.conv(share, "total", np.ones((1, classes, 1, 1), np.float32), np.zeros(1, np.float32))
    together = graph.add("Add", [largest, graph.add("Log", [total], "total_log")], "together")
    odds = graph.add("Sub", [together, background], "log_odds")
    any_defect = graph.add("Sigmoid", [odds], "any_defect")
    likeliest = graph.add("Equal", [defects, largest], "is_likeliest")
    probability = graph.add("Where", [likeliest, any_defect, graph.number("none", 0.0)], "probability")
    _write_map(graph, probability, shape.cell_px)
    is_nan = graph.add("IsNaN", [odds], "is_nan")
    shown = graph.add("Where", [is_nan, graph.number("alarm", np.inf), odds], "shown")
    graph.add("ReduceMax", [shown], "peak", axes=[1, 2, 3], keepdims=0)


def _unfold(graph: Graph, folded: str, shape: Shape) -> str:
    if shape.stem == shape.cell_px:
        return folded
    return graph.add("DepthToSpace", [folded], "logits", blocksize=shape.stem, mode="CRD")


def _write_map(graph: Graph, probability: str, cell_px: int) -> None:
    """Rounded to levels, then repeated to every pixel of its cell: the map is as large as the frame either way."""
    levels = graph.add("Mul", [probability, graph.number("white", 255.0)], "levels")
    rounded = graph.add("Round", [levels], "rounded")
    if cell_px > 1:
        by = graph.constant("repeats", np.array([1, 1, cell_px, cell_px], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        rounded = graph.add("Resize", [rounded, "", by], "repeated", **how)
    graph.add("Cast", [rounded], "map", to=TensorProto.UINT8)
