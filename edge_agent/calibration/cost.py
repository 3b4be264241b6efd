"""What one frame costs: operations of the convolutions by the precision they compute in, and bytes that must go through memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from edge_agent.calibration.trunk import CONVOLUTIONS, PASSES, sizes_of

FLOAT, HALF, EIGHT = "float32", "float16", "int8"
_BYTES = {FLOAT: 4, HALF: 2, EIGHT: 1}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one frame: `operations` by precision; `frame_bytes` read and written by convolutions and poolings, each tensor once by
    each of them; `weight_bytes` read once for a whole batch. An engine that keeps tensors in a cache may need fewer."""

    operations: dict[str, int]
    frame_bytes: int
    weight_bytes: int

    def least_s(self, batch: int, operations_per_s: dict[str, float], bytes_per_s: float) -> float:
        """The roofline: computing and memory beside each other, the slower of the two for a batch."""
        computing = sum(count / operations_per_s[precision] for precision, count in self.operations.items())
        return max(batch * computing, (batch * self.frame_bytes + self.weight_bytes) / bytes_per_s)


@dataclass(frozen=True, slots=True)
class _Node:
    precision: str
    operations: int
    elements: int
    weights: int


def cost_of(network: Any) -> Cost:
    """Return what a frame costs, an open batch counted as 1."""
    nodes = list(_costs(network))
    by_precision: dict[str, int] = {}
    for node in nodes:
        if node.operations:
            by_precision[node.precision] = by_precision.get(node.precision, 0) + node.operations
    frames = sum(node.elements * _BYTES[node.precision] for node in nodes)
    return Cost(by_precision, frames, sum(node.weights * _BYTES[node.precision] for node in nodes))


def operations(network: Any) -> int:
    """Multiplications and additions of all convolutions for one frame: 2 for each weight at each place."""
    return sum(cost_of(network).operations.values())


def _costs(network: Any) -> Iterator[_Node]:
    sizes, halves = sizes_of(network), _halves(network)
    constants = {each.name: tuple(each.dims) for each in network.graph.initializer}
    written = (node for node in network.graph.node if node.op_type == "Constant")
    constants |= {node.output[0]: tuple(each.t.dims) for node in written for each in node.attribute if each.name == "value"}
    makers = {output: node for node in network.graph.node for output in node.output}
    for node in network.graph.node:
        if node.op_type not in (*CONVOLUTIONS, "MaxPool"):
            continue
        source, target = sizes.get(node.input[0], ()), sizes.get(node.output[0], ())
        precision = EIGHT if _is_eight(node.input[0], makers) else HALF if node.input[0] in halves else FLOAT
        weights, places = (), target if node.op_type == "Conv" else source
        if node.op_type in CONVOLUTIONS:
            weights = constants.get(_constant(node.input[1], constants, makers), ())
        done = 2 * prod(weights) * places[2] * places[3] if len(weights) == len(places) == 4 else 0
        yield _Node(precision, done, prod(source) * bool(source) + prod(target) * bool(target), prod(weights) * bool(weights))


def _constant(name: str, constants: dict[str, tuple[int, ...]], makers: dict[str, Any]) -> str:
    while name not in constants and name in makers and makers[name].input:
        name = makers[name].input[0]  # through Q and DQ
    return name


def _is_eight(name: str, makers: dict[str, Any]) -> bool:
    """True for what a pair gives, also through what only passes on."""
    node = makers.get(name)
    if node is None or node.op_type == "DequantizeLinear":
        return node is not None
    if node.op_type not in PASSES:
        return False
    return all(_is_eight(each, makers) for each in (node.input if node.op_type == "Concat" else node.input[:1]))


def _halves(network: Any) -> set[str]:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(network).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    return {each.name for each in values if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
