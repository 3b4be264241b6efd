"""The learning curves show what was judged, and say so where nothing was."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Tool = Callable[[str], ModuleType]
NAN = math.nan
JUDGED = [(100, 1.6, 0.9, 0.7, 0.2), (200, 0.9, 0.97, 0.5, 0.4), (300, 0.6, 1.0, 0.3, 0.8), (400, 0.5, 1.0, 0.1, 0.95)]


@pytest.fixture
def figure(tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[Any]], Any]:
    """What draw_curves draws of these points."""
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    whole = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *more, **how: (drawn.append(self), whole(self, *more, **how))[1])

    def draw(points: list[Any]) -> Any:
        tool("curves").draw_curves(points, tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        return drawn.pop()

    return draw


def test_room_for_a_threshold_is_told_from_an_overlap(figure: Callable[[list[Any]], Any]) -> None:
    _, scores = figure(JUDGED).axes
    labels = [each.get_text() for each in scores.get_legend().get_texts()]
    ends = ["lowest defective frame", "highest good frame"]
    assert labels == ["AUC on held-out frames", *ends, "room for a threshold", "overlap"]
    room, overlap = (np.concatenate([path.vertices[:, 0] for path in each.get_paths()]) for each in scores.collections)
    crossing = 200 + 100 * 0.1 / (0.1 + 0.5)
    assert (overlap.min(), overlap.max()) == pytest.approx((100, crossing))
    assert (room.min(), room.max()) == pytest.approx((crossing, 400))
    _, scores = figure(JUDGED[2:]).axes
    assert "overlap" not in [each.get_text() for each in scores.get_legend().get_texts()]


def test_without_anything_held_out_there_are_no_empty_axes(figure: Callable[[list[Any]], Any]) -> None:
    (loss,) = figure([(step, fall, NAN, NAN, NAN) for step, fall, *_ in JUDGED]).axes
    assert loss.get_title(loc="right") == "nothing held out: no scores"
    assert loss.get_xlabel() == "training steps"
