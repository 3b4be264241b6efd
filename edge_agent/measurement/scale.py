"""Map pixels to frame pixels to millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.records import Pixels


@dataclass(frozen=True, slots=True)
class Transform:
    """Where a map lies in the frame: its corner in frame pixels, and frame pixels per map pixel."""

    x0: float = 0.0
    y0: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    @property
    def area(self) -> float:
        """Frame pixels per map pixel, as an area."""
        return self.scale_x * self.scale_y

    def x(self, col: float) -> float:
        return self.x0 + col * self.scale_x

    def y(self, row: float) -> float:
        return self.y0 + row * self.scale_y


def area_mm2(area_px: float, mm_per_px: float | None) -> float | None:
    """Frame pixels to square millimetres; None where the scale is not known."""
    return None if mm_per_px is None else area_px * mm_per_px * mm_per_px


def polygon_mask(polygon: Sequence[Sequence[float]], transform: Transform, rows: int, cols: int) -> Pixels:
    """Return (rows, cols) uint8, 255 inside a polygon given in frame pixels (its edge included), 0 outside."""
    corners = np.array(polygon, np.float64)
    corners += (0.5 - transform.x0, 0.5 - transform.y0)  # whole numbers are the middles of pixels, in frame and map
    corners /= (transform.scale_x, transform.scale_y)
    corners -= 0.5
    mask = np.zeros((rows, cols), np.uint8)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255)
    return mask
