"""Flaws drawn into good parts while training, where real ones are few: a hole, a crack, a chip off an edge, uneven grinding.

Each is drawn on the frame's own texture, darker or brighter by a share of the light there, and labelled where it shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Surface = NDArray[np.float32]
Gray = NDArray[np.uint8]
Random = np.random.Generator
_STRIDE_PX = 1.5  # of a crack, between its turns
LEAST_FLAW_PX = 40  # a flaw that shows on fewer pixels is not drawn
LEAST_LEVELS, LEAST_SHARE = 5.0, 0.1  # nor one that changes what lies there by less, on average: nobody could see it
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Flaw:
    """A kind of flaw and the class that its pixels are labelled with."""

    kind: str
    label: int


def flaws_of(words: str, classes: tuple[str, ...]) -> tuple[Flaw, ...]:
    """Flaws from `Crack=crack,Break=chip`: the class to learn, then what is drawn for it. Raises SystemExit."""
    flaws = []
    for word in filter(None, words.split(",")):
        name, _, kind = word.partition("=")
        if kind not in DRAWN_BY or (name not in classes and len(classes) > 1):
            raise SystemExit(f"--flaws {word}: say CLASS=FLAW with one of {', '.join(classes)} and one of {', '.join(DRAWN_BY)}")
        flaws.append(Flaw(kind, classes.index(name) + 1 if len(classes) > 1 else 1))
    return tuple(flaws)


def draw_flaw(pair: tuple[Gray, Gray], flaws: tuple[Flaw, ...], rng: Random) -> tuple[Gray, Gray]:
    """The pair of frame and mask with one of the flaws drawn into it and labelled."""
    flaw = flaws[int(rng.integers(len(flaws)))]
    frame = pair[0].astype(np.float32)
    for _ in range(_TRIES):
        drawn, shows = DRAWN_BY[flaw.kind](frame, rng)
        if is_seen(frame, drawn, shows):
            mask = pair[1].copy()
            mask[shows] = flaw.label
            return np.clip(drawn, 0, 255).astype(np.uint8), mask
    return pair


def is_seen(frame: Surface, drawn: Surface, shows: NDArray[np.bool_]) -> bool:
    """Whether what was drawn is large enough and different enough from what lay there to be called a flaw."""
    if np.count_nonzero(shows) < LEAST_FLAW_PX:
        return False
    change = np.abs(cv2.GaussianBlur(np.clip(drawn, 0, 255) - frame, (0, 0), 1.0)[shows]).mean()
    return bool(change >= max(LEAST_LEVELS, LEAST_SHARE * float(frame[shows].mean())))


def _hole(frame: Surface, rng: Random) -> tuple[Surface, NDArray[np.bool_]]:
    """A dark, ragged pore of 8 to 30 pixels."""
    rows, cols = (int(rng.integers(8, 30)) for _ in range(2))
    top, left = (int(rng.integers(max(1, whole - size))) for whole, size in zip(frame.shape, (rows, cols), strict=True))
    place = frame[top : top + rows, left : left + cols]
    rows, cols = place.shape
    far = np.hypot(*np.meshgrid(np.linspace(-1, 1, cols), np.linspace(-1, 1, rows))) + 0.25 * _cloud(rows, cols, 4, rng)
    depth = _step((0.75 - far) / 0.08)
    drawn, shows = frame.copy(), np.zeros(frame.shape, bool)
    drawn[top : top + rows, left : left + cols] = place * (1 - depth * rng.uniform(0.35, 0.8))
    shows[top : top + rows, left : left + cols] = depth > 0.5
    return drawn, shows


def _crack(frame: Surface, rng: Random) -> tuple[Surface, NDArray[np.bool_]]:
    """A dark line that wanders, two of three in from the upper or lower edge; as many of 8 to 50 pixels as of 50 to 300."""
    rows, cols = frame.shape
    where = np.array([rng.uniform(0, cols), rng.uniform(0, rows)])
    heading = float(rng.uniform(0, np.pi))
    if rng.random() < 2 / 3:
        from_top = bool(rng.integers(2))
        where[1], heading = (0.0, np.pi / 2) if from_top else (rows - 1.0, -np.pi / 2)
        heading += rng.normal(0, 0.2)
    length_px = float(np.exp(rng.uniform(np.log(8), np.log(300))))
    headings = heading + np.cumsum(rng.normal(0, 0.12, int(length_px / _STRIDE_PX)))
    points = where + _STRIDE_PX * np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1), axis=0)
    line = np.zeros(frame.shape, np.uint8)
    cv2.polylines(line, [np.int32(points * 16)], False, 255, int(rng.integers(1, 3 if length_px < 50 else 5)), cv2.LINE_AA, 4)
    depth = cv2.GaussianBlur(line, (0, 0), rng.uniform(0.6, 1.2)).astype(np.float32) / 255
    shows = cv2.dilate((depth > 0.3).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return frame * (1 - depth * rng.uniform(0.25, 0.8) / max(0.5, float(depth.max()))), shows


def _chip(frame: Surface, rng: Random) -> tuple[Surface, NDArray[np.bool_]]:
    """A piece broken off one edge, or one corner: another texture and tone below a ragged outline, with a lit rim."""
    side = int(rng.integers(4))  # left, right, top, bottom
    along, across = frame.shape if side < 2 else frame.shape[::-1]
    length, depth_px = int(rng.integers(15, 90)), int(rng.integers(5, 30))
    in_corner = rng.random() < 0.4
    start = -length // 4 if in_corner and rng.random() < 0.5 else along - length // 2
    if not in_corner:
        start = int(rng.integers(max(1, along - length // 2)))
    place = np.clip((np.arange(along) - start) / length, 0, 1)
    knots = np.arange(0, along + 12, 12)
    outline = (
        depth_px * np.sin(np.pi * place) ** 0.6 * (1 + 0.35 * np.interp(np.arange(along), knots, rng.normal(0, 1, knots.size)))
    )
    from_edge = np.arange(across) if side % 2 == 0 else np.arange(across)[::-1]
    inside_px = outline[:, None] - from_edge[None, :] - 0.5
    share = _step(inside_px / rng.uniform(0.4, 1.5)) * (outline[:, None] > 0.5)  # all of the edge is no chip
    if side >= 2:
        inside_px, share = inside_px.T, share.T
    ground = cv2.GaussianBlur(frame, (0, 0), 6) * rng.uniform(0.15, 0.85)
    texture = _cloud(frame.shape[0], frame.shape[1], rng.uniform(2, 6), rng) * rng.uniform(3, 14)
    rim = np.exp(-(((inside_px - 1) / 1.2) ** 2)) * (share > 0.2) * rng.uniform(-15, 25)
    return frame + share * (ground + texture - frame) + rim, np.asarray(share > 0.5)


def _grinding(frame: Surface, rng: Random) -> tuple[Surface, NDArray[np.bool_]]:
    """A field, or one time in four a corner, with a sharp end, where the grinding shone through or went too deep."""
    rows, cols = frame.shape
    share = _corner(rows, cols, rng) if rng.random() < 0.25 else _field(rows, cols, rng)
    streaks = np.convolve(rng.normal(0, 1, cols + 8), [0.25, 0.5, 0.25], "same")[:cols]
    streaks += np.maximum(0, rng.normal(0, 1, cols)) * 2 * (rng.random(cols) < 0.15)
    base = cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.8, 2.5)) if rng.random() < 0.5 else frame
    brighter = rng.choice([1, 1, 1, -1]) * rng.uniform(0.05, 0.35)
    waves = streaks[None, :] * (1 + 0.25 * _cloud(rows, cols, 40, rng)) * rng.uniform(0.04, 0.2)
    ground = base * (1 + brighter + waves) + rng.normal(0, 3, frame.shape)
    return frame + share * (ground - frame), np.asarray(share > 0.5)


def _field(rows: int, cols: int, rng: Random) -> Surface:
    """How far each pixel is inside a band across the columns' grain, 0 to 1."""
    height, width = int(rng.integers(25, max(26, int(rows * 0.7)))), int(rng.integers(min(60, cols - 1), cols + 40))
    top, left = int(rng.integers(-15, max(1, rows - height + 16))), int(rng.integers(-40, max(1, cols - width + 41)))
    tilt = np.arange(cols)[None, :] * rng.uniform(-0.08, 0.08)
    y = np.arange(rows)[:, None] - top - tilt + 2 * _cloud(rows, cols, 30, rng)
    x = np.arange(cols)[None, :] - left
    soft, softer, side = rng.uniform(0.5, 2.0), rng.uniform(0.5, 4.0), rng.uniform(1, 18)
    share = _step(y / soft) * _step((height - y) / softer) * _step(x / side) * _step((width - x) / side)
    return np.asarray(share, np.float32)


