"""Pixels against masks: one confusion table of all images, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]  # (1 + classes, 1 + classes): truth by call, 0 the background


def confusion(truth: NDArray[np.uint8], called: NDArray[np.uint8], classes: int) -> Table:
    """Count pixels of two label images of the same shape: 0 background, k the k-th class."""
    size = classes + 1
    return np.bincount(truth.ravel().astype(np.int64) * size + called.ravel(), minlength=size * size).reshape(size, size)


def overlap(both: int, truth: int, called: int) -> tuple[float | None, float | None]:
    """Dice and IoU from pixel counts; None where there is neither truth nor call."""
    either = truth + called - both
    return (2 * both / (truth + called), both / either) if either else (None, None)


def pixel_scores(table: Table, classes: Sequence[str]) -> dict[str, Any]:
    """Pixel accuracy, its mean over background and classes, and Dice, IoU and accuracy per class and of any defect."""
    right, truth, called = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    accuracy = [int(r) / int(t) if t else None for r, t in zip(right, truth, strict=True)]
    known = [each for each in accuracy if each is not None]
    per_class = {}
    for index, name in enumerate(classes, 1):
        dice, iou = overlap(int(right[index]), int(truth[index]), int(called[index]))
        per_class[name] = {"dice": dice, "iou": iou, "accuracy": accuracy[index], "truth_px": int(truth[index])}
    dice, iou = overlap(int(table[1:, 1:].sum()), int(truth[1:].sum()), int(called[1:].sum()))
    return {
        "pixels": int(table.sum()),
        "accuracy": int(right.sum()) / int(table.sum()) if table.sum() else None,
        "mean_accuracy": sum(known) / len(known) if known else None,
        "any_defect": {"dice": dice, "iou": iou},
        "background_accuracy": accuracy[0],
        "classes": per_class,
    }


def size_bins(areas_px: NDArray[np.float64], most: int = 4) -> list[tuple[float, float]]:
    """Quarters of the defects by area, as half-open [from, to); fewer where many are of one size. The last has no upper end."""
    if not areas_px.size:
        return []
    cuts = np.quantile(areas_px, np.arange(1, most) / most)
    edges = sorted({0.0, *(float(f"{cut:.2g}") for cut in cuts)})
    bins = list(zip(edges, [*edges[1:], float("inf")], strict=True))
    return [(low, high) for low, high in bins if ((areas_px >= low) & (areas_px < high)).any()]
