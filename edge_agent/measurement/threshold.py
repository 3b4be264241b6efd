"""Probability map to mask: the levels of a threshold, and where a class has anything at all."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.records import Pixels

LEVELS = 255


def level_of(threshold: float) -> int:
    """Return the lowest map level that reaches a probability threshold: a pixel counts when it is at least this."""
    return max(1, math.ceil(threshold * LEVELS - 1e-9))


def mask_of(probability: Pixels, level: int, mask: Pixels) -> None:
    """Set `mask` (rows, cols) to 255 where the map reaches `level`, else to 0. No allocation."""
    cv2.threshold(probability, level - 1, 255, cv2.THRESH_BINARY, dst=mask)


def bounds(probability: Pixels, level: int) -> tuple[slice, slice]:
    """Return the rows and columns that hold pixels of at least `level`; there must be one."""
    rows = _extent(probability.max(axis=1) >= level)
    return rows, _extent(probability[rows].max(axis=0) >= level)


def _extent(holds: npt.NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(holds)
    return slice(int(where[0]), int(where[-1]) + 1)
