"""What training makes small: pixels told wrong, defects not covered, false alarms that stand out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SMOOTH_CELLS = 4.0  # added to both sides of the Dice: a few cells more or less of a small defect are no catastrophe
PEAK_CELLS = 4  # a frame's peak is the mean of so many of its highest logits: one alone is too noisy to learn from


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the terms of the loss. `defect` is the share of the cross-entropy that defect cells have, however few they are."""

    entropy: float = 1.0
    dice: float = 1.0
    peak: float = 0.3
    defect: float = 0.3


def to_cells(masks: Tensor, cell_px: int, share: float = 0.25) -> Tensor:
    """Masks (N, rows, cols), on the CPU, as classes of cells: a cell is a defect's where at least `share` of its pixels are.

    A defect too thin or too small for that keeps the one cell it covers most: taught as good, it would be a slip.
    """
    if cell_px == 1:
        return masks
    covered = functional.avg_pool2d((masks > 0).float()[:, None], cell_px)[:, 0] >= share
    for mask, cells in zip(masks.numpy(), covered.numpy(), strict=True):  # the arrays share the tensors' memory
        _keep_small(mask, cells, cell_px)
    return functional.max_pool2d(masks.float()[:, None], cell_px)[:, 0].long() * covered


def _keep_small(mask: NDArray[np.int64], covered: NDArray[np.bool_], cell_px: int) -> None:
    """Sets in `covered` (cells) the best cell of every connected defect of the mask (pixels) that has none."""
    count, labels = cv2.connectedComponents((mask > 0).astype(np.uint8))
    seen = np.unique(labels[np.kron(covered, np.ones((cell_px, cell_px), np.bool_))])
    for number in sorted(set(range(1, count)) - set(seen.tolist())):
        rows, cols = np.nonzero(labels == number)
        cells, pixels = np.unique(np.stack([rows // cell_px, cols // cell_px]), axis=1, return_counts=True)
        covered[tuple(cells[:, pixels.argmax()])] = True


def loss_of(logits: Tensor, cells: Tensor, head: str, weights: Weights) -> Tensor:
    """The weighted sum of cross-entropy, one minus the smoothed Dice, and the cross-entropy of the frames' peaks.

    Logits (N, logits, rows, cols), `cells` (N, rows, cols) int64. The Dice is each frame's own: a small defect weighs as much
    as a large one. The peak is what a frame is judged by, and what a false alarm of three cells shows in, which costs the
    other two next to nothing.
    """
    classes = logits.shape[1] - int(head == "softmax")
    target = functional.one_hot(cells, classes + 1).permute(0, 3, 1, 2)[:, 1:].float()
    total = weights.entropy * _entropy(logits, cells, target, head, weights.defect)
    if weights.dice:
        p = logits.sigmoid() if head == "sigmoid" else logits.softmax(1)[:, 1:]
        overlap, both = (p * target).sum((1, 2, 3)), (p + target).sum((1, 2, 3))
        total = total + weights.dice * (1 - (2 * overlap + SMOOTH_CELLS) / (both + SMOOTH_CELLS)).mean()
    if weights.peak:
        total = total + weights.peak * _peak_entropy(any_defect(logits, head), cells)
    return total


def any_defect(logits: Tensor, head: str) -> Tensor:
    """Log-odds (N, rows, cols) of any defect: for a softmax head against the background, else the largest of the classes."""
    return torch.logsumexp(logits[:, 1:], 1) - logits[:, 0] if head == "softmax" else logits.amax(1)


def _entropy(logits: Tensor, cells: Tensor, target: Tensor, head: str, defect: float) -> Tensor:
    """Mean over the background's cells, and over the defects' cells of each frame that has some, then weighted.

    Each frame counts by itself, as with the Dice: a ground half has a hundred times the cells of a short crack.
    """
    if head == "sigmoid":
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    else:
        each = functional.cross_entropy(logits, cells, reduction="none")
    is_defect = (cells > 0).float()
    background = (each * (1 - is_defect)).sum() / (1 - is_defect).sum().clamp(min=1)
    counts = is_defect.sum((1, 2))
    of_frames = (each * is_defect).sum((1, 2)) / (counts + SMOOTH_CELLS)
    return (1 - defect) * background + defect * of_frames.sum() / (counts > 0).sum().clamp(min=1)


def _peak_entropy(odds: Tensor, cells: Tensor) -> Tensor:
    peaks = odds.flatten(1).topk(PEAK_CELLS, 1).values.mean(1)
    return functional.binary_cross_entropy_with_logits(peaks, (cells > 0).flatten(1).any(1).float())
