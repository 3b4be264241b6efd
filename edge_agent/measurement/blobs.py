"""One class's probability map to blobs. Here (row, col) of the map becomes x, y of the frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.measurement.scale import Transform, area_mm2
from edge_agent.measurement.threshold import LEVELS, bounds, level_of, mask_of
from edge_agent.records import Blob, Pixels

MOST_BLOBS = 256  # described one by one; a shattered map has more, which still count
_MOST_16_BIT = 65_534  # labels that OpenCV counts in CV_16U, the background among them
_AREA, _LEFT, _TOP, _WIDTH, _HEIGHT = cv2.CC_STAT_AREA, cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT
Labels = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ClassThreshold:
    """When a pixel of one class counts: map levels, and the smallest blob in frame pixels."""

    name: str
    high: int
    low: int
    min_area_px: float

    @classmethod
    def of(cls, name: str, threshold: float, hysteresis: float | None, min_area_px: float) -> ClassThreshold:
        high = level_of(threshold)
        return cls(name, high, high if hysteresis is None else level_of(hysteresis), min_area_px)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The connected regions of one class that count, still in map coordinates, within `rows` and `cols` of the map."""

    rows: slice
    cols: slice
    labels: Labels
    stats: npt.NDArray[np.int32]
    centroids: npt.NDArray[np.float64]
    kept: npt.NDArray[np.intp]  # largest first

    @property
    def area(self) -> int:
        """Map pixels of all kept regions."""
        return int(self.stats[self.kept, _AREA].sum())


class Scratch:
    """Masks and labels of one map size, made once. One thread at a time."""

    def __init__(self, rows: int, cols: int) -> None:
        self._mask = np.zeros(rows * cols, np.uint8)
        self._labels16 = np.zeros(rows * cols, np.uint16)
        self._labels32 = np.zeros(rows * cols, np.int32)

    def box(self, rows: int, cols: int) -> tuple[Pixels, Labels, int]:
        """Return mask and labels of a box's size, and OpenCV's type of the labels."""
        size = rows * cols
        mask = self._mask[:size].reshape(rows, cols)
        if ((rows + 1) // 2) * ((cols + 1) // 2) < _MOST_16_BIT:  # no two 8-connected regions share a 2x2 block
            return mask, self._labels16[:size].reshape(rows, cols), cv2.CV_16U
        return mask, self._labels32[:size].reshape(rows, cols), cv2.CV_32S


def label(probability: Pixels, limits: ClassThreshold, area_scale: float, scratch: Scratch) -> Labelled:
    """Find the regions that count; the map must have a pixel of at least `limits.high`."""
    rows, cols = bounds(probability, limits.low)
    box = probability[rows, cols]
    mask, labels, kind = scratch.box(*box.shape)
    mask_of(box, limits.low, mask)
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask, labels, None, None, 8, kind)
    counts = stats[:, _AREA] * area_scale >= limits.min_area_px
    if limits.low < limits.high:
        counts &= _strong(box, labels, limits.high, mask, count)
    counts[0] = False  # the background
    kept = np.flatnonzero(counts)
    return Labelled(rows, cols, labels, stats, centroids, kept[np.argsort(-stats[kept, _AREA], kind="stable")])


def _strong(box: Pixels, labels: Labels, high: int, mask: Pixels, count: int) -> npt.NDArray[np.bool_]:
    """Tell of every label whether one of its pixels reaches `high`. Overwrites the mask."""
    cv2.threshold(box, high - 1, 1, cv2.THRESH_BINARY, dst=mask)
    strong = np.zeros(count, np.bool_)
    strong[labels[mask.view(np.bool_)]] = True
    return strong


def _cut(box: npt.NDArray[np.generic], stat: npt.NDArray[np.int32]) -> npt.NDArray[np.generic]:
    top, left = stat[_TOP], stat[_LEFT]
    return box[top : top + stat[_HEIGHT], left : left + stat[_WIDTH]]


def describe(probability: Pixels, found: Labelled, name: str, transform: Transform, mm_per_px: float | None) -> list[Blob]:
    """Return the largest MOST_BLOBS regions as blobs in frame coordinates, largest first."""
    box = probability[found.rows, found.cols]
    return [_blob(box, found, n, name, transform, mm_per_px) for n in found.kept[:MOST_BLOBS].tolist()]


def _blob(box: Pixels, found: Labelled, n: int, name: str, transform: Transform, mm_per_px: float | None) -> Blob:
    stat = found.stats[n]
    levels = _cut(box, stat)[_cut(found.labels, stat) == n]
    top, left = found.rows.start, found.cols.start
    area_px = float(stat[_AREA]) * transform.area
    col, row = found.centroids[n]
    return Blob(
        class_name=name,
        area_px=round(area_px, 4),
        x=round(transform.x(left + int(stat[_LEFT])), 2),
        y=round(transform.y(top + int(stat[_TOP])), 2),
        width=round(int(stat[_WIDTH]) * transform.scale_x, 2),
        height=round(int(stat[_HEIGHT]) * transform.scale_y, 2),
        centroid_x=round(transform.x(left + float(col) + 0.5) - 0.5, 2),  # a pixel's middle is its number, in map and frame
        centroid_y=round(transform.y(top + float(row) + 0.5) - 0.5, 2),
        peak=round(int(levels.max()) / LEVELS, 4),
        mean=round(float(levels.mean()) / LEVELS, 6),
        area_mm2=area_mm2(area_px, mm_per_px),
    )


def in_zone(found: Labelled, zone: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many kept regions touch a zone (rows, cols) of the map, and how many map pixels of theirs lie in it."""
    inside = found.labels[zone[found.rows, found.cols]]
    counts = np.bincount(inside, minlength=len(found.stats))[found.kept]
    return int(np.count_nonzero(counts)), int(counts.sum())
