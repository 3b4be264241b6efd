"""What judges an exported graph: it agrees with the network in torch, in 8 bits nearly so."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

SIDE = 64


def test_a_graph_scores_as_its_network_does_and_its_eight_bits_nearly_so(tool: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    judged, unet = tool("judged"), tool("unet")
    import torch

    torch.manual_seed(1)
    network = unet.UNet(unet.Shape(filters=4, levels=2, stem=4, fine=False))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
    network.eval()
    parts = tool("examples").draw_examples(3, 0, 24, SIDE, SIDE)
    in_torch = tool("train").validate(network, parts, SIDE, SIDE, "cpu")
    graphs = [judged.floats_of(network), judged.eightbit_of(network, parts, SIDE, SIDE)]
    exact, rough = (judged.scores_of(judged.compiled(graph, SIDE, SIDE, 1), parts, SIDE, SIDE) for graph in graphs)
    assert exact.auc == in_torch.auc
    assert exact.highest_good == pytest.approx(in_torch.highest_good, abs=1e-4)
    assert sum(node.op_type == "QuantizeLinear" for node in graphs[1].graph.node) > 4
    assert rough.highest_good == pytest.approx(exact.highest_good, abs=0.05)
    assert rough.highest_good != exact.highest_good
    assert all(each > 0 for each in judged.medians_of(graphs, SIDE, SIDE, 1))
