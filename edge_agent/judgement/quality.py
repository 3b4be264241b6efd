"""Is this picture fit to judge: lamp, saturation, focus, the camera alive, a part in it. On a grid of the picture.

The grid takes every n-th pixel of the region, about 32 by 32, copied into memory made once. Focus needs neighbouring
pixels, so it is measured at full resolution, on a patch of at most 128x128 in the region's middle. Gray levels are counted
on bytes: each call into a picture library lets other threads in between, which costs more than so small a picture.
"""

from __future__ import annotations

import math
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.errors import Reason
from edge_agent.recipe import Presence, Quality
from edge_agent.records import Finding, Pixels

_GRID = 32
_PATCH = 128
Looked = tuple[list[Finding], str]


class QualityGate:
    """Looks at every picture of one view. Keeps the camera's last grid, to notice one that shows the same picture again; pictures
    that come from no camera are judged in between."""

    def __init__(self, quality: Quality, presence: Presence | None) -> None:
        self._quality = quality
        self._presence = presence
        self._shape: tuple[int, ...] = ()
        self._grid: Pixels = np.zeros((0, 0), np.uint8)
        self._seen = b""
        self._last: tuple[tuple[int, ...], bytes] = ((), b"")  # of the camera's last picture
        self._up_to_white = _levels_up_to(quality.saturated_above)
        self._up_to_belt = _levels_up_to(presence.gray_above if presence else 0)
        self._edges: npt.NDArray[np.int16] = np.zeros((0, 0), np.int16)

    def look(self, pixels: Pixels, is_live: bool = True) -> Looked:
        """Return the findings and the reason why the picture (rows, cols) cannot be judged, '' where it can."""
        step = max(1, max(pixels.shape) // _GRID)
        view = pixels[::step, ::step]
        if pixels.shape != self._shape:
            self._make_memory(pixels.shape, view.shape)
        np.copyto(self._grid, view)
        self._seen = self._grid.tobytes()
        findings: list[Finding] = []
        reason = ""
        for found, why in self._checks(pixels, is_live):
            findings.append(found)
            if not found.ok and not reason:
                reason = why.value
        if is_live:
            self._last = self._shape, self._seen
        return findings, reason

    def _make_memory(self, shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
        """For pictures of another shape than the last one's."""
        self._shape = shape
        self._grid = np.zeros(grid, np.uint8)
        self._edges = np.zeros([min(length, _PATCH) for length in shape], np.int16)

    def _checks(self, pixels: Pixels, is_live: bool) -> list[tuple[Finding, Reason]]:
        q = self._quality
        checks: list[tuple[Finding, Reason]] = []
        if q.min_mean_gray > 0:
            checks.append((at_least("mean_gray", _sum(self._seen) / len(self._seen), q.min_mean_gray), Reason.DARK))
        if q.max_saturated_share < 1:
            share = self._share_beyond(self._up_to_white)
            checks.append((at_most("saturated_share", share, q.max_saturated_share), Reason.SATURATED))
        if q.frozen and is_live:
            checks.append((at_most("frozen", float((self._shape, self._seen) == self._last), 0), Reason.FROZEN))
        if self._presence is not None:
            share = self._share_beyond(self._up_to_belt)
            checks.append((at_least("presence", share, self._presence.min_share), Reason.NO_PART))
        if q.min_focus is not None:
            checks.append((at_least("focus", focus(pixels, self._edges), q.min_focus), Reason.OUT_OF_FOCUS))
        return checks

    def _share_beyond(self, levels: bytes) -> float:
        return len(self._seen.translate(None, levels)) / len(self._seen)


def _sum(levels: bytes) -> int:
    """The sum of all bytes: the low half of Adler-32 is one more than it, exactly, for up to 256 at a time."""
    return sum((zlib.adler32(levels[at : at + 256]) & 0xFFFF) - 1 for at in range(0, len(levels), 256))


def _levels_up_to(gray: float) -> bytes:
    """Every gray level from 0 to `gray`, as bytes."""
    return bytes(range(min(255, math.floor(gray)) + 1))


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
    """A finding that is well when the value reaches the limit; both to four decimals, halves up: `round` takes far longer."""
    value = math.floor(value * 1e4 + 0.5) / 1e4
    return Finding(rule=rule, value=value, limit=limit, margin=math.floor((value - limit) * 1e4 + 0.5) / 1e4, ok=value >= limit)


def at_most(rule: str, value: float, limit: float) -> Finding:
    """A finding that is well when the value stays within the limit."""
    value = math.floor(value * 1e4 + 0.5) / 1e4
    return Finding(rule=rule, value=value, limit=limit, margin=math.floor((limit - value) * 1e4 + 0.5) / 1e4, ok=value <= limit)
