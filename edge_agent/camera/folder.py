"""Replays a folder of recorded images, sorted by name, each at its own size."""

from __future__ import annotations

import math
import os
from pathlib import Path

import imagesize
import numpy as np

from edge_agent.camera.base import Arrival, Exposure
from edge_agent.camera.pull import PullCamera
from edge_agent.camera_settings import FolderCamera as FolderSettings
from edge_agent.errors import CameraError, ConfigurationError, EndOfImages, remedy_of
from edge_agent.pictures import ENDINGS, read_gray
from edge_agent.records import Pixels


class FolderCamera(PullCamera):
    """Shows every image of a folder once, or again and again with `repeat`; with `preload` only the first that many, read at
    open. Colour is converted to gray once, on reading."""

    def __init__(self, settings: FolderSettings, folder: Path) -> None:
        self.folder = folder
        self._settings = settings
        self.files = list_images(folder)[: settings.preload or None]
        _require_one(self.files)
        super().__init__(settings.name, _largest(self.files), settings.rate_hz, settings.trigger)
        self._index = -1
        self._read: list[Pixels | None] = []  # None: a damaged file, FAULT when its turn comes

    def open(self) -> None:
        if self._settings.preload and not self._read:
            self._read = [_read_or_none(file) for file in self.files]

    def wait(self, timeout_s: float) -> Arrival | None:
        if not self._is_due and not self._settings.repeat and self._index + 1 >= len(self.files):
            raise EndOfImages(f"camera {self.name} has shown all {len(self.files)} images of {self.folder}")
        return super().wait(timeout_s)

    def _advance(self, part_id: str) -> str:
        self._index += 1
        return part_id or self.files[self._index % len(self.files)].name

    def _fill(self, _slot: int, memory: Pixels) -> Exposure:
        index = self._index % len(self.files)
        pixels = self._read[index] if self._read else None
        if pixels is None:
            pixels = read_gray(self.files[index])
        if pixels.size > memory.size:
            largest = f"the largest image of the folder had {memory.size} at the start"
            raise CameraError(
                f"{self.files[index]} has {pixels.size} pixels, {largest}. Start the station again, or put the image back."
            )
        np.copyto(memory[: pixels.size], pixels.ravel())
        rows, cols = pixels.shape
        return Exposure(rows, cols, self._index, self.files[index].name)


def list_images(folder: Path) -> list[Path]:
    """Return the folder's images, sorted by name. Raises ConfigurationError where there is none."""
    try:
        named = [file for file in folder.iterdir() if file.suffix.lower() in ENDINGS]
        files = sorted(file for file in named if not os.path.isdir(file))  # noqa: PTH112  # Path's fails on a link into what is closed
    except (FileNotFoundError, NotADirectoryError):
        fault = "is a file" if os.path.isfile(folder) else "does not exist"  # noqa: PTH113
        raise ConfigurationError.of(f"the image folder {folder} {fault}.", "name a folder with images.") from None
    except OSError as error:
        raise ConfigurationError.of(f"the image folder {folder} cannot be read: {error.strerror}.", remedy_of(error)) from None
    if not files:
        raise ConfigurationError.of(f"{folder} holds no image ({', '.join(sorted(ENDINGS))}).", "give a folder that does.")
    return files


def _require_one(files: list[Path]) -> None:
    """Raise ConfigurationError where no file at all can be opened; one that cannot is FAULT when its turn comes."""
    errors = (error for error in map(_closed, files))
    first = next(errors)
    if first is not None and all(errors):
        message = f"none of the {len(files)} images in {files[0].parent} can be read: {files[0].name}: {first.strerror}."
        raise ConfigurationError.of(message, remedy_of(first))


def _closed(file: Path) -> OSError | None:
    try:
        with open(file, "rb"):
            return None
    except OSError as error:
        return error


def _largest(files: list[Path]) -> int:
    """The pixels of the largest image. Headers say which that is, and only it is read; so is a file whose header says nothing.

    A damaged file counts nothing here, whatever its header says, and is FAULT when its turn comes."""
    claimed = {file: _claimed(file) for file in files}
    largest = 1
    for file in sorted(files, key=lambda file: claimed[file] or math.inf, reverse=True):
        if claimed[file] and claimed[file] <= largest:
            break
        pixels = _read_or_none(file)
        largest = max(largest, 0 if pixels is None else pixels.size)
    return largest


def _claimed(file: Path) -> int:
    """How many pixels an image's header says it has; 0 where it says nothing."""
    width, height = imagesize.get(file)  # -1 of what it cannot read, and raises nothing
    return max(0, int(width)) * max(0, int(height))


def _read_or_none(file: Path) -> Pixels | None:
    try:
        return read_gray(file)
    except CameraError:
        return None
