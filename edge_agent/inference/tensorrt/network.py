"""The finished ONNX as TensorRT takes it: a fixed number of pictures, on a line one, and uint8 nowhere but at the two ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from edge_agent.inference.graph import FRAMES, MAP, finish, read_network
from edge_agent.inference.model import Model

_FLOATS = "edge_agent.trt.floats"


@dataclass(frozen=True, slots=True)
class Network:
    """ONNX bytes for pictures (batch, 1, rows, cols), and their SHA-256."""

    onnx: bytes
    sha256: str


def network_of(model: Model, batch: int = 1) -> Network:
    """Return the model's finished network for so many pictures at once.

    Raises ConfigurationError for a file that is not what its papers say."""
    network = finish(read_network(model), model.papers)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    del network.graph.value_info[:]  # what was told of tensors that change their type here
    if model.papers.input.dtype == "uint8":
        _begin_with_floats(network.graph)
    _end_with_the_cast(network.graph)
    onnx = network.SerializeToString(deterministic=True)
    return Network(onnx, hashlib.sha256(onnx).hexdigest())


def _begin_with_floats(graph: Any) -> None:
    """TensorRT casts uint8 inputs and does nothing else with them; gray levels are as exact in float32."""
    from onnx import TensorProto, helper

    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == FRAMES:
                node.input[place] = _FLOATS
    cast = helper.make_node("Cast", [FRAMES], [_FLOATS], name=f"{_FLOATS}/Cast", to=TensorProto.FLOAT)
    graph.node.insert(0, cast)


def _end_with_the_cast(graph: Any) -> None:
    """Let what makes the map's uint8 levels write the output itself, without an Identity between."""
    makers = {output: node for node in graph.node for output in node.output}
    last = makers[MAP]
    if last.op_type != "Identity":
        return
    name = last.input[0]
    graph.node.remove(last)
    for node in graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == name:
                    names[place] = MAP
