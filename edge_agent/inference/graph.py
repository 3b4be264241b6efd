"""Finishes a network's graph on OpenVINO: whatever the file gives, uint8 maps and one peak logit come out."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.errors import ConfigurationError
from edge_agent.inference.model import ModelPapers

_BEYOND = 1e-3  # by so much a probability may leave 0..1 through rounding
_NEARLY = 1e-6  # probabilities this near to 0 or 1 count as this far, so that their logit is finite


def finish(ov: Any, graph: Any, papers: ModelPapers) -> Any:
    """Return a graph of uint8 frames in, (1, classes, rows, cols) uint8 and (1,) float32 out. Raises ConfigurationError."""
    rows, cols = papers.input.rows, papers.input.cols
    shape = [1, 1, rows, cols] if papers.input.layout == "NCHW" else [1, rows, cols, 1]
    taken = _require_name(graph.inputs, papers.input.name, "input.name").get_element_type().to_dtype()
    if taken != np.dtype(papers.input.dtype):
        raise ConfigurationError(f"model.yaml: input.dtype is {papers.input.dtype}, the file takes {taken}. Give that.")
    graph.reshape({papers.input.name: shape})
    output = _require_name(graph.outputs, papers.output.map, "output.map")
    classes = len(papers.classes)
    if papers.output.kind == "map_and_peak":
        peak = _require_name(graph.outputs, papers.output.peak or "", "output.peak")
        _require_shape(output, [1, classes, rows, cols])
        return ov.Model([_as_map(ov, output), _as_peak(ov, peak)], graph.get_parameters(), papers.name)
    ops = ov.opset13
    if papers.output.layout == "NHWC":
        output = ops.transpose(_source(output), ops.constant([0, 3, 1, 2])).output(0)
    channels = classes + (papers.head == "softmax")
    _require_shape(output, [1, channels, rows, cols])
    logits = _logits(ops, output, papers)
    finished = ov.Model(_map_and_peak(ops, logits), graph.get_parameters(), papers.name)
    return _scaled(ov, finished, papers)


def _require_name(ports: Any, name: str, key: str) -> Any:
    for port in ports:
        if name in port.get_names():
            return port
    known = ", ".join(sorted(name for port in ports for name in port.get_names()))
    raise ConfigurationError(f"model.yaml: {key} is {name!r}, the file has {known}. Give one of them.")


def _require_shape(port: Any, expected: list[int]) -> None:
    shape = list(port.get_partial_shape().to_shape()) if port.get_partial_shape().is_static else []
    if shape != expected:
        raise ConfigurationError(
            f"model.yaml: the map's shape is {shape or port.get_partial_shape()}, expected {expected}. "
            "Mend classes, head, layout or rows and cols."
        )


def _source(port: Any) -> Any:
    """The value that reaches a result, rather than the result itself."""
    node = port.get_node()
    return node.input_value(0) if node.get_type_name() == "Result" else port


def _as_map(ov: Any, port: Any) -> Any:
    return ov.opset13.result(_source(port))


def _as_peak(ov: Any, port: Any) -> Any:
    ops = ov.opset13
    return ops.result(ops.reshape(_source(port), ops.constant([1]), False))


def _logits(ops: Any, port: Any, papers: ModelPapers) -> Any:
    """Log-odds of every defect class: for a softmax head, of the class against all others."""
    value = _source(port)
    if papers.output.kind == "probability":
        if papers.head == "softmax":
            value = ops.slice(value, ops.constant([1]), ops.constant([2**31 - 1]), ops.constant([1]), ops.constant([1]))
        return _log_odds(ops, value)
    if papers.head == "sigmoid":
        return value
    channels = len(papers.classes) + 1
    odds = []
    for index in range(1, channels):
        others = [i for i in range(channels) if i != index]
        rest = _log_sum_exp(ops, ops.gather(value, ops.constant(others), ops.constant(1)))
        odds.append(ops.subtract(ops.gather(value, ops.constant([index]), ops.constant(1)), rest))
    return odds[0] if len(odds) == 1 else ops.concat(odds, 1)


def _log_odds(ops: Any, probability: Any) -> Any:
    """Of a value that is no probability NaN, which makes the peak infinite: clamping alone would turn it into a clean pixel."""
    low, high, one = (ops.constant(np.float32(number)) for number in (-_BEYOND, 1 + _BEYOND, 1.0))
    kept = ops.clamp(probability, _NEARLY, 1 - _NEARLY)
    odds = ops.log(ops.divide(kept, ops.subtract(one, kept)))
    is_one = ops.logical_and(ops.greater_equal(probability, low), ops.less_equal(probability, high))  # false for NaN
    return ops.select(is_one, odds, ops.constant(np.float32("nan")))


def _log_sum_exp(ops: Any, value: Any) -> Any:
    top = ops.reduce_max(value, ops.constant([1]), True)
    total = ops.reduce_sum(ops.exp(ops.subtract(value, top)), ops.constant([1]), True)
    return ops.add(top, ops.log(total))


def _map_and_peak(ops: Any, logits: Any) -> list[Any]:
    probability = ops.sigmoid(logits)
    level = ops.round(ops.multiply(probability, ops.constant(np.float32(255.0))), "half_to_even")
    maps = ops.convert(level, "u8")
    loud = ops.select(ops.is_nan(logits), ops.constant(np.float32("inf")), logits)  # max() may pass over a NaN
    peak = ops.reshape(ops.reduce_max(loud, ops.constant([0, 1, 2, 3]), False), ops.constant([1]), False)
    return [ops.result(maps), ops.result(peak)]


def _scaled(ov: Any, graph: Any, papers: ModelPapers) -> Any:
    """Take uint8 and scale in the graph, where the network itself takes floats."""
    if papers.input.dtype == "uint8":
        return graph
    pre = ov.preprocess.PrePostProcessor(graph)
    step = pre.input(0)
    step.tensor().set_element_type(ov.Type.u8)
    steps = step.preprocess().convert_element_type(ov.Type.f32)
    if papers.input.scale != 1.0:
        steps = steps.scale(1 / papers.input.scale)
    if papers.input.offset:
        steps.mean(-papers.input.offset)
    return pre.build()
