"""The picture of what a network learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np


def test_the_dark_edge_of_a_name_ends_where_the_name_does(tool: Callable[[str], ModuleType], tmp_path: Path) -> None:
    mask = np.zeros((1, 240, 240), np.int64)
    mask[0, 100:140, 100:140] = 1
    tool("sheet").draw_sheet(np.full((1, 240, 240), 128, np.uint8), mask, ("inclusion",), tmp_path / "sheet.png")
    name = cv2.imread(str(tmp_path / "sheet.png"))[:40, :240].astype(int)
    is_dark, is_ink = name.max(axis=2) < 64, name[..., 2] - name[..., 0] > 150
    ends = [np.flatnonzero(each.any(axis=0))[-1] for each in (is_dark, is_ink)]
    assert abs(ends[0] - ends[1]) <= 2
