"""Draws textured surface parts, some with a defect, and knows the truth of each.

The surfaces stand for what a line inspects: cast grain, brushed or turned metal, woven cloth, mottled stone, a moire like
DAGM's. A part depends on nothing but (seed, index) and the families and defects asked for, so it can be drawn again, in
any order. As in DAGM 2007 the label is weak: an ellipse around the defect, larger than what shows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.texture_defects import DEFECTS, draw_defect
from edge_agent.camera.texture_families import FAMILIES, Surface, blur, white_noise, with_std

EMPTY_GRAY: Final = 12.0  # an empty belt: dark, with a little sensor noise
MARGIN: Final = 0.14  # a defect's centre keeps this share of the frame away from its edges


@dataclass(frozen=True, slots=True)
class PartTruth:
    """What was drawn: `kind` is good, defective or empty, `family` the surface, `defect` its name or "".

    `ellipse` is centre x, y and semi-axes a, b in pixels, then the angle of a in degrees, clockwise from x.
    """

    kind: str
    family: str
    defect: str
    ellipse: tuple[float, float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class DrawnPart:
    """One frame, uint8 (rows, cols), owned by the caller, and what is on it."""

    pixels: NDArray[np.uint8]
    truth: PartTruth


def truth_of(
    seed: int,
    index: int,
    rows: int = 512,
    cols: int = 512,
    *,
    defect_share: float = 0.2,
    empty_share: float = 0.03,
    families: Sequence[str] = tuple(FAMILIES),
    defects: Sequence[str] = tuple(DEFECTS),
) -> PartTruth:
    """What `draw_part` draws for the same arguments, without drawing it."""
    rng = _random(seed, index, "truth")
    fate = float(rng.random())
    family = str(rng.choice(list(families)))
    defect = str(rng.choice(list(defects)))
    ellipse = _place(rng, defect, rows, cols)
    if fate < empty_share:
        return PartTruth("empty", "", "", None)
    if fate < empty_share + defect_share:
        return PartTruth("defective", family, defect, ellipse)
    return PartTruth("good", family, "", None)


def draw_part(
    seed: int,
    index: int,
    rows: int = 512,
    cols: int = 512,
    *,
    defect_share: float = 0.2,
    empty_share: float = 0.03,
    families: Sequence[str] = tuple(FAMILIES),
    defects: Sequence[str] = tuple(DEFECTS),
) -> DrawnPart:
    """The part number `index` of series `seed`, of one of the families and with at most one of the defects named."""
    shares = {"defect_share": defect_share, "empty_share": empty_share}
    truth = truth_of(seed, index, rows, cols, **shares, families=families, defects=defects)
    return DrawnPart(_pixels(truth, seed, index, rows, cols), truth)


def _pixels(truth: PartTruth, seed: int, index: int, rows: int, cols: int) -> NDArray[np.uint8]:
    """The frame that shows the truth."""
    rng = _random(seed, index, "surface")
    if truth.kind == "empty":
        belt = with_std(blur(white_noise(rng, rows, cols), 0.8, 0.8), 1.5)
        return _to_gray(belt + np.float32(EMPTY_GRAY - belt.mean()))
    family = FAMILIES[truth.family]
    surface = family.draw(rng, rows, cols)
    _light(surface, float(rng.uniform(*family.gray)), rng)
    if truth.ellipse is not None:
        draw_defect(surface, truth.defect, truth.ellipse, _random(seed, index, "defect"))
    return _to_gray(surface)


def label_of(truth: PartTruth, rows: int, cols: int) -> NDArray[np.bool_]:
    """True inside the weak ellipse, (rows, cols); all False where there is none."""
    mask = np.zeros((rows, cols), np.uint8)
    if truth.ellipse is not None:
        x, y, a, b, angle_deg = truth.ellipse
        cv2.ellipse(mask, ((x, y), (2 * a, 2 * b), angle_deg), 1, cv2.FILLED)
    return mask.astype(np.bool_)


def _random(seed: int, index: int, purpose: str) -> np.random.Generator:
    """One independent stream for each purpose: a good part and its defective twin share their surface."""
    return np.random.default_rng([seed, index, ("truth", "surface", "defect").index(purpose)])


def _place(rng: np.random.Generator, defect: str, rows: int, cols: int) -> tuple[float, float, float, float, float]:
    """An ellipse of the defect's usual size and slimness, well inside the frame, scaled by the frame's shorter side."""
    low_px, high_px, slim = DEFECTS[defect]
    a = float(rng.uniform(low_px, high_px)) * min(rows, cols) / 512
    b = max(a * slim * float(rng.uniform(0.85, 1.15)), 10.0 * min(rows, cols) / 512)
    x, y = rng.uniform(MARGIN, 1 - MARGIN, 2) * (cols, rows)
    return round(float(x), 1), round(float(y), 1), round(a, 1), round(b, 1), round(float(rng.uniform(0, 180)), 1)


def _light(surface: Surface, mean_gray: float, rng: np.random.Generator) -> None:
    """Sets the mean gray, under a lamp not quite straight above: a slope of up to 8 gray levels either way."""
    gray = mean_gray - float(surface.mean())
    slope_x, slope_y = rng.uniform(-8, 8, 2)
    y, x = (np.linspace(-1, 1, n) for n in surface.shape)
    surface += (gray + slope_y * y + 5 * (1 / 3 - y * y)).astype(np.float32)[:, None]
    surface += (slope_x * x + 5 * (1 / 3 - x * x)).astype(np.float32)


def _to_gray(surface: Surface) -> NDArray[np.uint8]:
    """Rounded and clipped to 0..255; the surface is used up."""
    gray: NDArray[np.uint8] = cv2.convertScaleAbs(np.maximum(surface, 0, out=surface))
    return gray
