"""8-bit activations as OpenVINO computes them rightly: steps from 0 to 255 around 128, instead of -128 to 127 around 0.

The same steps, one for one. Given signed ones, OpenVINO (2026.4.1, CPU) makes unsigned ones itself where tensors are joined or
pooled, and its maps are then wrong by up to all levels. TensorRT takes signed ones alone, so the files stay as they are.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

_SHIFT = 128


def as_unsigned(network: Any) -> Any:
    """Return a copy of a ModelProto with every int8 pair of an activation in uint8; weights stay int8."""
    from onnx import numpy_helper

    copied = copy.deepcopy(network)
    graph = copied.graph
    constants = {each.name: each for each in graph.initializer}
    takers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    given = {each.name for each in graph.output}
    for node in list(graph.node):
        zero = _zero_point(node, constants) if node.op_type == "QuantizeLinear" and node.input[0] not in constants else None
        if zero is None:
            continue
        ends = takers.get(node.output[0], [])
        if node.output[0] in given or any(
            each.op_type != "DequantizeLinear" or _zero_point(each, constants) is None for each in ends
        ):
            continue
        shifted = numpy_helper.from_array((zero.astype(np.int16) + _SHIFT).astype(np.uint8), f"{node.output[0]}/unsigned")
        graph.initializer.append(shifted)
        for each in (node, *ends):
            each.input[2] = shifted.name
    return copied


def _zero_point(node: Any, constants: dict[str, Any]) -> Any:
    """The constant int8 zero point of one end of a pair; None for any other."""
    from onnx import numpy_helper

    if len(node.input) < 3 or node.input[2] not in constants:  # tensor, scale, zero point
        return None
    zero = numpy_helper.to_array(constants[node.input[2]])
    return zero if zero.dtype == np.int8 else None
