"""The figures of docs/drawn-parts.md, on images whose answer is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "nothing is asked for: say --picture FILE, --beside FOLDER or --time N"),
        ("--beside nowhere", "nowhere"),
        ("--beside nowhere --drawn 0", "--drawn 0: take 1 or more"),
        ("--time 0", "--time 0: take 1 or more"),
        ("--time 1 --seed -1", "--seed -1: take 0 or more"),
        ("--picture nowhere/x.png", "--picture nowhere/x.png cannot be written: name a .png file in a folder that is there"),
        ("--picture x.txt", "--picture x.txt cannot be written"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["drawn_parts.py", *words.split()])
    with pytest.raises(SystemExit, match=told):
        tool("drawn_parts").main()


def test_the_picture_has_a_gap_between_good_and_defective(tool: Tool) -> None:
    drawn = tool("drawn_parts")
    picture = drawn.picture_of(3)
    below_good = drawn.HEAD + drawn.SIDE
    assert (picture[below_good : below_good + drawn.GAP] == 255).all()
    red = (picture == drawn.LABEL).all(axis=2)
    assert red[below_good:].any() and not red[:below_good].any()
