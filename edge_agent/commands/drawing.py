"""Pictures for people: a frame with its blobs, zones and verdict; a probability map as heat; a sheet of many parts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.recipe import Exclusion, Recipe, Zone
from edge_agent.records import FAULT, NG, PASS, Blob, Finding, Pixels

Picture = npt.NDArray[np.uint8]  # (rows, cols, 3) BGR
SLIP, FALSE_REJECT, RIGHT = "SLIP", "FALSE REJECT", "right"  # what an outcome was worth, where the truth is known
_WRONG = (190, 30, 130)
_COLOURS = {
    PASS: (80, 175, 76),
    NG: (54, 67, 244),
    FAULT: (0, 160, 255),
    SLIP: _WRONG,
    FALSE_REJECT: _WRONG,
    RIGHT: (150, 150, 150),
}
_BLOB, _ZONE, _EXCLUSION, _REGION = (54, 67, 244), (230, 180, 40), (150, 150, 150), (200, 120, 0)
_TRUTH = (235, 70, 235)
_INK, _PAPER, _MUTED = (40, 40, 40), (250, 250, 250), (120, 120, 120)
_MOST_LINES = 6
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def overlay(frame: Pixels, blobs: Sequence[Blob], recipe: Recipe | None) -> Picture:
    """The frame in gray with zones, exclusions, regions and a box around each blob."""
    picture = np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)
    thick = max(1, round(max(picture.shape[:2]) / 200))
    if recipe is not None:
        _draw_recipe(picture, recipe, thick)
    for blob in blobs:
        margin = 3 * thick
        corner = (int(blob.x) - margin, int(blob.y) - margin)
        cv2.rectangle(picture, corner, (int(blob.x + blob.width) + margin, int(blob.y + blob.height) + margin), _BLOB, thick)
    return picture


def framed(picture: Picture, outcome: str) -> Picture:
    """The picture within a border that says the outcome, or what it was worth; it hides nothing of the picture."""
    thick = max(3, round(max(picture.shape[:2]) / 100))
    return np.asarray(cv2.copyMakeBorder(picture, *(thick,) * 4, cv2.BORDER_CONSTANT, value=_COLOURS[outcome]), np.uint8)


def outline(picture: Picture, mask: npt.NDArray[np.bool_]) -> None:
    """Draw the edge of a mask (rows, cols), of the picture's size, into the picture, just outside of it."""
    thick = max(1, round(max(picture.shape[:2]) / 200))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=thick)
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _TRUTH, thick)


def _draw_recipe(picture: Picture, recipe: Recipe, thick: int) -> None:
    for region in recipe.regions:
        if region.width is not None and region.height is not None:
            far = (region.x + region.width, region.y + region.height)
            cv2.rectangle(picture, (region.x, region.y), far, _REGION, thick)
    shapes: list[tuple[Zone | Exclusion, tuple[int, int, int]]] = [
        *((rule, _ZONE) for rule in recipe.rules if isinstance(rule, Zone)),
        *((exclusion, _EXCLUSION) for exclusion in recipe.exclusions),
    ]
    for shape, colour in shapes:
        polygon = np.array(shape.polygon, np.int32)
        cv2.polylines(picture, [polygon], True, colour, thick, cv2.LINE_AA)
        x, y = polygon.min(axis=0)
        scale = 0.5 * thick
        left = max(0, min(int(x), picture.shape[1] - _width(shape.name, scale) - 2))
        at = (left, int(y) - 4 * thick if int(y) > 20 * thick else int(y) + 16 * thick)
        write(picture, shape.name, (at[0] + thick, at[1] + thick), scale, _INK)  # a shadow, to be read on any ground
        write(picture, shape.name, at, scale, colour)


def heat(probability: Pixels) -> Picture:
    """A probability map (0..255) from dark to bright, with a colour scale that survives a gray print."""
    return np.asarray(cv2.applyColorMap(probability, cv2.COLORMAP_INFERNO), np.uint8)


def write(picture: Picture, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int], bold: bool = False) -> None:
    cv2.putText(picture, text, at, _FONT, scale, colour, 2 if bold else 1, cv2.LINE_AA)


def card(frame: Picture, probability: Picture, title: str, outcome: str, lines: Sequence[str], side: int = 240) -> Picture:
    """One part: picture and probability side by side, both framed, below them its outcome, or what that was worth, and why."""
    height = side + 24 + 18 * 3
    canvas = np.full((height, 2 * side + 6, 3), 255, np.uint8)
    for column, picture in enumerate((frame, probability)):
        left = column * (side + 6)
        fitted = _fit(framed(picture, outcome), side)
        top, at = (side - fitted.shape[0]) // 2, left + (side - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], at : at + fitted.shape[1]] = fitted
    badge = max(64, _width(outcome, 0.48, bold=True) + 12)
    cv2.rectangle(canvas, (0, side + 6), (badge, side + 26), _COLOURS[outcome], -1)
    write(canvas, outcome, (6, side + 21), 0.48, (255, 255, 255), bold=True)
    write(canvas, title, (badge + 10, side + 21), 0.46, _INK)
    for row, line in enumerate(lines[:3]):
        write(canvas, line[:64], (2, side + 42 + 17 * row), 0.4, _MUTED)
    return canvas


def captioned(picture: Picture, title: str, outcome: str, lines: Sequence[str]) -> Picture:
    """The picture with a strip below it that says the outcome and why, as wide as the words need. A pixel of the picture stays
    where it is in the frame: zones are drawn by it."""
    shown = list(lines[:_MOST_LINES])
    if len(lines) > len(shown):
        shown[-1] += f"   and {len(lines) - len(shown)} more"
    widest = max(74 + _width(title, 0.46), *(6 + _width(text, 0.45) for text in ("", *shown)))
    rows, cols = picture.shape[:2]
    canvas = np.full((rows + 30 + 18 * len(shown), max(cols, widest + 8), 3), 255, np.uint8)
    canvas[:rows, :cols] = picture
    canvas[rows : rows + 4] = _COLOURS[outcome]
    cv2.rectangle(canvas, (0, rows + 4), (64, rows + 24), _COLOURS[outcome], -1)
    write(canvas, outcome, (6, rows + 19), 0.48, (255, 255, 255), bold=True)
    write(canvas, title, (74, rows + 19), 0.46, _INK)
    for row, line in enumerate(shown):
        write(canvas, line, (6, rows + 40 + 18 * row), 0.45, _INK)
    return canvas


def _width(text: str, scale: float, bold: bool = False) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 2 if bold else 1)[0][0])


def told(finding: Finding) -> str:
    """A finding in words: the rule, its value and its limit, with their unit."""
    side = "within" if finding.ok else "below" if finding.value < finding.limit else "over"
    return f"{finding.rule}: {finding.value:.4g} {side} {finding.limit:.4g} {finding.unit}".rstrip()


def _fit(picture: Picture, side: int) -> Picture:
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)


def sheet(cards: Sequence[Picture], columns: int, title: str, subtitle: str) -> Picture:
    """All cards in rows under a heading."""
    gap, head = 18, 84
    height, width = cards[0].shape[:2]
    rows = -(-len(cards) // columns)
    canvas = np.full((head + rows * (height + gap) + gap, gap + columns * (width + gap), 3), 250, np.uint8)
    write(canvas, title, (gap, 38), 0.95, _INK, bold=True)
    write(canvas, subtitle, (gap, 66), 0.5, _MUTED)
    for index, each in enumerate(cards):
        top, left = head + (index // columns) * (height + gap), gap + (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = each
    return canvas
