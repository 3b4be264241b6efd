"""The defects that `texture` draws into a surface: smear, scratch, pits, dent, stain, crack.

Each is drawn in place, on float32 gray levels and within the box of its weak ellipse, and shows on about the inner two
thirds of it. What is drawn is the stronger, the rougher the surface beneath, so that a person sees it on every surface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Surface = NDArray[np.float32]
Ellipse = tuple[float, float, float, float, float]

# Semi-axis a of the weak ellipse, shortest and longest, in pixels of a 512-pixel frame; then b as a share of a.
DEFECTS: Final[dict[str, tuple[float, float, float]]] = {
    "smear": (38, 75, 0.65),
    "scratch": (45, 90, 0.22),
    "pits": (26, 44, 0.8),
    "dent": (34, 55, 0.75),
    "stain": (34, 60, 0.7),
    "crack": (45, 85, 0.4),
}


ROUGH_STD: Final = 14.0  # gray levels; on surfaces rougher than this defects are drawn stronger


class Place(NamedTuple):
    """Each pixel of the patch in the ellipse's own coordinates, 1 at its edge, and the semi-axes in pixels."""

    u: Surface
    v: Surface
    a: float
    b: float


def draw_defect(surface: Surface, defect: str, ellipse: Ellipse, rng: np.random.Generator) -> None:
    """Changes the surface, (rows, cols) gray levels, inside the ellipse's box."""
    x, y, a, b, angle_deg = ellipse
    reach = int(np.ceil(max(a, b))) + 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    patch = surface[top : int(y) + reach, left : int(x) + reach]
    at: Surface = np.indices(patch.shape, dtype=np.float32)
    turn = np.deg2rad(angle_deg)
    dx, dy = at[1] + (left - x), at[0] + (top - y)
    u = (dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))) / np.float32(a)
    v = (dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))) / np.float32(b)
    strength = float(np.clip(patch.std() / ROUGH_STD, 1.0, 1.7))
    patch[:] = _DRAWN_BY[defect](patch, Place(u, v, a, b), strength, rng)


def _scratch(patch: Surface, at: Place, strength: float, rng: np.random.Generator) -> Surface:
    """A slightly bent line, brighter or darker than all around it, with the burr of the other sign along one side."""
    bend, wave = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    off_px = (at.v - bend * (1 - 2 * at.u * at.u) - wave * np.sin(3 * at.u)) * np.float32(at.b)
    width_px = np.float32(rng.uniform(1.5, 2.4))
    along = _fade(np.abs(at.u), 0.8, 0.1)
    line, burr = (along * np.exp(-(((off_px - shift) / width_px) ** 2)) for shift in (0, 2.2 * width_px))
    deep = np.float32(_sign(rng) * rng.uniform(56, 74) * strength)
    marked: Surface = patch + line * (_flat(patch) + deep - patch) - np.float32(0.35) * deep * burr
    return marked


def _crack(patch: Surface, at: Place, strength: float, rng: np.random.Generator) -> Surface:
    """A dark line that runs in steps, thin at its ends, sometimes with a branch."""
    knots = np.linspace(-0.85, 0.85, int(rng.integers(7, 12)))
    middle = _steps(at.u, knots, rng.uniform(-0.45, 0.45, knots.size) * (1 - knots**2))
    width_px = np.float32(rng.uniform(1.7, 2.7)) * (1 - np.float32(0.6) * np.minimum(at.u * at.u, 1))
    line = np.exp(-(((at.v - middle) * np.float32(at.b) / width_px) ** 2)) * _fade(np.abs(at.u), 0.78, 0.06)
    if rng.integers(2):
        leaves, slant = rng.uniform(-0.4, 0.2), _sign(rng) * rng.uniform(0.5, 0.9)
        branch = np.exp(-(((at.v - middle - np.float32(slant) * (at.u - leaves)) * np.float32(at.b) / (width_px * 0.8)) ** 2))
        line = np.maximum(line, branch * _fade(np.abs(at.u - np.float32(leaves + 0.25)), 0.25, 0.05))
    marked: Surface = patch + line * (_flat(patch) - np.float32(rng.uniform(58, 76) * strength) - patch)
    return marked


