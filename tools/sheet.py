"""A picture of what a network learns from: frames as they are handed over, each defect outlined and named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_ACROSS, _SIDE_PX, _GAP_PX = 6, 240, 6
_COLOURS = ((60, 60, 255), (0, 200, 255), (255, 200, 0), (80, 220, 80), (255, 90, 200))  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_sheet(frames: NDArray[np.uint8], masks: NDArray[np.int64], classes: tuple[str, ...], file: Path) -> None:
    """Write the frames (count, rows, cols) side by side, with the outlines of their masks (count, rows, cols)."""
    tiles = [_tile(frame, mask, classes) for frame, mask in zip(frames, masks, strict=True)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _ACROSS)
    rows = [np.hstack(tiles[first : first + _ACROSS]) for first in range(0, len(tiles), _ACROSS)]
    file.write_bytes(cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _tile(frame: NDArray[np.uint8], mask: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """One frame, `_SIDE_PX` on its longer side, and the names of what it shows."""
    scale = _SIDE_PX / max(frame.shape)
    size = [max(1, round(length * scale)) for length in frame.shape[::-1]]
    tile = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for line, label in enumerate(label for label in np.unique(mask).tolist() if label):
        of_class = cv2.resize((mask == label).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(of_class, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        colour = _COLOURS[(label - 1) % len(_COLOURS)]
        cv2.drawContours(tile, outlines, -1, colour, 1)
        for right, down, ink in (*((x, y, (0, 0, 0)) for x in (-1, 0, 1) for y in (-1, 0, 1)), (0, 0, colour)):
            at = (6 + right, 18 + 18 * line + down)  # the edge is not drawn by thicker letters, which are wider, too
            cv2.putText(tile, classes[label - 1], at, _FONT, 0.5, ink, 1, cv2.LINE_AA)
    below, beside = (_SIDE_PX + _GAP_PX - length for length in tile.shape[:2])
    return np.asarray(cv2.copyMakeBorder(tile, 0, below, 0, beside, cv2.BORDER_CONSTANT), np.uint8)
