"""From frame to tensors and back: a region as it is, resized, or in overlapping tiles; maps stitched on one canvas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.recipe import Region
from edge_agent.records import Pixels


class RegionError(EdgeAgentError):
    """A recipe's region does not fit this picture; the part is FAULT bad_frame."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the frame in pixels."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, pixels: Pixels) -> Pixels:
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """How one region of a frame of one shape becomes tensors: `tiles` in frame pixels, the map's canvas, and its scale.

    `between` is memory to stretch in, for one thread at a time."""

    region: Region
    box: Box
    tiles: tuple[Box, ...]
    canvas_rows: int
    canvas_cols: int
    between: Pixels | None = field(default=None, compare=False, repr=False)

    @property
    def scale_x(self) -> float:
        """Frame pixels per map pixel."""
        return self.box.width / self.canvas_cols

    @property
    def scale_y(self) -> float:
        return self.box.height / self.canvas_rows

    def tensor(self, tile: int, pixels: Pixels, memory: Pixels) -> Pixels:
        """Return a C-contiguous (rows, cols) tensor of a tile: the frame itself where it fits as it is, else `memory`."""
        cut = self.tiles[tile].cut(pixels)
        if cut.shape == memory.shape:
            if cut.flags.c_contiguous:
                return cut
            np.copyto(memory, cut)
            return memory
        return stretch(cut, memory, self.between)

    def stitch(self, tile: int, maps: Pixels, canvas: Pixels) -> None:
        """Merge a tile's maps (classes, rows, cols) into the canvas; where tiles overlap the higher probability stays."""
        box = self.tiles[tile]
        top, left = box.y - self.box.y, box.x - self.box.x
        rows, cols = maps.shape[1:]
        target = canvas[:, top : top + rows, left : left + cols]
        np.maximum(target, maps[:, : target.shape[1], : target.shape[2]], out=target)


def stretch(pixels: Pixels, memory: Pixels, between: Pixels | None = None) -> Pixels:
    """Fill `memory` with the picture scaled to its shape, and return it; every pixel counts.

    OpenCV takes means only where neither side grows, and passes over pixels where one does: there the other side shrinks first,
    into `between`."""
    shrunk = _shrunk(pixels.shape[0], pixels.shape[1], *memory.shape)
    if shrunk not in (pixels.shape, memory.shape):
        pixels = cv2.resize(pixels, shrunk[::-1], dst=between, interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if shrunk == memory.shape else cv2.INTER_LINEAR
    cv2.resize(pixels, memory.shape[::-1], dst=memory, interpolation=how)
    return memory


def _shrunk(height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    return min(height, rows), min(width, cols)


def plan_region(region: Region, frame_rows: int, frame_cols: int, rows: int, cols: int) -> RegionPlan:
    """Lay out one region for frames of one shape and a network of (rows, cols). Raises RegionError where it does not fit."""
    width = frame_cols - region.x if region.width is None else region.width
    height = frame_rows - region.y if region.height is None else region.height
    box = Box(region.x, region.y, width, height)
    if width < 1 or height < 1 or region.x + width > frame_cols or region.y + height > frame_rows:
        raise RegionError(
            f"region {region.name} reaches to x {region.x + width}, y {region.y + height}, "
            f"but the frame has {frame_cols}x{frame_rows} pixels. Mend the recipe's region or the camera's size."
        )
    if region.prepare == "resize":
        return RegionPlan(region, box, (box,), rows, cols, np.empty(_shrunk(height, width, rows, cols), np.uint8))
    if region.prepare == "native":
        if (height, width) != (rows, cols):
            raise RegionError(
                f"region {region.name} is {width}x{height} pixels, the network takes {cols}x{rows}. "
                "Use prepare: resize or tile, or a region of that size."
            )
        return RegionPlan(region, box, (box,), rows, cols)
    return RegionPlan(region, box, tuple(_tiles(region, box, rows, cols)), height, width)


def least_tensors(regions: Iterable[Region], rows: int, cols: int) -> int:
    """How many tensors (rows, cols) a frame of any shape takes at least: what reaches to the frame's edge counts as one tile."""
    return sum(_least_tiles(region, rows, cols) for region in regions)


def _least_tiles(region: Region, rows: int, cols: int) -> int:
    if region.prepare != "tile":
        return 1
    sides = ((region.height or rows, rows), (region.width or cols, cols))
    return math.prod(len(starts(length, tile, region.overlap_px)) for length, tile in sides)


def _tiles(region: Region, box: Box, rows: int, cols: int) -> list[Box]:
    if box.width < cols or box.height < rows:
        raise RegionError(
            f"region {region.name} is {box.width}x{box.height} pixels, smaller than one tile of {cols}x{rows}. Use prepare: resize."
        )
    return [
        Box(box.x + x, box.y + y, cols, rows)
        for y in starts(box.height, rows, region.overlap_px)
        for x in starts(box.width, cols, region.overlap_px)
    ]


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin so that they cover `length`, evenly, each sharing at least `overlap` with the next."""
    overlap = min(overlap, tile - 1)
    count = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    return [0] if count == 1 else [round(i * (length - tile) / (count - 1)) for i in range(count)]
