"""Reads a graph: its trunk (from the first convolution to the last), and the convolutions at full resolution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CONVOLUTIONS = ("Conv", "ConvTranspose")
PASSES = ("MaxPool", "Concat")  # what comes out has the range of what goes in
_HEADS = ("Exp", "Softmax", "Log")  # a convolution behind one of these sums up probabilities: it stays in floats


@dataclass(frozen=True, slots=True)
class Trunk:
    """Names of nodes. `nodes` lie on a way from one convolution to another; `first_level` are those of them that work at the
    resolution of the first convolution."""

    nodes: frozenset[str]
    convolutions: tuple[str, ...]
    first_level: frozenset[str]


def trunk_of(network: Any) -> Trunk:
    """Find the trunk of a ModelProto whose nodes have names."""
    nodes = list(network.graph.node)
    makers = {output: node for node in nodes for output in node.output}
    behind_head = _reached((node for node in nodes if node.op_type in _HEADS), _users(nodes))
    convolutions = [node for node in nodes if node.op_type in CONVOLUTIONS and node.name not in behind_head]
    after = _reached(convolutions, _users(nodes))
    before = _reached(convolutions, {node.name: [makers[i] for i in node.input if i in makers] for node in nodes})
    names = frozenset(after & before)
    return Trunk(names, tuple(node.name for node in convolutions), _first_level(network, names, convolutions))


def _users(nodes: Iterable[Any]) -> dict[str, list[Any]]:
    """The nodes that take what a node gives, by its name."""
    takers: dict[str, list[Any]] = {}
    listed = list(nodes)
    for node in listed:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    return {node.name: [taker for output in node.output for taker in takers.get(output, [])] for node in listed}


def _reached(begin: Iterable[Any], ways: dict[str, list[Any]]) -> set[str]:
    """The names of the nodes that can be reached, with those it begins with."""
    waiting = list(begin)
    seen = {node.name for node in waiting}
    while waiting:
        for node in ways[waiting.pop().name]:
            if node.name not in seen:
                seen.add(node.name)
                waiting.append(node)
    return seen


def _first_level(network: Any, names: frozenset[str], convolutions: list[Any]) -> frozenset[str]:
    """Of the trunk, what gives tensors as large as the first convolution's, and the pooling that leaves that resolution."""
    sizes = sizes_of(network)
    largest = max((_area(sizes, node.output[0]) for node in convolutions), default=0)
    at_full = {
        node.name
        for node in network.graph.node
        if node.name in names and max(_area(sizes, name) for name in (node.output[0], *_pooled(node))) >= largest
    }
    return frozenset(at_full)


def _pooled(node: Any) -> list[str]:
    return [node.input[0]] if node.op_type in ("MaxPool", "AveragePool") else []


def _area(sizes: dict[str, tuple[int, ...]], name: str) -> int:
    size = sizes.get(name, ())
    return size[2] * size[3] if len(size) == 4 else 0


def sizes_of(network: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that ONNX can tell, an open batch counted as 1."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(network, data_prop=True)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    return {each.name: tuple(int(dim.dim_value) or 1 for dim in each.type.tensor_type.shape.dim) for each in values}
