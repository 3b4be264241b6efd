"""The pen that graphs are written with: nodes and constants under names a person can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Graph:
    """Nodes and constants in the order they are written; every method returns the name of the tensor it adds."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name

    def conv(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any], *, op: str = "Conv", **attributes: Any) -> str:
        terms = [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.add(op, terms, name, kernel_shape=list(weight.shape[2:]), **attributes)


def array_of(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array


def with_norm(conv: torch.nn.Module, norm: torch.nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias of a convolution without bias and the batch norm behind it, as one."""
    gain = array_of(norm.weight) / np.sqrt(array_of(norm.running_var) + norm.eps)
    weight = (array_of(conv.weight) * gain[:, None, None, None]).astype(np.float32)
    return weight, (array_of(norm.bias) - array_of(norm.running_mean) * gain).astype(np.float32)
