"""The network: a small U-Net that reads a frame through a space-to-depth stem.

A 4x4 stem folds sixteen neighbouring pixels into sixteen channels, so that every convolution runs on a sixteenth of the
pixels. A fine head unfolds its channels into a logit for every pixel; a coarse one gives one for each cell of the stem, which
is all that a weak label or a verdict by size asks for, and costs a sixteenth. Frames go in as gray levels 0..255 and are
scaled here, so that whoever runs the exported network never has to.

With a 1x1 stem it is the plain U-Net: 8 filters and 4 levels that of NVIDIA's decks, 16 filters the one of its tutorial, with
1,942,289 weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

GRAY_CENTRE = 128.0  # (gray - 128) / 64: an integer offset and a power of two, so INT8 input loses nothing
GRAY_SCALE = 1.0 / 64.0
FLAT = 1.0 / 16.0  # added to a frame's deviation, 4 gray levels: a frame without contrast stays flat, noise and all
RARE = -3.0  # first bias of the head: a defect pixel is rare, so training starts near "no defect"


@dataclass(frozen=True, slots=True)
class Shape:
    """What it takes to build the network again: everything but the weights."""

    filters: int = 16
    levels: int = 3
    stem: int = 4
    head: str = "sigmoid"
    classes: tuple[str, ...] = ("defect",)
    normalise: bool = False  # each frame by its own mean and deviation: for lamps and exposures that differ
    fine: bool = True  # a logit for every pixel; else one for each cell of the stem
    dropout: float = 0.0  # share of the bottom's channels left out of a training step
    encoder: str = "plain"  # "lite0": the first stages are those of tools/lite.py, and `filters` the channels that join them

    @property
    def cell_px(self) -> int:
        """Side of the square of pixels that share a logit."""
        return 1 if self.fine else self.stem

    @property
    def logits(self) -> int:
        """Logits per pixel: one per defect class, and for softmax one more, first, for the background."""
        return len(self.classes) + int(self.head == "softmax")

    @property
    def stride(self) -> int:
        """Rows and columns of a frame must be multiples of this many pixels."""
        return self.stem << self.levels

    def in_words(self) -> str:
        """For the model's card."""
        if self.encoder == "lite0":
            begun = "EfficientNet-Lite0's first five stages begun with ImageNet's weights (Google's, Apache License 2.0)"
            return f"{begun}, three of them joined in {self.filters} channels"
        return f"U-Net, {self.stem}x{self.stem} space-to-depth stem, {self.filters} filters, {self.levels} levels"

    def as_dict(self) -> dict[str, object]:
        """The fields by name; `Shape(**d)` gives it back, with classes as a tuple."""
        return asdict(self) | {"classes": tuple(self.classes)}


class Block(nn.Module):  # type: ignore[misc]  # torch is not there where types are checked
    """Two 3x3 convolutions, each with batch norm and ReLU; keeps rows and columns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


class UNet(nn.Module):  # type: ignore[misc]
    """Frames (N, 1, rows, cols), gray 0..255, any dtype, to float32 logits (N, shape.logits, rows / cell_px, cols / cell_px)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.filters * 2**level for level in range(shape.levels + 1)]
        inputs = [shape.stem**2, *widths[:-2]]
        self.down = nn.ModuleList(Block(i, o) for i, o in zip(inputs, widths[:-1], strict=True))
        self.bottom = Block(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(Block(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(shape.filters, shape.logits * (shape.stem // shape.cell_px) ** 2, 1)
        nn.init.constant_(self.head.bias, 0.0 if shape.head == "softmax" else RARE)

    def forward(self, frames: Tensor) -> Tensor:
        x = (frames.float() - GRAY_CENTRE) * GRAY_SCALE
        if self.shape.normalise:
            x = normalised(x)
        x = functional.pixel_unshuffle(x, self.shape.stem).contiguous(memory_format=torch.channels_last)
        skipped = []
        for block in self.down:
            skipped.append(block(x))
            x = functional.max_pool2d(skipped[-1], 2)
        x = functional.dropout2d(self.bottom(x), self.shape.dropout, self.training)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skipped.pop(), up(x)], dim=1))
        return functional.pixel_shuffle(self.head(x), self.shape.stem) if self.shape.fine else self.head(x)


def normalised(x: Tensor) -> Tensor:
    """Each frame (N, 1, rows, cols) less its mean, by its standard deviation."""
    x = x - x.mean((2, 3), keepdim=True)
    return x / (x.square().mean((2, 3), keepdim=True).sqrt() + FLAT)


def probabilities(logits: Tensor, head: str) -> Tensor:
    """Defect probabilities (N, classes, rows, cols). Sigmoid takes each class on its own.

    Softmax asks first whether there is a defect, all classes together against the background, and then which: the likeliest class
    gets that probability, the others 0. Two classes that look alike would otherwise halve the evidence that a part is bad.
    """
    if head == "sigmoid":
        return logits.sigmoid()
    defects = logits[:, 1:]
    any_defect = (torch.logsumexp(defects, 1, keepdim=True) - logits[:, :1]).sigmoid()
    return torch.where(defects == defects.amax(1, keepdim=True), any_defect, 0.0)
