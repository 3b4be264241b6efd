"""Half precision, written into a graph: chosen nodes get FP16 weights and compute in FP16; casts stand where they meet others.

Not onnxruntime's converter: that one casts to FP16 and back between nodes that stay in floats, and turns an infinite constant,
which is this station's alarm of a NaN, into a finite one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

_ALWAYS_FLOAT = {"Resize": (1, 2)}  # operator: places of inputs that are float32 in any case
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def to_half(network: Any, names: Collection[str]) -> Any:
    """Return a copy in which the nodes of these names compute in FP16. Ports keep their types."""
    return _Halving(network, set(names)).run()


class _Halving:
    def __init__(self, network: Any, names: set[str]) -> None:
        import onnx

        self._network = onnx.ModelProto()
        self._network.CopyFrom(network)
        self._names = names
        self._is_float = _float_tensors(network)
        self._constants = {each.name: each for each in self._network.graph.initializer}
        self._halves: dict[str, str] = {}  # tensors in float32: their copies in FP16
        self._wholes: dict[str, str] = {}  # tensors in FP16: their copies in float32
        self._made_half: set[str] = set()
        self._nodes: list[Any] = []

    def run(self) -> Any:
        graph = self._network.graph
        for node in graph.node:
            self._rewrite(node)
        outputs = {each.name for each in graph.output}
        assert not outputs & self._made_half, "a port of the graph would change its type"
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [each for each in graph.initializer if each.name in used]
        kept += [self._half_of(self._constants[name]) for name in self._halves if name in self._constants]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self._network

    def _rewrite(self, node: Any) -> None:
        from onnx import TensorProto

        is_half = node.name in self._names
        for place, name in enumerate(node.input):
            if not self._is_float.get(name, False) or place in _ALWAYS_FLOAT.get(node.op_type, ()):
                continue
            if is_half and name not in self._made_half:
                node.input[place] = self._as_half(name)
            elif not is_half and name in self._made_half:
                node.input[place] = self._cast(name, self._wholes, TensorProto.FLOAT, "float")
        if is_half:
            self._made_half |= {name for name in node.output if self._is_float.get(name, False)}
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        self._nodes.append(node)

    def _as_half(self, name: str) -> str:
        from onnx import TensorProto

        if name in self._constants:
            return self._halves.setdefault(name, f"{name}.half")
        return self._cast(name, self._halves, TensorProto.FLOAT16, "half")

    def _cast(self, name: str, casts: dict[str, str], to: int, suffix: str) -> str:
        from onnx import helper

        if name not in casts:
            casts[name] = f"{name}.{suffix}"
            self._nodes.append(helper.make_node("Cast", [name], [casts[name]], name=f"{casts[name]}/Cast", to=to))
        return casts[name]

    def _half_of(self, constant: Any) -> Any:
        from onnx import numpy_helper

        values = numpy_helper.to_array(constant)
        return numpy_helper.from_array(halved(values), self._halves[constant.name])


def halved(values: Any) -> Any:
    """float32 as float16: what is too large becomes the largest, what is too small the smallest but not 0; infinity stays."""
    finite = np.clip(values, -_LARGEST, _LARGEST)
    tiny = (finite != 0) & (np.abs(finite) < _SMALLEST)
    finite = np.where(tiny, np.copysign(_SMALLEST, finite), finite)
    return np.where(np.isfinite(values), finite, values).astype(np.float16)


def _float_tensors(network: Any) -> dict[str, bool]:
    """Which tensors are float32, of all whose type ONNX can tell."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(network)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    told = {each.name: each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for each in values}
    return told | {each.name: each.data_type == onnx.TensorProto.FLOAT for each in inferred.graph.initializer}
