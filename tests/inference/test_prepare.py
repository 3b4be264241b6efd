"""What the network sees of a region, against a plain model of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.inference.prepare import least_tensors, plan_region
from edge_agent.recipe import Region

ROWS, COLS = 32, 48
SIDES = st.integers(8, 200)


def seen(frame: np.ndarray) -> np.ndarray:
    memory = np.empty((ROWS, COLS), np.uint8)
    return plan_region(Region(), *frame.shape, ROWS, COLS).tensor(0, frame, memory)


@pytest.mark.parametrize("shape", [(256, 40), (20, 480), (256, 96), (64, 480), (256, COLS), (ROWS, 480), (20, 40)])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_thinnest_line_is_seen_wherever_it_runs(shape: tuple[int, int], axis: int) -> None:
    for place in range(shape[axis]):
        frame = np.zeros(shape, np.uint8)
        frame[(place,) if axis == 0 else (slice(None), place)] = 255
        assert seen(frame).any(), f"line {place} of {shape[axis]}"


@given(SIDES, SIDES, st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_stretched_pictures_keep_their_gray_and_their_mean(height: int, width: int, gray: int) -> None:
    assert (seen(np.full((height, width), gray, np.uint8)) == gray).all()
    ramp = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    assert seen(ramp).mean() == pytest.approx(ramp.mean(), abs=2)


@given(st.integers(COLS, 300), st.integers(ROWS, 300), st.integers(0, 16))
def test_the_tensors_of_a_region_are_known_before_its_frame(width: int, height: int, overlap_px: int) -> None:
    region = Region(width=width, height=height, prepare="tile", overlap_px=overlap_px)
    tiles = plan_region(region, 300, 300, ROWS, COLS).tiles
    assert least_tensors([region, Region()], ROWS, COLS) == len(tiles) + 1
    assert (
        least_tensors([Region(prepare="tile", overlap_px=overlap_px)], ROWS, COLS) == 1
    )  # as large as the frame, whatever that is
