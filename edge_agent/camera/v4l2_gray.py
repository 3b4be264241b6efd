"""From what a V4L2 driver puts into its buffer to gray, 8 bit, in the lent slot; one pass, no picture in between.

Of YUV formats the luma is taken as it is. Source of the layouts: the kernel's pixel format reference (V4L2, "Image Formats").
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.camera.delivery import BadFrame
from edge_agent.camera.jpeg import luma_of
from edge_agent.records import Pixels

_BYTES_PER_PIXEL = {"GREY": 1, "Y16": 2, "Y10": 2, "Y12": 2, "YUYV": 2, "UYVY": 2, "NV12": 1}
_LUMA_AT = {"YUYV": 0, "UYVY": 1}
_SHIFT = {"Y16": 8, "Y12": 4, "Y10": 2}  # little-endian words, padded with zero bits at the top
FORMATS = (*_BYTES_PER_PIXEL, "MJPG")


class Layout(msgspec.Struct, frozen=True):
    """How a frame lies in a buffer. `bytes_per_line` counts the padding; 0 is none."""

    pixel_format: str
    rows: int
    cols: int
    bytes_per_line: int = 0

    @property
    def stride(self) -> int:
        return self.bytes_per_line or self.cols * _BYTES_PER_PIXEL[self.pixel_format]

    @property
    def least_bytes(self) -> int:
        """Fewer cannot be a whole frame."""
        if self.pixel_format == "MJPG":
            return 4
        lines = self.rows * 3 // 2 if self.pixel_format == "NV12" else self.rows
        return self.stride * (lines - 1) + self.cols * _BYTES_PER_PIXEL[self.pixel_format]


def write_gray(layout: Layout, raw: Pixels, slot: Pixels) -> None:
    """Put the frame in `raw` (flat, what the driver says it used) into the flat slot. Raises BadFrame, the slot then being
    undefined."""
    if raw.size < layout.least_bytes:
        raise BadFrame(f"the frame has {raw.size} bytes, a {layout.pixel_format} one has at least {layout.least_bytes}")
    pixels = layout.rows * layout.cols
    if slot.size < pixels:
        raise BadFrame(f"the picture has {pixels} pixels, its slot takes {slot.size}; the camera was set anew meanwhile")
    gray = slot[:pixels].reshape(layout.rows, layout.cols)
    if layout.pixel_format == "MJPG":
        np.copyto(gray, _decoded(layout, raw))
    elif layout.pixel_format in _SHIFT:
        words: npt.NDArray[np.uint16] = np.ndarray(gray.shape, "<u2", raw.data, strides=(layout.stride, 2))
        np.right_shift(words, _SHIFT[layout.pixel_format], out=gray, casting="unsafe")
    else:
        step = _BYTES_PER_PIXEL[layout.pixel_format]
        offset = _LUMA_AT.get(layout.pixel_format, 0)
        np.copyto(gray, np.ndarray(gray.shape, np.uint8, raw.data, offset, strides=(layout.stride, step)))


def _decoded(layout: Layout, raw: Pixels) -> Pixels:
    image = luma_of(raw)
    if image.shape != (layout.rows, layout.cols):
        raise BadFrame(f"the JPEG is {image.shape[1]} x {image.shape[0]}, the camera is set to {layout.cols} x {layout.rows}")
    return image
