"""Finishes a network's ONNX graph: whatever the file takes and gives, uint8 frames go in, uint8 maps and a peak logit come out.

Done once, when a model is loaded, and in ONNX itself, so that every engine gets the same graph under the same names.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import ConfigurationError
from edge_agent.inference.model import Model, ModelPapers
from edge_agent.inference.ports import Port, complaints

FRAMES, MAP, PEAK = "edge_agent.frames", "edge_agent.map", "edge_agent.peak"
_BEYOND = 1e-3  # by so much a probability may leave 0..1 through rounding
_NEARLY = 1e-6  # probabilities this near to 0 or 1 count as this far, so that their logit is finite
_OLDEST = 13  # of ONNX's operator sets: Keras, PyTorch and the decks' tools write this or newer
_REDUCES_BY_INPUT = 18  # from here on ReduceMax takes its axes as an input


def read_network(model: Model) -> Any:
    """Return the file as onnx.ModelProto. Raises ConfigurationError where it is no ONNX that could run, or not what model.yaml
    says."""
    network, papers = load_network(model.onnx), model.papers
    inputs, _ = ports_of(network)
    told = papers.input
    arranged = (1, 1, told.rows, told.cols) if told.layout == "NCHW" else (1, told.rows, told.cols, 1)
    _, outputs = ports_of(with_sizes(network, told.name, arranged))
    wrong = [model.problem(*each) for each in complaints(inputs, outputs, papers)]
    if wrong:
        raise ConfigurationError(wrong)
    return network


def load_network(file: Path) -> Any:
    """Return a file as onnx.ModelProto. Raises ConfigurationError where it is no ONNX that could run here."""
    try:
        import onnx
    except ImportError:
        raise ConfigurationError("a model needs the package onnx. Install it: pip install 'edge-agent[cpu]'") from None
    from google.protobuf.message import DecodeError

    try:
        network = onnx.load(str(file), load_external_data=False)
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror}", "give the path of an ONNX file.") from None
    except DecodeError as error:
        raise _unusable(file, f"it is no ONNX file: {error}", "export the network as ONNX.") from None
    if not network.graph.node:
        raise _unusable(file, "it is no ONNX file: there is no network in it", "export the network as ONNX.")
    opset = opset_of(network)
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        message = f"it has operator set {opset}; {_OLDEST} to {newest} can be read"
        raise _unusable(file, message, "export it with opset 17.")
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in network.graph.initializer):
        message = "its weights lie in another file, which no hash covers"
        raise _unusable(file, message, "export it as one file (torch.onnx.export: external_data=False).")
    return network


def _unusable(file: Path, message: str, remedy: str) -> ConfigurationError:
    return ConfigurationError.of(f"{file} cannot be used: {message}.", remedy)


def opset_of(network: Any) -> int:
    """The version of ONNX's own operators; 0 where none is told."""
    return max((int(each.version) for each in network.opset_import if each.domain in ("", "ai.onnx")), default=0)


def ports_of(network: Any) -> tuple[list[Port], list[Port]]:
    """The inputs, without those that are weights, and the outputs."""
    constants = {each.name for each in network.graph.initializer}
    inputs = [_port(each) for each in network.graph.input if each.name not in constants]
    return inputs, [_port(each) for each in network.graph.output]


def with_sizes(network: Any, name: str, dims: tuple[int, ...]) -> Any:
    """A copy with every shape that ONNX can tell, where input `name` has `dims` wherever the file leaves them open."""
    import onnx

    fixed = copy.deepcopy(network)
    for each in fixed.graph.input:
        told = each.type.tensor_type.shape.dim
        if each.name == name and len(told) == len(dims):
            for dim, size in zip(told, dims, strict=True):
                if dim.WhichOneof("value") != "dim_value":
                    dim.dim_value = size
    for each in fixed.graph.output:
        for dim in each.type.tensor_type.shape.dim:
            if dim.WhichOneof("value") == "dim_param":
                dim.ClearField("dim_param")
    try:
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return fixed  # the engine will say what is wrong with it


def _port(value: Any) -> Port:
    from onnx import helper

    kind = value.type.tensor_type
    dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else value.type.WhichOneof("value") or "nothing"
    dims = tuple(int(d.dim_value) if d.WhichOneof("value") == "dim_value" else None for d in kind.shape.dim)
    return Port(value.name, dtype, dims if kind.HasField("shape") else None)