def _pits(patch: Surface, at: Place, strength: float, rng: np.random.Generator) -> Surface:
    """Two to five small dark holes, each with a bright lower rim."""
    marked: Surface = patch.copy()
    floor = _flat(patch) - np.float32(rng.uniform(45, 62) * strength)
    for _ in range(int(rng.integers(2, 6))):
        where_u, where_v = rng.uniform(-0.45, 0.45, 2)
        radius_px = rng.uniform(0.13, 0.22) * at.a + 1.0
        far = np.hypot((at.u - where_u) * at.a, (at.v - where_v) * at.b).astype(np.float32) / np.float32(radius_px)
        marked += _fade(far, 1.0, 0.2) * (floor - marked)
        marked += np.float32(20 * strength) * np.exp(-(((far - 1.3) / 0.25) ** 2)) * (at.v > where_v)
    return marked


def _smear(patch: Surface, at: Place, _strength: float, rng: np.random.Generator) -> Surface:
    """The grain is rubbed away, in a bean or a drop, and left a little brighter or darker: the defect of DAGM's Class 1."""
    rubbed: Surface = cv2.GaussianBlur(patch, (0, 0), sigmaX=float(rng.uniform(7, 10)))
    rough = patch.std()
    shift = _sign(rng) * (rng.uniform(16, 24) if rough < ROUGH_STD else rng.uniform(0, 8))
    rubbed = rubbed + np.float32(shift) + rng.normal(0, 2.5, patch.shape).astype(np.float32)
    bend = np.float32(rng.uniform(-0.5, 0.5))
    mix = _fade(_ragged(at.u, at.v - bend * (at.u * at.u - np.float32(0.2)), rng), 0.72, 0.06)
    return patch + mix * (rubbed - patch)


def _dent(patch: Surface, at: Place, strength: float, rng: np.random.Generator) -> Surface:
    """A hollow under a slanting lamp: bright on one flank, dark on the other."""
    turn = rng.uniform(0, 2 * np.pi)
    slope = at.u * np.float32(np.cos(turn)) + at.v * np.float32(np.sin(turn))
    hollow = np.exp(-(at.u * at.u + at.v * at.v) * np.float32(4.0))
    marked: Surface = patch + np.float32(rng.uniform(230, 300) * strength) * slope * hollow
    return marked


def _stain(patch: Surface, at: Place, strength: float, rng: np.random.Generator) -> Surface:
    """A dried drop of uneven outline, darker at its edge than within; the grain shows through, paler."""
    far = _ragged(at.u, at.v, rng)
    edge: Surface = np.exp(-(((far - 0.68) / 0.1) ** 2))
    within = _fade(far, 0.72, 0.05)
    paler = patch - np.float32(0.3) * within * (patch - _flat(patch))
    dark: Surface = np.float32(rng.uniform(26, 36) * strength) * np.add(within * np.float32(0.8), edge * np.float32(0.6))
    return paler - dark


def _flat(patch: Surface) -> np.float32:
    """The gray that is left where the surface is gone."""
    gray: np.float32 = np.float32(patch.mean())
    return gray


def _steps(u: Surface, knots: NDArray[np.floating], heights: NDArray[np.float64]) -> Surface:
    """Height over u of the line through the knots."""
    height: Surface = np.interp(u, knots, heights).astype(np.float32)
    return height


def _ragged(u: Surface, v: Surface, rng: np.random.Generator) -> Surface:
    """Distance from the centre, 1 at the ellipse's edge, with an outline that wobbles by a sixth."""
    around = np.arctan2(v, u)
    phase = rng.uniform(0, 2 * np.pi, 3)
    wobble = sum(np.sin((k + 2) * around + phase[k]) / (k + 2) for k in range(3))
    far: Surface = np.hypot(u, v) * (1 + np.float32(0.16) * np.asarray(wobble, np.float32))
    return far


def _fade(far: Surface, edge: float, softness: float) -> Surface:
    """1 inside `edge`, 0 outside, over a band of about four times `softness`."""
    faded: Surface = np.divide(1, 1 + np.exp(np.clip((far - edge) / np.float32(softness / 2), -30, 30), dtype=np.float32))
    return faded


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.integers(2) else -1


_DRAWN_BY: Final[dict[str, Callable[[Surface, Place, float, np.random.Generator], Surface]]] = {
    "smear": _smear,
    "scratch": _scratch,
    "pits": _pits,
    "dent": _dent,
    "stain": _stain,
    "crack": _crack,
}
