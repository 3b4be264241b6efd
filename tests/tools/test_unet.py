"""The plain U-Nets are those they are called after, weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

# The tutorial's layers: for each block, down, at the bottom and up again, two convolutions with their norms.
WIDTHS = (16, 32, 64, 128, 256)


@pytest.mark.parametrize(("filters", "weights"), [(16, 1_942_289), (8, 486_409)])
def test_the_tutorials_and_the_decks_networks_have_their_weights(
    tool: Callable[[str], ModuleType], filters: int, weights: int
) -> None:
    options = tool("options")
    words = ["--stem", "1", "--levels", "4", "--filters", str(filters), "--data", "folder:x", "--out", "x"]
    network = tool("networks").network_of(options.shape_of(options.parser().parse_args(words)))
    assert tool("compare").weights_in(network) == weights


def test_the_tutorials_layers_are_its_table(tool: Callable[[str], ModuleType]) -> None:
    network = tool("unet").UNet(tool("unet").Shape(filters=16, levels=4, stem=1))
    blocks = [*network.down, network.bottom, *network.join]
    sizes = [(block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels) for block in blocks]
    down = [(before, width, width) for before, width in zip((1, *WIDTHS), WIDTHS, strict=False)]
    assert sizes == down + [(2 * width, width, width) for width in reversed(WIDTHS[:-1])]
    assert [(up.in_channels, up.out_channels, up.kernel_size) for up in network.up] == [
        (2 * width, width, (2, 2)) for width in reversed(WIDTHS[:-1])
    ]
    assert (network.head.in_channels, network.head.out_channels, network.head.kernel_size) == (16, 1, (1, 1))
