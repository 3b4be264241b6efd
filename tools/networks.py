"""The network of a shape: a U-Net from nothing, or one whose first stages come from ImageNet."""

from __future__ import annotations

from lite import Lite, load_imagenet
from unet import Shape, UNet

Network = UNet | Lite


def network_of(shape: Shape) -> Network:
    """The network with weights drawn at random, for those of a checkpoint."""
    return Lite(shape) if shape.encoder == "lite0" else UNet(shape)


def begun(shape: Shape) -> Network:
    """The network as its training begins. Raises SystemExit where the weights it begins with are not there."""
    network = network_of(shape)
    if isinstance(network, Lite):
        load_imagenet(network)
    return network
