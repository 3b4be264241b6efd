"""Draws textured surface parts, some with a defect, and knows the truth of each.

The surfaces stand for what a line inspects: cast grain, brushed metal, woven cloth, mottled stone. A part depends on
nothing but (seed, index), so it can be drawn again, in any order. As in DAGM 2007 the label is weak: an ellipse around
the defect, larger than what shows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.texture_defects import DEFECTS, draw_defect

Surface = NDArray[np.float32]

EMPTY_GRAY: Final = 12.0  # an empty belt: dark, with a little sensor noise
PART_GRAY: Final = (112.0, 140.0)  # mean gray of a part
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
    seed: int, index: int, rows: int = 512, cols: int = 512, *, defect_share: float = 0.2, empty_share: float = 0.03
) -> PartTruth:
    """What `draw_part` draws for the same arguments, without drawing it."""
    rng = _random(seed, index, "truth")
    fate = float(rng.random())
    family = str(rng.choice(list(FAMILIES)))
    defect = str(rng.choice(list(DEFECTS)))
    ellipse = _place(rng, defect, rows, cols)
    if fate < empty_share:
        return PartTruth("empty", "", "", None)
    if fate < empty_share + defect_share:
        return PartTruth("defective", family, defect, ellipse)
    return PartTruth("good", family, "", None)


def draw_part(
    seed: int, index: int, rows: int = 512, cols: int = 512, *, defect_share: float = 0.2, empty_share: float = 0.03
) -> DrawnPart:
    """The part number `index` of series `seed`. Takes about 5 ms at 512 x 512."""
    truth = truth_of(seed, index, rows, cols, defect_share=defect_share, empty_share=empty_share)
    rng = _random(seed, index, "surface")
    if truth.kind == "empty":
        belt = _with_std(_blur(_noise(rng, rows, cols), 0.8, 0.8), 1.5)
        return DrawnPart(_to_gray(belt + np.float32(EMPTY_GRAY - belt.mean())), truth)
    surface = FAMILIES[truth.family](rng, rows, cols)
    _light(surface, rng)
    if truth.ellipse is not None:
        draw_defect(surface, truth.defect, truth.ellipse, _random(seed, index, "defect"))
    return DrawnPart(_to_gray(surface), truth)


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


def _noise(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.uint8]:
    """White and uniform, 0..255: bytes cost a tenth of normal deviates, and any blur makes them normal."""
    return rng.integers(0, 256, (rows, cols), dtype=np.uint8)


def _blur(noise: NDArray[np.uint8] | Surface, sigma_x: float, sigma_y: float) -> Surface:
    """Gaussian blur of uint8 or float32, as float32."""
    kernel_x, kernel_y = (cv2.getGaussianKernel(2 * round(2.5 * s) + 1, s, cv2.CV_32F) for s in (sigma_x, sigma_y))
    blurred: Surface = cv2.sepFilter2D(noise, cv2.CV_32F, kernel_x, kernel_y)
    return blurred


def _with_std(surface: Surface, std: float) -> Surface:
    """The surface itself, scaled to a standard deviation of `std` gray levels; its mean is left to `_light`."""
    surface *= np.float32(std / float(cv2.meanStdDev(surface)[1][0, 0]))
    return surface


def _light(surface: Surface, rng: np.random.Generator) -> None:
    """Sets the mean gray, under a lamp not quite straight above: a slope of up to 8 gray levels either way."""
    gray = float(rng.uniform(*PART_GRAY)) - float(surface.mean())
    slope_x, slope_y = rng.uniform(-8, 8, 2)
    y, x = (np.linspace(-1, 1, n) for n in surface.shape)
    surface += (gray + slope_y * y + 5 * (1 / 3 - y * y)).astype(np.float32)[:, None]
    surface += (slope_x * x + 5 * (1 / 3 - x * x)).astype(np.float32)


def _grain(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Cast or blasted metal: noise of one grain size, band-passed."""
    size_px = float(rng.uniform(1.2, 2.4))
    noise = _noise(rng, rows, cols)
    fine = _blur(noise, size_px, size_px)
    fine -= cv2.boxFilter(noise, cv2.CV_32F, (int(size_px * 6) | 1,) * 2)
    return _with_std(fine, float(rng.uniform(9, 13)))


def _brushed(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Brushed metal: strokes along the rows or the columns, long ones over short ones."""
    lies = bool(rng.integers(2))
    noise = _noise(rng, *((rows, cols) if lies else (cols, rows)))
    strokes: Surface = cv2.boxFilter(noise, cv2.CV_32F, (61, 1))
    cv2.accumulateWeighted(cv2.boxFilter(noise, cv2.CV_32F, (15, 1)), strokes, 0.23)
    strokes = _with_std(_blur(strokes, 0.5, float(rng.uniform(0.6, 0.9))), float(rng.uniform(7, 10)))
    return strokes if lies else np.ascontiguousarray(strokes.T)


def _woven(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Plain weave: at each crossing either the warp or the weft lies above; threads differ a little."""
    pitch_px = float(rng.uniform(9, 15))
    odd_v, height_v, shade_v = _threads(rng, rows, pitch_px)
    odd_u, height_u, shade_u = _threads(rng, cols, pitch_px)
    warp = np.outer(0.55 + 0.45 * height_v, 38 * (height_u + shade_u))
    weft = np.outer(32 * (height_v + shade_v), 0.55 + 0.45 * height_u)
    cloth: Surface = np.where(odd_v[:, None] ^ odd_u[None, :], weft, warp)
    cloth += _with_std(_blur(_noise(rng, rows, cols), 0.8, 0.8), 4.0)
    return cloth


def _threads(rng: np.random.Generator, length: int, pitch_px: float) -> tuple[NDArray[np.bool_], Surface, Surface]:
    """Along one axis: is the pixel's thread an odd one, the height within the thread (0..1), the thread's own shade."""
    knots = np.arange(0, length + 40, 40)
    jitter = np.interp(np.arange(length), knots, rng.uniform(-0.15, 0.15, knots.size))
    place = np.arange(length) / pitch_px + 1 + float(rng.random()) + jitter
    number = np.floor(place).astype(np.int64)
    height = np.sin(np.pi * (place - number)).astype(np.float32)
    shade = rng.normal(0, 0.06, int(number.max()) + 1).astype(np.float32)[number]
    return number % 2 == 1, height, shade


def _mottled(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Stone or forged steel: patches of several sizes under a fine grain."""
    patches = np.zeros((1, 1), np.float32)
    for cell_px, std in ((48, 4.5), (16, 4.5), (6, 3.5)):
        finer = _noise(rng, rows // cell_px + 2, cols // cell_px + 2) * np.float32(std / 60)
        patches = finer + cv2.resize(patches, finer.shape[::-1], interpolation=cv2.INTER_CUBIC)
    surface: Surface = cv2.resize(patches, (cols, rows), interpolation=cv2.INTER_CUBIC)
    surface += _with_std(_blur(_noise(rng, rows, cols), 1.0, 1.0), 5.0)
    return surface


def _to_gray(surface: Surface) -> NDArray[np.uint8]:
    """Rounded and clipped to 0..255; the surface is used up."""
    gray: NDArray[np.uint8] = cv2.convertScaleAbs(np.maximum(surface, 0, out=surface))
    return gray


FAMILIES: Final = {"grain": _grain, "brushed": _brushed, "woven": _woven, "mottled": _mottled}
