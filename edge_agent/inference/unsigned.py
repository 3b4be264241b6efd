"""8-bit activations as OpenVINO computes them rightly: steps from 0 to 255 around 128, instead of -128 to 127 around 0.

The same steps, one for one. Given signed ones, OpenVINO (2026.4.1, CPU) makes unsigned ones itself where tensors are joined or
pooled, and its maps are then wrong by up to all levels. TensorRT takes signed ones alone, so the files stay as they are.

Left as they are: weights, graphs with branches or loops, pairs with anything but DequantizeLinear behind QuantizeLinear, and what a
transposed convolution alone reads, which OpenVINO computes in 8 bits only where it is signed.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

_SHIFT = 128
_ZERO = 2  # the place of the zero point among the inputs, after tensor and scale


def as_unsigned(network: Any) -> Any:
    """Return a copy of a ModelProto with the int8 pairs of activations in uint8."""
    from onnx import AttributeProto

    copied = copy.deepcopy(network)
    graph = copied.graph
    if any(each.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for node in graph.node for each in node.attribute):
        return copied  # what is read inside of them is not seen here
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants, given = _constants(graph), {each.name for each in graph.output}
    shifted = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants and node.output[0] not in given:
            ends = [node, *readers.get(node.output[0], [])]
            zeros = [_zero_point(each, node, constants) for each in ends]
            if all(zero is not None for zero in zeros) and not _is_deconvolved(ends[1:], readers):
                _shift(graph, ends, zeros)
                shifted.add(node.output[0])
    kept = [each for each in graph.value_info if each.name not in shifted]  # the others tell the former type
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return copied


def _constants(graph: Any) -> dict[str, Any]:
    """Every constant tensor by its name, wherever it is written."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    return found


def _zero_point(end: Any, quantise: Any, constants: dict[str, Any]) -> Any:
    """The int8 zero point of one end of a pair, (,) or (channels,); None where the pair stays as it is."""
    from onnx import numpy_helper

    if end is not quantise and (end.op_type != "DequantizeLinear" or list(end.input).index(quantise.output[0]) != 0):
        return None
    if len(end.input) <= _ZERO or not end.input[_ZERO]:
        return np.zeros((), np.int8) if end is not quantise else None  # its type is that of what it reads
    if end.input[_ZERO] not in constants:
        return None
    zero = numpy_helper.to_array(constants[end.input[_ZERO]])
    return zero if zero.dtype == np.int8 else None


def _is_deconvolved(dequantise: list[Any], readers: dict[str, list[Any]]) -> bool:
    """True where transposed convolutions alone read the pair."""
    behind = [node for each in dequantise for node in readers.get(each.output[0], [])]
    return bool(behind) and all(node.op_type == "ConvTranspose" for node in behind)


def _shift(graph: Any, ends: list[Any], zeros: list[Any]) -> None:
    """Write a pair's ends in uint8, each around its own zero point."""
    from onnx import TensorProto, numpy_helper

    for end, zero in zip(ends, zeros, strict=True):
        name = f"{end.output[0]}/unsigned"
        graph.initializer.append(numpy_helper.from_array((zero.astype(np.int16) + _SHIFT).astype(np.uint8), name))
        end.input[:] = [*end.input[:_ZERO], name]
    for attribute in ends[0].attribute:
        if attribute.name == "output_dtype":
            attribute.i = TensorProto.UINT8
