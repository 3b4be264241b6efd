"""A camera's JPEG to gray. Its end is looked for, because decoders fill up a torn one with gray and say nothing."""

from __future__ import annotations

import cv2
import numpy as np

from edge_agent.camera.delivery import BadFrame
from edge_agent.records import Pixels


def luma_of(raw: Pixels) -> Pixels:
    """The luma (rows, cols) of the JPEG in `raw` (flat). Raises BadFrame where it is not whole."""
    if bytes(raw[:2]) != b"\xff\xd8" or not _has_end(raw):
        raise BadFrame(f"the JPEG of {raw.size} bytes has no beginning or no end")
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFrame(f"the JPEG cannot be read: {error}") from None
    if image is None:
        raise BadFrame(f"the JPEG of {raw.size} bytes cannot be read")
    return np.asarray(image, np.uint8)


def _has_end(raw: Pixels) -> bool:
    """Whether the end mark is there; cameras pad after it, usually with zeros, and a server may end the line."""
    return bytes(raw[-2:]) == b"\xff\xd9" or bytes(raw[-65536:]).rstrip(b"\0\r\n").endswith(b"\xff\xd9")
