"""Masks and blobs of maps whose content is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.judgement.judge import Judge
from edge_agent.measurement.blobs import MOST_BLOBS, ClassThreshold, Scratch, label
from edge_agent.measurement.region import RegionMeasurer
from edge_agent.measurement.scale import Transform, polygon_mask
from edge_agent.measurement.threshold import level_of, mask_of
from edge_agent.recipe import BlobArea, BlobCount, ClassLimits, ModelReference, Recipe, Zone

ROWS, COLS = 40, 60


def recipe(**changes: object) -> Recipe:
    fields = {"name": "r", "model": ModelReference(name="m"), "rules": (BlobCount(max=0),), **changes}
    return Recipe(**fields)


def measure(maps: np.ndarray, of: Recipe, transform: Transform | None = None):
    classes = tuple(f"c{i}" for i in range(len(maps)))
    return RegionMeasurer(of, classes, *maps.shape[1:], transform or Transform()).measure(maps.copy())


def blank(classes: int = 1) -> np.ndarray:
    return np.zeros((classes, ROWS, COLS), np.uint8)


def test_blobs_come_back_in_frame_coordinates_and_millimetres() -> None:
    maps = blank()
    maps[0, 10:14, 20:26] = 200
    found = measure(maps, recipe(mm_per_px=0.5), Transform(100, 50, 2, 3))
    (blob,) = found.blobs
    assert (blob.x, blob.y, blob.width, blob.height) == (140, 80, 12, 12)
    assert (blob.area_px, blob.area_mm2) == (24 * 6, 36)
    assert (blob.centroid_x, blob.centroid_y) == (145.5, 85.5), "the middle of columns 140 to 151 and rows 80 to 91"
    assert (blob.peak, blob.mean) == (pytest.approx(200 / 255, abs=1e-4), pytest.approx(200 / 255, abs=1e-4))
    assert found.inspected_px == ROWS * COLS * 6


def test_hysteresis_takes_in_neighbours_but_no_lonely_weak_region() -> None:
    maps = blank()
    maps[0, 5:15, 5:15] = 100
    maps[0, 8, 8] = 220
    maps[0, 25:30, 25:30] = 100
    plain = measure(maps, recipe(classes={"c0": ClassLimits(threshold=0.8)}))
    both = measure(maps, recipe(classes={"c0": ClassLimits(threshold=0.8, hysteresis=0.3)}))
    assert [blob.area_px for blob in plain.blobs] == [1]
    assert [blob.area_px for blob in both.blobs] == [100]


@pytest.mark.parametrize(("mm_per_px", "pixels"), [(0.03, 3), (0.03, 11), (0.03, 24), (0.1, 7)])
def test_a_blob_of_just_the_smallest_area_counts(mm_per_px: float, pixels: int) -> None:
    maps = blank()
    maps[0, 5, 5 : 5 + pixels] = 200
    area_mm2 = round(pixels * mm_per_px**2, 6)
    rules = (BlobArea(max_px=0), BlobArea(max_px=0, min_mm2=area_mm2))
    at_it = recipe(mm_per_px=mm_per_px, classes={"c0": ClassLimits(min_area_mm2=area_mm2)}, rules=rules)
    found = measure(maps, at_it)
    assert found.count == {"c0": 1}
    assert [finding.value for finding in Judge(at_it).judge(found, []).findings] == [pixels, pixels]
    above = recipe(mm_per_px=mm_per_px, classes={"c0": ClassLimits(min_area_mm2=area_mm2 * 1.001)})
    assert measure(maps, above).count == {"c0": 0}


def test_small_blobs_are_noise_and_classes_have_their_own_limits() -> None:
    maps = blank(2)
    maps[:, 3:5, 3:5] = 150
    limits = {"c0": ClassLimits(threshold=0.5, min_area_px=5), "c1": ClassLimits(threshold=0.55)}
    found = measure(maps, recipe(classes=limits))
    assert [blob.class_name for blob in found.blobs] == ["c1"]
    assert found.count == {"c0": 0, "c1": 1}
    assert found.peak["c0"] == pytest.approx(150 / 255)


def test_zones_count_what_touches_them_and_exclusions_hide() -> None:
    maps = blank()
    maps[0, 10:20, 10:20] = 255
    zone = Zone(name="seal", polygon=((15, 0), (40, 0), (40, 39), (15, 39)), max_count=0)
    found = measure(maps, recipe(rules=(zone,)))
    assert found.zones["seal", "c0"].blobs == 1
    assert found.zones["seal", "c0"].area_px == 50
    from edge_agent.recipe import Exclusion

    hidden = measure(maps, recipe(exclusions=(Exclusion(name="e", polygon=((5, 5), (25, 5), (25, 25), (5, 25))),)))
    assert hidden.is_clean
    assert hidden.peak["c0"] == 0


def test_a_shattered_map_is_counted_whole_and_described_in_part() -> None:
    maps = np.zeros((1, 128, 128), np.uint8)
    maps[0, ::2, ::2] = 255
    found = measure(maps, recipe())
    assert found.count["c0"] == 64 * 64
    assert len(found.blobs) == MOST_BLOBS
    assert found.area_px["c0"] == 64 * 64


@pytest.mark.parametrize(("threshold", "level"), [(0.5, 128), (0.8, 204), (0.999, 255), (0.001, 1), (1 / 255, 1)])
def test_levels(threshold: float, level: int) -> None:
    assert level_of(threshold) == level


MAPS = hnp.arrays(np.uint8, (17, 23))


@settings(max_examples=60, deadline=None)
@given(MAPS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_raising_a_threshold_never_adds_defect_pixels(probability: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    masks = []
    for threshold in (low, high):
        mask = np.empty_like(probability)
        mask_of(probability, level_of(threshold), mask)
        masks.append(mask > 0)
    assert not (masks[1] & ~masks[0]).any()
    assert (masks[0] == (probability >= low * 255 - 1e-6)).all()


@settings(max_examples=60, deadline=None)
@given(MAPS, st.floats(0.01, 0.99))
def test_the_areas_of_the_blobs_are_the_mask(probability: np.ndarray, threshold: float) -> None:
    limits = ClassThreshold.of("c", threshold, None, 0)
    if int(probability.max()) < limits.high:
        return
    found = label(probability, limits, 1.0, Scratch(*probability.shape))
    assert found.area == np.count_nonzero(probability >= limits.high)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8, 15])
@pytest.mark.parametrize("first", range(0, 60, 7))
def test_a_zone_in_a_resized_region_lies_where_it_was_drawn(scale: int, first: int) -> None:
    """Rows and columns of the map in which the middle of its first and its last pixel lie, and those between."""
    last = first + 25
    square = ((first, first), (last, first), (last, last), (first, last))
    covered = polygon_mask(square, Transform(0, 0, scale, scale), 120, 120) > 0
    expected = np.zeros((120, 120), np.bool_)
    expected[first // scale : last // scale + 1, first // scale : last // scale + 1] = True
    assert (covered == expected).all()


def test_a_defect_in_a_zone_of_a_resized_region_counts_there() -> None:
    zone = Zone(name="seal", polygon=((12, 12), (14, 12), (14, 14), (12, 14)), max_count=0)
    maps = blank()
    maps[0, 1, 1] = 200  # frame pixels 8 to 15
    found = measure(maps, recipe(rules=(zone,)), Transform(0, 0, 8, 8))
    assert found.zones["seal", "c0"].blobs == 1
