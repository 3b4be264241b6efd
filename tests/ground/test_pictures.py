"""Which pictures are read, as what gray levels, and when they lie in the lower bits of 16."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import CameraError
from edge_agent.pictures import read_gray, unused_bits

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def pictures(folder: Path, highest: int, dtype: type, count: int = 3, ending: str = "png") -> list[Path]:
    """Pictures of which the last one alone has the highest value."""
    files = [folder / f"{number}.{ending}" for number in range(count)]
    for number, file in enumerate(files):
        assert cv2.imwrite(str(file), (RAMP * (highest if number == count - 1 else highest // 2)).astype(dtype))
    return files


@pytest.mark.parametrize(
    ("highest", "told"), [(1023, "lower 10 (the highest"), (4095, "by 16."), (16383, "by 4."), (200, "by 256.")]
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_pictures_in_the_lower_bits_of_16_are_told_with_the_factor(tmp_path: Path, highest: int, told: str, ending: str) -> None:
    said = unused_bits(pictures(tmp_path, highest, np.uint16, ending=ending))
    assert told in said
    assert f"looked at is {highest})" in said


@pytest.mark.parametrize(("highest", "dtype"), [(65535, np.uint16), (16384, np.uint16), (0, np.uint16), (20, np.uint8)])
def test_others_are_not(tmp_path: Path, highest: int, dtype: type) -> None:
    assert unused_bits(pictures(tmp_path, highest, dtype)) == ""


def test_of_many_the_look_is_spread_and_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    files = pictures(tmp_path, 4095, np.uint16, 17)
    files[0].write_bytes(b"")
    files[2].unlink()
    assert "lower 12" in unused_bits(files)
    assert unused_bits([]) == ""


def test_what_the_factor_makes_is_read_over_the_whole_range(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 4095, np.uint16, 1)
    assert read_gray(file).max() == 4095 // 256
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED) * 16)
    assert read_gray(file).max() == 255
    assert unused_bits([file]) == ""


def test_pixels_of_another_kind_are_named(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 100, np.float32, 1, "tif")
    with pytest.raises(CameraError, match=r"0.tif is not a readable image: its pixels are float32, where whole numbers of 8 or 16"):
        read_gray(file)


def test_a_header_that_promises_too_much_is_told_in_one_line(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 100, np.uint8, 1)
    content = bytearray(file.read_bytes())
    content[16:24] = struct.pack(">II", 70_000, 70_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    file.write_bytes(content)
    with pytest.raises(CameraError, match=r"0\.png is not a readable image: ") as refused:
        read_gray(file)
    assert "PIXELS" in str(refused.value)
    assert "\n" not in str(refused.value)
