"""The defects that `texture` draws into a surface: scratch, pits, smear, dent, stain.

Each is drawn in place, on float32 gray levels and within the box of its weak ellipse, and shows on about the inner two
thirds of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Surface = NDArray[np.float32]
Ellipse = tuple[float, float, float, float, float]

# Semi-axis a of the weak ellipse, shortest and longest, in pixels of a 512-pixel frame; then b as a share of a.
DEFECTS: Final[dict[str, tuple[float, float, float]]] = {
    "scratch": (45, 90, 0.22),
    "pits": (22, 40, 0.8),
    "smear": (38, 65, 0.6),
    "dent": (28, 48, 0.75),
    "stain": (30, 55, 0.7),
}


def draw_defect(surface: Surface, defect: str, ellipse: Ellipse, rng: np.random.Generator) -> None:
    """Changes the surface, (rows, cols) gray levels, inside the ellipse's box."""
    x, y, a, b, angle_deg = ellipse
    reach = int(np.ceil(max(a, b))) + 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    patch = surface[top : int(y) + reach, left : int(x) + reach]
    rows, cols = np.indices(patch.shape, dtype=np.float32)
    turn = np.deg2rad(angle_deg)
    dx, dy = cols + (left - x), rows + (top - y)
    u = (dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))) / np.float32(a)
    v = (dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))) / np.float32(b)
    patch[:] = _DRAWN_BY[defect](patch, u, v, a, b, rng)


def _scratch(patch: Surface, u: Surface, v: Surface, _a: float, b: float, rng: np.random.Generator) -> Surface:
    """A slightly bent line, brighter or darker, with the burr of the other sign along one side."""
    bend, wave = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    off_px = (v - bend * (1 - 2 * u * u) - wave * np.sin(3 * u)) * np.float32(b)
    width_px = np.float32(rng.uniform(0.9, 1.6))
    along = _fade(np.abs(u), 0.8, 0.1)
    line = np.exp(-((off_px / width_px) ** 2)) - np.float32(0.35) * np.exp(-(((off_px - 2.2 * width_px) / width_px) ** 2))
    marked: Surface = patch + np.float32(_sign(rng) * rng.uniform(42, 62)) * along * line
    return marked


def _pits(patch: Surface, u: Surface, v: Surface, a: float, b: float, rng: np.random.Generator) -> Surface:
    """Two to five small dark holes, each with a bright lower rim."""
    marked: Surface = patch.copy()
    for _ in range(int(rng.integers(2, 6))):
        where_u, where_v = rng.uniform(-0.45, 0.45, 2)
        radius_px = rng.uniform(0.1, 0.2) * a + 1.0
        far = np.hypot((u - where_u) * a, (v - where_v) * b).astype(np.float32) / np.float32(radius_px)
        marked -= np.float32(rng.uniform(40, 60)) * _fade(far, 1.0, 0.2)
        marked += np.float32(16) * np.exp(-(((far - 1.3) / 0.25) ** 2)) * (v > where_v)
    return marked


def _smear(patch: Surface, u: Surface, v: Surface, _a: float, _b: float, rng: np.random.Generator) -> Surface:
    """The grain is rubbed away and left brighter or darker."""
    rubbed: Surface = cv2.GaussianBlur(patch, (0, 0), sigmaX=float(rng.uniform(4, 6)))
    rubbed = rubbed + np.float32(_sign(rng) * rng.uniform(11, 18))
    mix = _fade(_ragged(u, v, rng), 0.75, 0.12)
    return patch + mix * (rubbed - patch)


def _dent(patch: Surface, u: Surface, v: Surface, _a: float, _b: float, rng: np.random.Generator) -> Surface:
    """A hollow under a slanting lamp: bright on one flank, dark on the other."""
    turn = rng.uniform(0, 2 * np.pi)
    slope = u * np.float32(np.cos(turn)) + v * np.float32(np.sin(turn))
    hollow = np.exp(-(u * u + v * v) * np.float32(4.0))
    marked: Surface = patch + np.float32(rng.uniform(130, 180)) * slope * hollow
    return marked


def _stain(patch: Surface, u: Surface, v: Surface, _a: float, _b: float, rng: np.random.Generator) -> Surface:
    """A dried drop of uneven outline, darker at its edge than within; the grain shows through."""
    far = _ragged(u, v, rng)
    edge = np.exp(-(((far - 0.68) / 0.1) ** 2))
    marked: Surface = patch - np.float32(rng.uniform(18, 28)) * (_fade(far, 0.72, 0.05) * np.float32(0.8) + np.float32(0.6) * edge)
    return marked


def _ragged(u: Surface, v: Surface, rng: np.random.Generator) -> Surface:
    """Distance from the centre, 1 at the ellipse's edge, with an outline that wobbles by a sixth."""
    around = np.arctan2(v, u)
    phase = rng.uniform(0, 2 * np.pi, 3)
    wobble = sum(np.sin((k + 2) * around + phase[k]) / (k + 2) for k in range(3))
    far: Surface = np.hypot(u, v) * (1 + np.float32(0.16) * np.asarray(wobble, np.float32))
    return far


def _fade(far: Surface, edge: float, softness: float) -> Surface:
    """1 inside `edge`, 0 outside, over a band of about four times `softness`."""
    faded: Surface = 1 / (1 + np.exp(np.clip((far - edge) / np.float32(softness / 2), -30, 30), dtype=np.float32))
    return faded


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.integers(2) else -1


_DRAWN_BY: Final[dict[str, Callable[[Surface, Surface, Surface, float, float, np.random.Generator], Surface]]] = {
    "scratch": _scratch,
    "pits": _pits,
    "smear": _smear,
    "dent": _dent,
    "stain": _stain,
}
