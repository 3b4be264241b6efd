"""The surfaces that `texture` draws parts of: cast grain, brushed and turned metal, woven cloth, mottled stone, moire.

Each is float32 gray levels, (rows, cols), of any mean: `texture` sets that, from `FAMILIES`. The moire's look and statistics
follow DAGM 2007's Class 1: a dark field of waves that cross, mirrored about a point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Surface = NDArray[np.float32]

BRIGHT: Final = (112.0, 140.0)
DARK: Final = (66.0, 76.0)  # DAGM 2007, Class 1: 70.6 +- 3.8


class Family(NamedTuple):
    """How a surface is drawn, and between which mean grays it lies."""

    draw: Callable[[np.random.Generator, int, int], Surface]
    gray: tuple[float, float]


def white_noise(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.uint8]:
    """White and uniform, 0..255: bytes cost a tenth of normal deviates, and any blur makes them normal."""
    return rng.integers(0, 256, (rows, cols), dtype=np.uint8)


def blur(noise: NDArray[np.uint8] | Surface, sigma_x: float, sigma_y: float) -> Surface:
    """Gaussian blur of uint8 or float32, as float32."""
    kernel_x, kernel_y = (cv2.getGaussianKernel(2 * round(2.5 * s) + 1, s, cv2.CV_32F) for s in (sigma_x, sigma_y))
    blurred: Surface = cv2.sepFilter2D(noise, cv2.CV_32F, kernel_x, kernel_y)
    return blurred


def with_std(surface: Surface, std: float) -> Surface:
    """The surface itself, scaled to a standard deviation of `std` gray levels; its mean is left to `_light`."""
    surface *= np.float32(std / float(cv2.meanStdDev(surface)[1][0, 0]))
    return surface


def _grain(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Cast or blasted metal: noise of one grain size, band-passed."""
    size_px = float(rng.uniform(1.2, 2.4))
    noise = white_noise(rng, rows, cols)
    fine = blur(noise, size_px, size_px)
    fine -= cv2.boxFilter(noise, cv2.CV_32F, (int(size_px * 6) | 1,) * 2)
    return with_std(fine, float(rng.uniform(9, 13)))


def _brushed(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Brushed metal: strokes along the rows or the columns, long ones over short ones."""
    lies = bool(rng.integers(2))
    noise = white_noise(rng, *((rows, cols) if lies else (cols, rows)))
    strokes: Surface = cv2.boxFilter(noise, cv2.CV_32F, (61, 1))
    cv2.accumulateWeighted(cv2.boxFilter(noise, cv2.CV_32F, (15, 1)), strokes, 0.23)
    strokes = with_std(blur(strokes, 0.5, float(rng.uniform(0.6, 0.9))), float(rng.uniform(7, 10)))
    return strokes if lies else np.ascontiguousarray(strokes.T)


def _woven(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Plain weave: at each crossing either the warp or the weft lies above; threads differ a little."""
    pitch_px = float(rng.uniform(9, 15))
    odd_v, height_v, shade_v = _threads(rng, rows, pitch_px)
    odd_u, height_u, shade_u = _threads(rng, cols, pitch_px)
    warp = np.outer(0.55 + 0.45 * height_v, 38 * (height_u + shade_u))
    weft = np.outer(32 * (height_v + shade_v), 0.55 + 0.45 * height_u)
    cloth: Surface = np.where(odd_v[:, None] ^ odd_u[None, :], weft, warp)
    cloth += with_std(blur(white_noise(rng, rows, cols), 0.8, 0.8), 4.0)
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
        finer = white_noise(rng, rows // cell_px + 2, cols // cell_px + 2) * np.float32(std / 60)
        patches = finer + cv2.resize(patches, finer.shape[::-1], interpolation=cv2.INTER_CUBIC)
    surface: Surface = cv2.resize(patches, (cols, rows), interpolation=cv2.INTER_CUBIC)
    surface += with_std(blur(white_noise(rng, rows, cols), 1.0, 1.0), 5.0)
    return surface


def _turned(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """Faced on a lathe: rings about a centre beside the frame, fine ones over coarse ones."""
    side = min(rows, cols)
    far, turn = rng.uniform(0.6, 1.1) * side, rng.uniform(0, 2 * np.pi)
    y2 = (np.arange(rows, dtype=np.float32) - np.float32(rows / 2 + far * np.sin(turn))) ** 2
    x2 = (np.arange(cols, dtype=np.float32) - np.float32(cols / 2 + far * np.cos(turn))) ** 2
    radius_px = cv2.sqrt(np.add.outer(y2, x2))
    profile = white_noise(rng, 1, 2 * (rows + cols) + 2)
    rings = with_std(blur(profile, 1.6, 0.1), 8.0) + with_std(blur(profile, 7.0, 0.1), 6.0)
    surface: Surface = np.take(rings[0], (radius_px * np.float32(rng.uniform(0.7, 1.2))).astype(np.int32))
    surface += with_std(blur(white_noise(rng, rows, cols), 0.9, 0.9), 5.0)
    return surface


def _moire(rng: np.random.Generator, rows: int, cols: int) -> Surface:
    """The strength of waves that cross, each mirrored about one point: fine where they run apart, rings where they meet."""
    along_y, along_x = _waves(rng, rows, cols)
    field = along_y @ along_x
    strength = cv2.magnitude(np.ascontiguousarray(field.real), np.ascontiguousarray(field.imag))
    strength = with_std(strength, float(rng.uniform(25, 30)))
    strength += with_std(blur(white_noise(rng, rows, cols), 0.5, 0.5), 4.0)
    return strength


def _waves(rng: np.random.Generator, rows: int, cols: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """`WAVES` waves as factors (rows, waves) and (waves, cols), round ones and saddles, all mirrored about one point."""
    fine = float(np.exp(rng.uniform(*np.log((0.8, 2.4)))))
    chirp = rng.normal(0, 0.0055 * fine, WAVES)
    saddle = rng.choice((-1.0, 1.0), WAVES)
    along_y = _along(rng, rows, chirp * saddle, fine)
    return along_y, np.ascontiguousarray(_along(rng, cols, chirp, fine).T)


def _along(rng: np.random.Generator, length: int, chirp: NDArray[np.float64], fine: float) -> NDArray[np.complex64]:
    """The waves along one axis, (length, waves): phases that run ever faster from the mirror, strengths that swell."""
    waves = chirp.size
    far_px = np.abs(np.arange(length) - rng.uniform(0.3, 0.7) * length)[:, None]
    phase = chirp * rng.uniform(0.9, 1.1, waves) * far_px**2 + rng.uniform(0, 1.2, waves) * fine * far_px
    swell = 1 + 0.5 * np.cos(rng.uniform(0.004, 0.02, waves) * far_px + rng.uniform(0, 2 * np.pi, waves))
    along: NDArray[np.complex64] = (swell * np.exp(1j * (phase + rng.uniform(0, 2 * np.pi, waves)))).astype(np.complex64)
    return along


WAVES: Final = 11  # that cross in a moire

FAMILIES: Final = {
    "moire": Family(_moire, DARK),
    "grain": Family(_grain, BRIGHT),
    "brushed": Family(_brushed, BRIGHT),
    "woven": Family(_woven, BRIGHT),
    "mottled": Family(_mottled, BRIGHT),
    "turned": Family(_turned, BRIGHT),
}