def finish(network: Any, papers: ModelPapers) -> Any:
    """Return a ModelProto that takes FRAMES (batch, 1, rows, cols) uint8 and gives MAP (batch, classes, rows, cols) uint8,
    round(255 p), and PEAK (batch,) float32, the largest logit; a NaN among the logits makes it +inf. `network` is used up."""
    from onnx import TensorProto, helper

    graph = network.graph
    head, tail = _Nodes("edge_agent.in", opset_of(network)), _Nodes("edge_agent.out", opset_of(network))
    _write_input(head, papers)
    if papers.output.kind == "map_and_peak":
        tail.add("Identity", papers.output.map, name=MAP)
        tail.add("Reshape", papers.output.peak or "", tail.constant([-1], np.int64), name=PEAK)
    else:
        _write_map_and_peak(tail, _logits(tail, papers))
    nodes = [*head.nodes, *graph.node, *tail.nodes]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*head.constants, *tail.constants])
    kept = [each for each in graph.input if each.name != papers.input.name]
    frames = helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, ["batch", 1, papers.input.rows, papers.input.cols])
    del graph.input[:]
    graph.input.extend([frames, *kept])
    graph.output.append(helper.make_tensor_value_info(MAP, TensorProto.UINT8, None))
    graph.output.append(helper.make_tensor_value_info(PEAK, TensorProto.FLOAT, None))
    return network


class _Nodes:
    """Nodes and constants in the order they are written; `add` returns the name of the tensor it adds."""

    def __init__(self, prefix: str, opset: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix, self._opset = prefix, opset

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}.constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{self._prefix}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}/{op}", **attributes))
        return name

    def largest(self, value: str, axes: list[int], *, keepdims: int, name: str = "") -> str:
        if self._opset < _REDUCES_BY_INPUT:
            return self.add("ReduceMax", value, axes=axes, keepdims=keepdims, name=name)
        return self.add("ReduceMax", value, self.constant(axes, np.int64), keepdims=keepdims, name=name)


def _write_input(nodes: _Nodes, papers: ModelPapers) -> None:
    """From FRAMES to what the network takes."""
    from onnx import TensorProto

    told, value = papers.input, FRAMES
    if told.dtype == "float32":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
        if told.scale not in (None, 1.0):
            value = nodes.add("Mul", value, nodes.constant(told.scale))
        if told.offset:
            value = nodes.add("Add", value, nodes.constant(told.offset))
    if told.layout == "NHWC":
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    nodes.add("Identity", value, name=told.name)


def _logits(nodes: _Nodes, papers: ModelPapers) -> str:
    """Log-odds of every defect class, (batch, classes, rows, cols); for a softmax head, of the class against all others."""
    from onnx import TensorProto

    value = nodes.add("Cast", papers.output.map, to=TensorProto.FLOAT)
    if papers.output.layout == "NHWC":
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    first = 1 if papers.background_place == "first" else 0
    wanted = range(first, first + len(papers.classes))
    if papers.head == "softmax" and papers.output.kind == "logits":
        odds = [_against_others(nodes, value, index, papers.channels) for index in wanted]
        return odds[0] if len(odds) == 1 else nodes.add("Concat", *odds, axis=1)
    if papers.channels > len(papers.classes):
        value = _channels(nodes, value, list(wanted))
    return value if papers.output.kind == "logits" else _log_odds(nodes, value)


def _channels(nodes: _Nodes, value: str, wanted: list[int]) -> str:
    return nodes.add("Gather", value, nodes.constant(wanted, np.int64), axis=1)


def _against_others(nodes: _Nodes, value: str, index: int, channels: int) -> str:
    others = _channels(nodes, value, [i for i in range(channels) if i != index])
    if channels > 2:
        top = nodes.largest(others, [1], keepdims=1)
        total = nodes.add("ReduceSum", nodes.add("Exp", nodes.add("Sub", others, top)), nodes.constant([1], np.int64), keepdims=1)
        others = nodes.add("Add", top, nodes.add("Log", total))
    return nodes.add("Sub", _channels(nodes, value, [index]), others)


def _log_odds(nodes: _Nodes, probability: str) -> str:
    """Of a value that is no probability NaN, which makes the peak infinite: clamping alone would turn it into a clean pixel."""
    nearly, whole = nodes.constant(_NEARLY), nodes.constant(1.0)  # each clamped by itself: in half precision 1 - 1e-6 is 1
    share = nodes.add("Clip", probability, nearly, whole)
    rest = nodes.add("Clip", nodes.add("Sub", whole, probability), nearly, whole)
    odds = nodes.add("Sub", nodes.add("Log", share), nodes.add("Log", rest))
    above = nodes.add("Greater", probability, nodes.constant(-_BEYOND))  # ONNX tells no shape behind "OrEqual" before opset 16
    below = nodes.add("Less", probability, nodes.constant(1 + _BEYOND))
    return nodes.add("Where", nodes.add("And", above, below), odds, nodes.constant(np.nan))  # not a number is neither


def _write_map_and_peak(nodes: _Nodes, logits: str) -> None:
    from onnx import TensorProto

    level = nodes.add("Round", nodes.add("Mul", nodes.add("Sigmoid", logits), nodes.constant(255.0)))
    nodes.add("Cast", level, to=TensorProto.UINT8, name=MAP)
    loud = nodes.add("Where", nodes.add("IsNaN", logits), nodes.constant(np.inf), logits)  # max() may pass over a NaN
    nodes.largest(loud, [1, 2, 3], keepdims=0, name=PEAK)
