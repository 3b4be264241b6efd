"""What the camera sees, as gray bytes, and how they become one of its pixel formats.

A picture is a callable of (sequence, rows, cols) that returns rows * cols gray bytes; the sequence number counts exposures from 1.
Pixel formats and their layout: GenICam PFNC 2.4; Mono12Packed as in GigE Vision 1.2, section 25.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge_agent.records import Pixels

Pictures = Callable[[int, int, int], "Pixels | bytes | bytearray | memoryview"]

PIXEL_FORMATS = {
    "Mono8": 0x0108_0001,
    "Mono10": 0x0110_0003,
    "Mono12": 0x0110_0005,
    "Mono16": 0x0110_0007,
    "Mono12Packed": 0x010C_0006,
    "BayerRG8": 0x0108_0009,
    "RGB8": 0x0218_0014,
}
_NAMES = {code: name for name, code in PIXEL_FORMATS.items()}
STAMP_PIXELS = 8
_VARIANTS = 8191  # prime, so that the same noise comes back only after so many pictures


class Texture:
    """Noise, as of a rough surface, another for each sequence number. Costs next to nothing: one sheet, seen through a window."""

    def __init__(self) -> None:
        self._sheet: Pixels = np.zeros(0, np.uint8)

    def __call__(self, sequence: int, rows: int, cols: int) -> Pixels:
        if self._sheet.size < rows * cols + _VARIANTS:
            self._sheet = np.random.default_rng(1).integers(60, 196, rows * cols + _VARIANTS, np.uint8)
        start = sequence * 4099 % _VARIANTS
        return self._sheet[start : start + rows * cols].reshape(rows, cols)


def stamp(pixels: Pixels, sequence: int) -> Pixels:
    """Return a copy whose first 8 pixels are the sequence number, big-endian."""
    stamped = np.array(pixels)
    stamped.ravel()[:STAMP_PIXELS] = np.frombuffer(struct.pack(">Q", sequence), np.uint8)
    return stamped


def read_sequence(pixels: Pixels) -> int:
    """Return the sequence number in a gray 8-bit picture's first 8 pixels."""
    return int.from_bytes(pixels.ravel()[:STAMP_PIXELS].tobytes(), "big")


def bytes_of(pixels: int, pixel_format: int) -> int:
    """Return how many bytes so many pixels take; the format's code tells the bits of one."""
    return (pixels * (pixel_format >> 16 & 0xFF) + 7) // 8


def encode(pixels: Pixels, pixel_format: int) -> Pixels:
    """Return gray bytes as a flat uint8 array in the pixel format; white stays white. 8-bit formats are not copied."""
    gray = np.ascontiguousarray(pixels).ravel()
    name = _NAMES[pixel_format]
    if name in ("Mono8", "BayerRG8"):
        return gray
    if name == "RGB8":
        return np.repeat(gray, 3)
    wide: npt.NDArray[np.integer] = gray.astype("<u2")
    if name == "Mono10":
        wide = wide << 2 | wide >> 6
    elif name in ("Mono12", "Mono12Packed"):
        wide = wide << 4 | wide >> 4
    else:
        wide = wide << 8 | wide
    return _packed(wide) if name == "Mono12Packed" else wide.view(np.uint8)


def _packed(wide: npt.NDArray[np.integer]) -> Pixels:
    """Two 12-bit pixels in three bytes: the high bits of the first, the low bits of both, the high bits of the second."""
    even, odd = wide[0::2], np.zeros((wide.size + 1) // 2, np.uint16)
    odd[: wide.size // 2] = wide[1::2]
    packed = np.stack([even >> 4, (odd & 0xF) << 4 | even & 0xF, odd >> 4], axis=1)
    return packed.astype(np.uint8).ravel()[: bytes_of(wide.size, PIXEL_FORMATS["Mono12Packed"])]
