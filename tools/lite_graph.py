"""The stages and joins of tools/lite.py as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np
from lite import CONTRAST, SIX, Inverted, Lite, Normed
from nodes import Graph, array_of, with_norm


def write_lite(graph: Graph, x: str, network: Lite) -> str:
    """All of the network but its head, from scaled gray levels on."""
    x = graph.add("Mul", [x, graph.number("contrast", CONTRAST)], "contrasted")
    graph.number("least", 0.0)
    graph.number("six", SIX)
    x = _six(graph, _write_normed(graph, x, network.stem, "stem"), "stem.relu6")
    joined: list[str] = []
    for number, block in enumerate(network.blocks):
        x = _write_inverted(graph, x, block, f"block{number}")
        if number in network.ends:
            lateral, name = network.lateral[len(joined)], f"lateral{len(joined)}"
            joined.append(graph.conv(x, name, array_of(lateral.weight), array_of(lateral.bias)))
    y = joined.pop()
    for level in reversed(range(len(network.join))):
        y = graph.add("Relu", [_write_normed(graph, y, network.join[level], f"join{level}")], f"join{level}.relu")
        if joined:
            y = graph.add("Add", [joined.pop(), _twice(graph, y, f"twice{level}")], f"joined{level - 1}")
    return y


def _write_inverted(graph: Graph, x: str, block: Inverted, name: str) -> str:
    wide = x
    if block.expand is not None:
        wide = _six(graph, _write_normed(graph, wide, block.expand, f"{name}.expand"), f"{name}.expand.relu6")
    wide = _six(graph, _write_normed(graph, wide, block.depthwise, f"{name}.depthwise"), f"{name}.depthwise.relu6")
    narrow = _write_normed(graph, wide, block.project, f"{name}.project")
    return graph.add("Add", [x, narrow], f"{name}.added") if block.is_added else narrow


def _write_normed(graph: Graph, x: str, part: Normed, name: str) -> str:
    """The convolution with its batch norm folded in."""
    pads, conv = [part.before, part.before, part.behind, part.behind], part.conv
    return graph.conv(x, name, *with_norm(conv, part.norm), pads=pads, strides=list(conv.stride), group=conv.groups)


def _six(graph: Graph, x: str, name: str) -> str:
    return graph.add("Clip", [x, "least", "six"], name)


def _twice(graph: Graph, x: str, name: str) -> str:
    """Each cell four times, as large as the next finer stage."""
    by = graph.constant(f"{name}.by", np.array([1, 1, 2, 2], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", [x, "", by], name, **how)
