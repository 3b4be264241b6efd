"""Is this picture fit to judge: lamp, saturation, focus, the camera alive, a part in it. On a grid of the picture.

The grid takes every n-th pixel of the region, about 64 by 64, copied into memory made once. Focus needs neighbouring
pixels, so it is measured at full resolution, on a patch of at most 128x128 in the region's middle.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

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
        self._shape: tuple[int, ...] = ()
        self._grid: Pixels = np.zeros((0, 0), np.uint8)
        self._last = self._above = self._grid
        self._edges = np.zeros((0, 0), np.int16)
        self._has_last = False

    def look(self, pixels: Pixels) -> Looked:
        """Return the findings and the reason why the picture (rows, cols) cannot be judged, '' where it can."""
        step = max(1, max(pixels.shape) // _GRID)
        view = pixels[::step, ::step]
        if pixels.shape != self._shape:
            self._make_memory(pixels.shape, view.shape)
        np.copyto(self._grid, view)
        findings: list[Finding] = []
        reason = ""
        for found, why in self._checks(pixels):
            findings.append(found)
            if not found.ok and not reason:
                reason = why.value
        self._grid, self._last, self._has_last = self._last, self._grid, True
        return findings, reason

    def _make_memory(self, shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
        """For pictures of another shape than the last one's, which is no picture to compare with."""
        self._shape, self._has_last = shape, False
        self._grid, self._last, self._above = (np.zeros(grid, np.uint8) for _ in range(3))
        self._edges = np.zeros([min(length, _PATCH) for length in shape], np.int16)

    def _checks(self, pixels: Pixels) -> list[tuple[Finding, Reason]]:
        q, grid = self._quality, self._grid
        checks: list[tuple[Finding, Reason]] = []
        if q.min_mean_gray is not None:
            checks.append((at_least("mean_gray", float(cv2.mean(grid)[0]), q.min_mean_gray), Reason.DARK))
        if q.max_saturated_share is not None:
            share = _share_above(grid, q.saturated_above, self._above)
            checks.append((at_most("saturated_share", share, q.max_saturated_share), Reason.SATURATED))
        if q.frozen:
            checks.append((at_most("frozen", float(self._is_frozen()), 0), Reason.FROZEN))
        if self._presence is not None:
            share = _share_above(grid, self._presence.gray_above, self._above)
            checks.append((at_least("presence", share, self._presence.min_share), Reason.NO_PART))
        if q.min_focus is not None:
            checks.append((at_least("focus", focus(pixels, self._edges), q.min_focus), Reason.OUT_OF_FOCUS))
        return checks

    def _is_frozen(self) -> bool:
        return self._has_last and self._grid.tobytes() == self._last.tobytes()


def _share_above(grid: Pixels, gray: float, above: Pixels) -> float:
    cv2.threshold(grid, math.floor(gray), 255, cv2.THRESH_BINARY, dst=above)
    return cv2.countNonZero(above) / grid.size


def focus(pixels: Pixels, edges: npt.NDArray[np.int16] | None = None) -> float:
    """Return the variance of the Laplacian, in gray levels squared, of the picture's middle: it falls with blur.

    `edges` is memory for the Laplacian, of the patch's size. The variance comes from sum and sum of squares, both exact.
    """
    rows, cols = pixels.shape
    top, left = max(0, (rows - _PATCH) // 2), max(0, (cols - _PATCH) // 2)
    edges = cv2.Laplacian(pixels[top : top + _PATCH, left : left + _PATCH], cv2.CV_16S, dst=edges)
    mean = cv2.sumElems(edges)[0] / edges.size
    return max(0.0, float(cv2.norm(edges, cv2.NORM_L2SQR)) / edges.size - mean * mean)


def at_least(rule: str, value: float, limit: float) -> Finding:
    """A finding that is well when the value reaches the limit."""
    value = _tidy(value)
    return Finding(rule=rule, value=value, limit=limit, margin=_tidy(value - limit), ok=value >= limit)


def at_most(rule: str, value: float, limit: float) -> Finding:
    """A finding that is well when the value stays within the limit."""
    value = _tidy(value)
    return Finding(rule=rule, value=value, limit=limit, margin=_tidy(limit - value), ok=value <= limit)


def _tidy(value: float) -> float:
    """Four decimals; `round` would take many times as long for the last bit of exactness."""
    return math.floor(value * 1e4 + 0.5) / 1e4
