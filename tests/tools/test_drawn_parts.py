"""The figures of docs/drawn-parts.md, on images whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

Tool = Callable[[str], ModuleType]


def test_the_spectrum_of_white_noise_is_flat_and_that_of_a_walk_falls(tool: Tool) -> None:
    noise = np.random.default_rng(1).normal(0, 1, (128, 128))
    walk = np.cumsum(np.cumsum(noise, axis=0), axis=1)
    gray = [np.clip(128 + 30 * each / each.std(), 0, 255).astype(np.uint8) for each in (noise, walk)]
    flat, falling = (tool("drawn_parts").spectrum_slope(each) for each in gray)
    assert flat == pytest.approx(0, abs=0.1)
    assert falling < -1


def test_a_row_tells_mean_and_deviation_between_images(tool: Tool) -> None:
    rng = np.random.default_rng(2)
    images = [np.clip(rng.normal(level, 10, (64, 64)), 0, 255).round().astype(np.uint8) for level in (90, 110)]
    cells = tool("drawn_parts").row_of("two", images).split(" | ")
    assert cells[0] == "| two, 2"
    mean, spread = (float(each) for each in cells[1].split(" +- "))
    assert (mean, spread) == pytest.approx((100, 10), abs=0.5)


def test_the_picture_has_a_gap_between_good_and_defective(tool: Tool) -> None:
    drawn = tool("drawn_parts")
    picture = drawn.picture_of(3)
    below_good = drawn.HEAD + drawn.SIDE
    assert (picture[below_good : below_good + drawn.GAP] == 255).all()
    red = (picture == drawn.LABEL).all(axis=2)
    assert red[below_good:].any() and not red[:below_good].any()
