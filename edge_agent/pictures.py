"""Picture files: which are read, and as what gray levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.errors import CameraError
from edge_agent.records import Pixels

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".webp"}
_WORD = 16  # bits of a pixel whose upper eight are its gray level
_MOST_USED = 14  # bits that are told of: of a camera's 10, 12 or 14 in the lower end of a word; more would be a dark picture
_LOOKED_AT = 8


def read_gray(file: Path) -> Pixels:
    """Return an image as (rows, cols) uint8: colour as gray, of 16 bits the upper eight.

    Raises CameraError for a file that is no readable image."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CameraError(f"{file} cannot be read: {error.strerror}") from None
    if not content:
        raise CameraError(f"{file} is empty")
    image = _decoded(file, content, cv2.IMREAD_GRAYSCALE)
    if image is None:
        stored = _decoded(file, content, cv2.IMREAD_UNCHANGED)
        kind = f": its pixels are {stored.dtype}, where whole numbers of 8 or 16 bits are read" if stored is not None else ""
        raise CameraError(f"{file} is not a readable image{kind}")
    return np.asarray(image, np.uint8)


def _decoded(file: Path, content: bytes, how: int) -> npt.NDArray[np.generic] | None:
    try:  # not imread: it crashes on a file name that is no UTF-8
        return cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error as error:  # a header that promises more pixels than OpenCV allows
        raise CameraError(f"{file} is not a readable image: {str(error).strip()}") from None  # it ends with a line break


def unused_bits(files: Sequence[Path]) -> str:
    """A word on pictures that lie in the lower bits of 16, and are nearly black therefore; '' of others. Looks at a few of them."""
    step = max(1, len(files) // _LOOKED_AT)
    highest = 0
    for file in files[::step][:_LOOKED_AT]:
        try:
            stored = _decoded(file, file.read_bytes() or b"\0", cv2.IMREAD_UNCHANGED)
        except (OSError, CameraError):
            continue  # told where it is read
        if stored is None:
            continue
        if stored.dtype != np.uint16:
            return ""
        highest = max(highest, int(stored.max()))
    bits = max(8, highest.bit_length() + highest.bit_length() % 2)
    if not 0 < highest < 1 << _MOST_USED:
        return ""
    return (
        f"the pictures have 16 bits a pixel, of which the upper eight are its gray level, but use only the lower {bits} (the "
        f"highest value looked at is {highest}): they are nearly black. Multiply them by {1 << (_WORD - bits)}."
    )