def _corner(rows: int, cols: int, rng: Random) -> Surface:
    """How far each pixel is inside one corner, 0 to 1: its end runs aslant from side to side."""
    down, aside = rng.uniform(25, max(25.0, 0.5 * rows)), rng.uniform(25, max(25.0, 0.6 * cols))
    y, x = np.arange(rows)[:, None], np.arange(cols)[None, :]
    y, x = y if rng.integers(2) else y[::-1], x if rng.integers(2) else x[:, ::-1]
    inside_px = (1 - y / down - x / aside) / np.hypot(1 / down, 1 / aside)
    return np.asarray(_step((inside_px + 2 * _cloud(rows, cols, 30, rng)) / rng.uniform(0.5, 3.0)), np.float32)


def _cloud(rows: int, cols: int, cell_px: float, rng: Random) -> Surface:
    """Smooth noise of about unit deviation that changes over `cell_px` pixels."""
    coarse = rng.normal(0, 1, (max(2, int(rows / cell_px) + 2), max(2, int(cols / cell_px) + 2))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC), np.float32)


def _step(x: NDArray[Any]) -> NDArray[Any]:
    """From 0 to 1 around x = 0, over about four units."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


DRAWN_BY: dict[str, Callable[[Surface, Random], tuple[Surface, NDArray[np.bool_]]]] = {
    "hole": _hole,
    "crack": _crack,
    "chip": _chip,
    "grinding": _grinding,
}
