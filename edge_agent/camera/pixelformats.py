"""From a camera's pixel format to 8 bit gray, once, on its thread. Names as in GenICam's Pixel Format Naming Convention."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from edge_agent.errors import CameraError
from edge_agent.records import Pixels

Convert = Callable[[Pixels, Pixels], None]  # raw bytes, (rows, cols) uint8 to fill

_BITS = {"Mono10": 10, "Mono12": 12, "Mono14": 14, "Mono16": 16}
_BAYER = {  # OpenCV names a pattern by the second row's second and third pixel
    "BayerRG8": cv2.COLOR_BayerBG2GRAY,
    "BayerGR8": cv2.COLOR_BayerGB2GRAY,
    "BayerGB8": cv2.COLOR_BayerGR2GRAY,
    "BayerBG8": cv2.COLOR_BayerRG2GRAY,
}
_COLOUR = {
    "RGB8": cv2.COLOR_RGB2GRAY,
    "RGB8Packed": cv2.COLOR_RGB2GRAY,
    "BGR8": cv2.COLOR_BGR2GRAY,
    "BGR8Packed": cv2.COLOR_BGR2GRAY,
}
_LSB_PACKED = {"Mono10p": 10, "Mono12p": 12}
_GIGE_PACKED = ("Mono10Packed", "Mono12Packed")
KNOWN = ("Mono8", *_BITS, *_GIGE_PACKED, *_LSB_PACKED, *_BAYER, *_COLOUR)


def converter(name: str) -> Convert | None:
    """How to make gray of the format; None for Mono8, which is. Raises CameraError for one that is not known."""
    if name == "Mono8":
        return None
    if name in _BITS:
        return _from_words(_BITS[name])
    if name in _GIGE_PACKED:
        return _from_gige_packed
    if name in _LSB_PACKED:
        return _from_lsb_packed(_LSB_PACKED[name])
    if name in _BAYER:
        return _from_colour(_BAYER[name], 1)
    if name in _COLOUR:
        return _from_colour(_COLOUR[name], 3)
    raise CameraError(f"pixel_format {name} is not known. Set one of {', '.join(KNOWN)}.")


def _from_words(bits: int) -> Convert:
    """Little-endian 16 bit words with `bits` of them used: the upper eight are the gray level."""

    def convert(raw: Pixels, out: Pixels) -> None:
        words = raw[: out.size * 2].view("<u2").reshape(out.shape)
        np.right_shift(words, bits - 8, out=out, casting="unsafe")

    return convert


def _from_gige_packed(raw: Pixels, out: Pixels) -> None:
    """Two pixels in three bytes, as GigE Vision 1 packs them: the first and the last byte are their upper eight bits. Of an odd
    number of pixels the last has two bytes."""
    flat = out.reshape(-1)
    flat[0::2] = raw[0::3][: (out.size + 1) // 2]
    flat[1::2] = raw[2::3][: out.size // 2]


def _from_lsb_packed(bits: int) -> Convert:
    """Pixels one after the other, least significant bit first. Where they lie in the bytes repeats (10p: four pixels in five bytes;
    12p: two in three), so that all pixels of one such place are taken together, as 8 bits."""
    pixels = 8 // math.gcd(8, bits)
    stride = pixels * bits // 8

    def convert(raw: Pixels, out: Pixels) -> None:
        flat = out.reshape(-1)
        for place in range(pixels):
            byte, shift = divmod(place * bits + bits - 8, 8)  # where the upper eight bits begin
            into = flat[place::pixels]
            np.right_shift(raw[byte::stride][: into.size], shift, out=into)
            if shift:
                into |= np.left_shift(raw[byte + 1 :: stride][: into.size], 8 - shift)

    return convert


def _from_colour(code: int, channels: int) -> Convert:
    def convert(raw: Pixels, out: Pixels) -> None:
        rows, cols = out.shape
        picture = raw[: out.size * channels].reshape((rows, cols, channels) if channels > 1 else (rows, cols))
        cv2.cvtColor(picture, code, dst=out)

    return convert
