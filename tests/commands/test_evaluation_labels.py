"""The names of several classes' thresholds are printed beside one another, however near the thresholds lie."""

from __future__ import annotations

from itertools import combinations

import pytest

from edge_agent.commands.evaluation.labels import Box, places, stagger
from edge_agent.commands.evaluation.plots import new_figure

ROOM = Box(0, 0, 640, 460)
RECIPE = {"Blowhole": 0.87, "Break": 0.6, "Crack": 0.82, "Uneven": 0.5}
PICKED = {"Blowhole": 0.7181, "Break": 0.8117, "Crack": 0.6058, "Fray": 0.6011, "Uneven": 0.5}


def at(x: float, length: float = 100) -> Box:
    return Box(x - 6, 180, x + 6, 180 + length)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_words_on_the_same_line_cover_neither_one_another_nor_what_is_taken(count: int) -> None:
    legend = Box(200, 300, 420, 460)
    found = places([at(320)] * count, ROOM, [legend])
    assert all(one.over(other) == 0 for one, other in combinations([*found, legend], 2))
    assert all(box.low >= ROOM.low and box.high <= ROOM.high for box in found)


def test_words_far_from_each_other_stay_at_one_height_and_on_their_lines() -> None:
    boxes = [at(100), at(200), at(300)]
    found = places(boxes, ROOM, [])
    assert {box.low for box in found} == {found[0].low}
    assert [(box.left, box.right) for box in found] == [(box.left, box.right) for box in boxes]


def test_words_longer_than_the_room_stay_on_their_line() -> None:
    (found,) = places([at(100, length=900)], ROOM, [])
    assert (found.left, found.low) == (94, ROOM.low)


def test_in_a_picture_no_name_lies_on_another() -> None:
    figure = new_figure(13, 5.4)
    axes, _ = figure.subplots(1, 2)
    texts = [
        axes.text(threshold, 0.5, f"{name} {threshold:g}", rotation=90, ha="center", va="center", fontsize=8)
        for thresholds in (RECIPE, PICKED)
        for name, threshold in thresholds.items()
    ]
    figure.draw_without_rendering()
    before = [text.get_window_extent() for text in texts]
    assert any(one.overlaps(other) for one, other in combinations(before, 2))
    stagger(axes, texts)
    after = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in combinations(after, 2))
