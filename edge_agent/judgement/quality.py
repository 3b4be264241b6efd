"""Is this picture fit to judge: lamp, saturation, focus, the camera alive, a part in it. On a grid of the picture.

The grid takes every n-th pixel of the region, about 64 by 64, copied into memory made once. Focus needs neighbouring
pixels, so it is measured on a patch of at most 128x128 in the region's middle.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge_agent.errors import Reason
from edge_agent.recipe import Presence, Quality
from edge_agent.records import Finding, Pixels

_GRID = 64
_PATCH = 128
Looked = tuple[list[Finding], str]


class QualityGate:
    """Looks at every picture of one view. Keeps the last grid, to notice a camera that shows the same picture again."""

    def __init__(self, quality: Quality, presence: Presence | None) -> None:
        self._quality = quality
        self._presence = presence
        self._last: Pixels | None = None

    def look(self, pixels: Pixels) -> Looked:
        """Return the findings and the reason why the picture (rows, cols) cannot be judged, '' where it can."""
        step = max(1, max(pixels.shape) // _GRID)
        grid = np.ascontiguousarray(pixels[::step, ::step])
        findings: list[Finding] = []
        reason = ""
        for found, why in self._checks(grid, pixels):
            findings.append(found)
            if not found.ok and not reason:
                reason = why.value
        return findings, reason

    def _checks(self, grid: Pixels, pixels: Pixels) -> list[tuple[Finding, Reason]]:
        q, checks = self._quality, []
        if q.min_mean_gray is not None:
            checks.append((at_least("mean_gray", float(cv2.mean(grid)[0]), q.min_mean_gray), Reason.DARK))
        if q.max_saturated_share is not None:
            share = _share_above(grid, q.saturated_above)
            checks.append((at_most("saturated_share", share, q.max_saturated_share), Reason.SATURATED))
        if q.frozen:
            checks.append((at_most("frozen", float(self._is_same(grid)), 0), Reason.FROZEN))
        if self._presence is not None:
            share = _share_above(grid, self._presence.gray_above)
            checks.append((at_least("presence", share, self._presence.min_share), Reason.NO_PART))
        if q.min_focus is not None:
            checks.append((at_least("focus", focus(pixels), q.min_focus), Reason.OUT_OF_FOCUS))
        return checks

    def _is_same(self, grid: Pixels) -> bool:
        last, self._last = self._last, grid
        return last is not None and np.array_equal(last, grid)


def _share_above(grid: Pixels, gray: float) -> float:
    return int(np.count_nonzero(grid > np.uint8(gray))) / grid.size


def focus(pixels: Pixels) -> float:
    """Return the variance of the Laplacian, in gray levels squared, of the picture's middle: it falls with blur."""
    rows, cols = pixels.shape
    top, left = max(0, (rows - _PATCH) // 2), max(0, (cols - _PATCH) // 2)
    patch = pixels[top : top + _PATCH, left : left + _PATCH]
    return float(cv2.meanStdDev(cv2.Laplacian(patch, cv2.CV_16S))[1][0, 0] ** 2)


def at_least(rule: str, value: float, limit: float) -> Finding:
    """A finding that is well when the value reaches the limit."""
    value = round(value, 4)
    return Finding(rule=rule, value=value, limit=limit, margin=round(value - limit, 4), ok=value >= limit)


def at_most(rule: str, value: float, limit: float) -> Finding:
    """A finding that is well when the value stays within the limit."""
    value = round(value, 4)
    return Finding(rule=rule, value=value, limit=limit, margin=round(limit - value, 4), ok=value <= limit)
