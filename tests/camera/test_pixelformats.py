"""Every pixel format to gray against its definition, bit by bit, odd numbers of pixels too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_agent.camera.pixelformats import converter

Gray = Callable[[bytes, int], int]  # the raw bytes and a pixel's number to its gray level


def lsb_packed(bits: int) -> Gray:
    """The whole picture is one number, its first pixel the lowest bits."""
    return lambda raw, pixel: int.from_bytes(raw, "little") >> (bits * pixel + bits - 8) & 255


def words(bits: int) -> Gray:
    return lambda raw, pixel: int.from_bytes(raw[2 * pixel : 2 * pixel + 2], "little") >> (bits - 8) & 255


def gige_packed(raw: bytes, pixel: int) -> int:
    return raw[pixel // 2 * 3 + 2 * (pixel % 2)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (7, 9), (8, 16), (31, 33)])
@pytest.mark.parametrize(
    ("name", "bits", "gray"),
    [
        ("Mono10p", 10, lsb_packed(10)),
        ("Mono12p", 12, lsb_packed(12)),
        ("Mono10", 16, words(10)),
        ("Mono12", 16, words(12)),
        ("Mono14", 16, words(14)),
        ("Mono16", 16, words(16)),
        ("Mono10Packed", 12, gige_packed),
        ("Mono12Packed", 12, gige_packed),
    ],
)
def test_a_picture_is_the_upper_eight_bits_of_each_pixel(shape: tuple[int, int], name: str, bits: int, gray: Gray) -> None:
    count, random = shape[0] * shape[1], np.random.default_rng(1)
    raw = random.integers(0, 256, -(-count * bits // 8), np.uint8)
    if name in ("Mono10", "Mono12", "Mono14"):  # the unused bits of a word are 0
        raw = (raw.view("<u2") & ((1 << int(name[4:])) - 1)).astype("<u2").view(np.uint8)
    convert, out = converter(name), np.full(shape, 7, np.uint8)
    assert convert is not None
    convert(raw, out)
    assert out.reshape(-1).tolist() == [gray(raw.tobytes(), pixel) for pixel in range(count)]
