"""The exported graph on OpenVINO says what the network says, and never hides a NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Tool = Callable[[str], ModuleType]
CASES = [
    ("sigmoid", ("defect",), 4),
    ("sigmoid", ("pit", "scratch"), 2),
    ("softmax", ("pit", "scratch"), 4),
    ("softmax", ("pit",), 1),
]


def lively_network(tool: Tool, head: str, classes: tuple[str, ...], stem: int) -> Any:
    """A small network with spread-out logits and used batch norms."""
    import torch

    torch.manual_seed(0)
    unet = tool("unet")
    network = unet.UNet(unet.Shape(4, 2, stem, head, classes))
    torch.nn.init.normal_(network.head.weight, std=0.5)
    with torch.no_grad():
        for _ in range(3):
            network(torch.from_numpy(frames()))
    return network.eval()


def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (2, 1, 32, 64), dtype=np.uint8)


def infer(tool: Tool, network: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Maps and peaks of `frames` by the exported graph."""
    import openvino

    core = openvino.Core()
    outputs = core.compile_model(core.read_model(tool("graph").graph_of(network, "net").SerializeToString()), "CPU")([frames()])
    return outputs["map"], outputs["peak"]


@pytest.mark.parametrize(("head", "classes", "stem"), CASES)
def test_map_and_peak_are_the_networks(tool: Tool, head: str, classes: tuple[str, ...], stem: int) -> None:
    import torch

    network = lively_network(tool, head, classes, stem)
    with torch.no_grad():
        wanted = tool("unet").probabilities(network(torch.from_numpy(frames())), head).double()
    maps, peaks = infer(tool, network)
    assert maps.dtype == np.uint8
    assert maps.shape == (2, len(classes), 32, 64)
    assert np.abs(maps - (wanted * 255).round().numpy()).max() <= 1
    assert peaks == pytest.approx(wanted.amax((1, 2, 3)).logit().numpy(), abs=1e-4)


@pytest.mark.parametrize(("head", "classes", "stem"), CASES)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_broken_head_shows_in_the_peak(tool: Tool, head: str, classes: tuple[str, ...], stem: int, poison: float) -> None:
    import torch

    network = lively_network(tool, head, classes, stem)
    with torch.no_grad():
        network.head.bias[-1] = poison
    assert not np.isfinite(infer(tool, network)[1]).any()
