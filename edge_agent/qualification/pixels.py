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
    """Pixel accuracy, its mean over background and classes, and the scores of each class and of any defect against the rest.

    Of a class: Dice, IoU; `found`, the share of its pixels that are called so; `accuracy`, the share of all pixels that are rightly
    of it or not; `mean_accuracy`, the mean of `found` and of the same share of the other pixels.
    """
    right, truth = np.diag(table), table.sum(axis=1)
    found = [int(r) / int(t) if t else None for r, t in zip(right, truth, strict=True)]
    return {
        "pixels": int(table.sum()),
        "accuracy": int(right.sum()) / int(table.sum()) if table.sum() else None,
        "mean_accuracy": _mean(found),
        "any_defect": _against_rest(table, slice(1, None)),
        "background_accuracy": found[0],
        "classes": {name: _against_rest(table, slice(index, index + 1)) for index, name in enumerate(classes, 1)},
    }


def _against_rest(table: Table, own: slice) -> dict[str, Any]:
    """The scores of these classes taken as one, against all others."""
    both, truth, called, every = (int(each.sum()) for each in (table[own, own], table[own], table[:, own], table))
    dice, iou = overlap(both, truth, called)
    neither = every - truth - called + both
    found, kept = both / truth if truth else None, neither / (every - truth) if every > truth else None
    return {
        "dice": dice,
        "iou": iou,
        "found": found,
        "accuracy": (both + neither) / every if every else None,
        "mean_accuracy": _mean([found, kept]),
        "truth_px": truth,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def size_bins(areas_px: NDArray[np.float64], most: int = 4) -> list[tuple[float, float]]:
    """Quarters of the defects by area, as half-open [from, to); fewer where many are of one size. The last has no upper end."""
    if not areas_px.size:
        return []
    cuts = np.quantile(areas_px, np.arange(1, most) / most)
    edges = sorted({0.0, *(float(f"{cut:.2g}") for cut in cuts)})
    bins = list(zip(edges, [*edges[1:], float("inf")], strict=True))
    return [(low, high) for low, high in bins if ((areas_px >= low) & (areas_px < high)).any()]
