"""What training makes small: pixels told wrong, defects not covered, false alarms that stand out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from unet import probabilities


@dataclass(frozen=True, slots=True)
class Weights:
    """What the loss is made of: the weight of a defect pixel, the weight of frames' peaks, and what a Dice is taken over."""

    defect: float = 1.0
    peak: float = 0.0
    frame_dice: bool = False


def loss_of(logits: Tensor, masks: Tensor, head: str, weights: Weights) -> Tensor:
    """Cross-entropy of every pixel, plus one minus the smoothed Dice of each defect class, over the whole batch or by frame.

    With a peak weight also the cross-entropy of each frame's highest probability: what a frame is judged by, and what a
    false alarm of three pixels shows in, which costs the other two next to nothing.
    """
    classes = logits.shape[1] - int(head == "softmax")
    target = functional.one_hot(masks, classes + 1).permute(0, 3, 1, 2)[:, 1:].float()
    weight = logits.new_full((classes, 1, 1), weights.defect)
    if head == "sigmoid":
        entropy = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
    else:
        entropy = functional.cross_entropy(logits, masks, functional.pad(weight.flatten(), (1, 0), value=1.0))
    p = probabilities(logits, head)
    over = (2, 3) if weights.frame_dice else (0, 2, 3)
    overlap, area, total = (p * target).sum(over), target.sum(over), (p + target).sum(over)
    counts = (area > 0).float() if weights.frame_dice else torch.ones_like(area)
    dice = (counts * (2 * overlap + 1) / (total + 1)).sum() / counts.sum().clamp(min=1)
    peaks = p.amax((2, 3)).clamp(1e-6, 1 - 1e-6)
    return entropy + 1 - dice + weights.peak * functional.binary_cross_entropy(peaks, target.amax((2, 3)))
