"""The exported graph on OpenVINO says what the network says, and never hides a NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.inference.cpu import AS_WRITTEN

Tool = Callable[[str], ModuleType]
CASES = [
    ("sigmoid", ("defect",), 4, {}),
    ("sigmoid", ("pit", "scratch"), 2, {"normalise": True}),
    ("softmax", ("pit", "scratch"), 4, {"normalise": True}),
    ("softmax", ("pit",), 1, {}),
    ("sigmoid", ("defect",), 4, {"fine": False}),
    ("softmax", ("pit", "scratch"), 8, {"fine": False, "dropout": 0.2}),
    ("softmax", ("pit", "scratch"), 4, {"fine": False, "normalise": True, "encoder": "lite0"}),
    ("sigmoid", ("defect",), 4, {"fine": False, "encoder": "lite0"}),
]
Case = tuple[str, tuple[str, ...], int, dict[str, Any]]


def lively_network(tool: Tool, case: Case) -> Any:
    """A small network with spread-out logits and used batch norms."""
    import torch

    torch.manual_seed(0)
    unet, (head, classes, stem, more) = tool("unet"), case
    network = tool("networks").network_of(unet.Shape(4, 2, stem, head, classes, **more))
    torch.nn.init.normal_(network.head.weight, std=0.5)
    with torch.no_grad():
        for _ in range(3):
            network(torch.from_numpy(frames()))
    return network.eval()


def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (2, 1, 32, 64), dtype=np.uint8)


def infer(tool: Tool, network: Any, seen: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Maps and peaks of `seen`, or of `frames`, by the exported graph."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(tool("graph").graph_of(network, "net").SerializeToString())
    outputs = core.compile_model(graph, "CPU", AS_WRITTEN)([frames() if seen is None else seen])
    return outputs["map"], outputs["peak"]


@pytest.mark.parametrize("case", CASES)
def test_map_and_peak_are_the_networks(tool: Tool, case: Case) -> None:
    import torch

    network, (head, classes, *_) = lively_network(tool, case), case
    with torch.no_grad():
        wanted = tool("unet").probabilities(network(torch.from_numpy(frames())), head).double()
    wanted = wanted.repeat_interleave(network.shape.cell_px, 2).repeat_interleave(network.shape.cell_px, 3)
    maps, peaks = infer(tool, network)
    assert maps.dtype == np.uint8
    assert maps.shape == (2, len(classes), 32, 64)
    assert np.abs(maps - (wanted * 255).round().numpy()).max() <= 1
    assert peaks == pytest.approx(wanted.amax((1, 2, 3)).logit().numpy(), abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_broken_head_shows_in_the_peak(tool: Tool, case: Case, poison: float) -> None:
    import torch

    network = lively_network(tool, case)
    with torch.no_grad():
        network.head.bias[-1] = poison
    assert not np.isfinite(infer(tool, network)[1]).any()


@pytest.mark.parametrize("case", CASES)
def test_lowered_log_odds_lower_every_peak_by_as_much_and_no_order(tool: Tool, case: Case) -> None:
    network = lively_network(tool, case)
    maps, peaks = infer(tool, network)
    tool("export").lower_odds(network, 1.5)
    lowered, less = infer(tool, network)
    assert less == pytest.approx(peaks - 1.5, abs=1e-3)
    assert (lowered <= maps).all()
    assert (lowered < maps).any()


@pytest.mark.parametrize("case", [case for case in CASES if case[3].get("encoder") == "lite0"])
def test_turned_a_network_judges_frames_as_if_they_were_turned_by_half(tool: Tool, case: Case) -> None:
    network = lively_network(tool, case)
    _, upright_peaks = infer(tool, network)
    maps, peaks = infer(tool, network, np.ascontiguousarray(frames()[:, :, ::-1, ::-1]))
    network.turn()
    turned, turned_peaks = infer(tool, network)
    assert np.abs(turned.astype(np.int16) - maps[:, :, ::-1, ::-1]).max() <= 1
    assert turned_peaks == pytest.approx(peaks, abs=1e-4)
    assert turned_peaks != pytest.approx(upright_peaks, abs=1e-4)


def test_a_normalising_network_sees_past_the_exposure_and_takes_a_frame_without_contrast(tool: Tool) -> None:
    import torch

    x = torch.from_numpy(frames()).float()
    normalised = tool("unet").normalised
    assert torch.allclose(normalised(x), normalised(x * 0.5 + 20), atol=0.01)
    assert normalised(torch.full((1, 1, 8, 8), 0.7)).abs().max() < 1e-4
