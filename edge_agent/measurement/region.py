"""Everything measured in one region of the frame, with what it needs made once."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.measured import Measured, ZoneMeasure, least_px
from edge_agent.measurement.blobs import ClassThreshold, Scratch, describe, in_zone, label
from edge_agent.measurement.scale import Transform, polygon_mask
from edge_agent.measurement.threshold import LEVELS
from edge_agent.recipe import ClassLimits, Recipe, Zone
from edge_agent.records import Blob, Pixels


class RegionMeasurer:
    """Measures maps (classes, rows, cols) uint8 of one region at one place in the frame. One thread at a time."""

    def __init__(self, recipe: Recipe, classes: tuple[str, ...], rows: int, cols: int, transform: Transform) -> None:
        self._mm_per_px = recipe.mm_per_px
        self._shape = (rows, cols)
        self._transform = transform
        self._limits = [_threshold_of(recipe, name) for name in classes]
        self._scratch = Scratch(rows, cols)
        self._zones = {
            rule.name: polygon_mask(rule.polygon, transform, rows, cols) > 0 for rule in recipe.rules if isinstance(rule, Zone)
        }
        self._allowed = _allowed(recipe, transform, rows, cols)
        self._counting = np.zeros((0 if self._allowed is None else len(classes), rows, cols), np.uint8)
        excluded = 0 if self._allowed is None else rows * cols - cv2.countNonZero(self._allowed)
        self.inspected_px = (rows * cols - excluded) * transform.area  # of the frame, in which a defect would count
        self._no_zones = {(zone, name): ZoneMeasure(0, 0.0) for zone in self._zones for name in classes}
        self._no_count = dict.fromkeys(classes, 0)
        self._no_area = dict.fromkeys(classes, 0.0)

    def sees(self, zone: str) -> bool:
        """True where some pixel of the zone counts in this region."""
        mask = self._zones[zone]
        return bool(mask.any() if self._allowed is None else mask[self._allowed > 0].any())

    def measure(self, maps: Pixels, levels: Sequence[int] = ()) -> Measured:
        """Return blobs, areas and peaks. `levels` are the maps' highest levels, where the caller knows them already."""
        peaks: dict[str, float] = {}
        suspects: list[tuple[Pixels, ClassThreshold]] = []
        if self._allowed is not None:
            for probability, counting in zip(maps, self._counting, strict=True):
                cv2.bitwise_and(probability, self._allowed, dst=counting)
            maps, levels = self._counting, ()
        if not levels:
            levels = [int(probability.max()) for probability in maps]
        for probability, peak, limits in zip(maps, levels, self._limits, strict=True):
            peaks[limits.name] = peak / LEVELS
            if peak >= limits.high:
                suspects.append((probability, limits))
        if not suspects:
            return Measured((), self._no_count, self._no_area, peaks, self._no_zones, self.inspected_px)
        return self._measure_suspects(suspects, peaks)

    def counting(self, maps: Pixels) -> npt.NDArray[np.bool_]:
        """Return which pixels (classes, rows, cols) belong to blobs that count, for a comparison with a mask."""
        counting = np.zeros(maps.shape, np.bool_)
        for probability, limits, mask in zip(maps, self._limits, counting, strict=True):
            seen = probability if self._allowed is None else cv2.bitwise_and(probability, self._allowed)
            if int(seen.max()) >= limits.high:
                found = label(seen, limits, self._transform.area, self._scratch)
                mask[found.rows, found.cols] = np.isin(found.labels, found.kept)
        return counting

    def inspected_mask(self) -> npt.NDArray[np.bool_]:
        """Return which pixels (rows, cols) of the map are looked at: all but those in exclusions."""
        return np.ones(self._shape, np.bool_) if self._allowed is None else self._allowed > 0

    def _measure_suspects(self, suspects: list[tuple[Pixels, ClassThreshold]], peaks: dict[str, float]) -> Measured:
        blobs: list[Blob] = []
        count, area, zones = dict(self._no_count), dict(self._no_area), dict(self._no_zones)
        for probability, limits in suspects:
            found = label(probability, limits, self._transform.area, self._scratch)
            blobs += describe(probability, found, limits.name, self._transform, self._mm_per_px)
            count[limits.name] = len(found.kept)
            area[limits.name] = found.area * self._transform.area
            for zone, mask in self._zones.items():
                touching, pixels = in_zone(found, mask)
                zones[zone, limits.name] = ZoneMeasure(touching, pixels * self._transform.area)
        return Measured(tuple(blobs), count, area, peaks, zones, self.inspected_px)


def _threshold_of(recipe: Recipe, name: str) -> ClassThreshold:
    limits = recipe.classes.get(name, ClassLimits())
    min_area_px = least_px(limits.min_area_px, limits.min_area_mm2 or 0, recipe.mm_per_px)
    return ClassThreshold.of(name, limits.threshold, limits.hysteresis, min_area_px)


def _allowed(recipe: Recipe, transform: Transform, rows: int, cols: int) -> Pixels | None:
    """255 where a defect may count, 0 inside the exclusions; None without exclusions."""
    if not recipe.exclusions:
        return None
    excluded = np.zeros((rows, cols), np.uint8)
    for exclusion in recipe.exclusions:
        excluded |= polygon_mask(exclusion.polygon, transform, rows, cols)
    return ~excluded
