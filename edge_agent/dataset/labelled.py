"""The nouns of a dataset, and one image read with its mask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_agent.errors import CameraError, ConfigurationError
from edge_agent.pictures import read_gray
from edge_agent.records import Pixels

MASK_ABOVE = 127  # a mask's pixel shows a defect where it is brighter than this


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image and what the data says of it.

    `kind` is the data's own word: a class of defects, or what a good part is called there. Images of one `group` show the same
    part; where the data tells no groups, each image is its own. `name` is unique in the dataset.
    """

    image: Path
    mask: Path | None
    kind: str
    group: str
    name: str
    is_defective: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a folder holds, in the order in which it tells it. `unlisted` counts images there that nothing is said of."""

    folder: Path
    layout: str
    images: tuple[Labelled, ...]
    unlisted: int = 0

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups, sorted."""
        return tuple(sorted({each.group for each in self.images}))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects, sorted, then those of good parts."""
        return tuple(name for _, name in sorted({(not each.is_defective, each.kind) for each in self.images}))

    def of_groups(self, groups: Collection[str]) -> Dataset:
        """The images of these groups."""
        return replace(self, images=tuple(each for each in self.images if each.group in groups))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A frame (rows, cols) uint8 and its mask of the same shape, gray as it is stored: a defect where above MASK_ABOVE.

    Without a mask's file the mask of a good part is empty, that of a defective one unknown: None. A defective part's mask may be
    empty, too: such labels occur.
    """

    frame: Pixels
    mask: Pixels | None


def load(labelled: Labelled) -> Loaded:
    """Read one image and its mask. Raises ConfigurationError for files that cannot be read or do not belong together."""
    frame = _gray(labelled.image)
    if labelled.mask is None:
        return Loaded(frame, None if labelled.is_defective else np.zeros_like(frame))
    mask = _gray(labelled.mask)
    if mask.shape != frame.shape:
        sizes = [f"{rows_cols[1]}x{rows_cols[0]}" for rows_cols in (mask.shape, frame.shape)]
        raise ConfigurationError(
            f"the mask {labelled.mask} has {sizes[0]} pixels, its image {sizes[1]}. Give one of the same size."
        )
    if not labelled.is_defective and (mask > MASK_ABOVE).any():
        raise ConfigurationError(
            f"the mask {labelled.mask} shows a defect (pixels above {MASK_ABOVE}), but {labelled.name} is labelled "
            f"{labelled.kind!r}. Mend the mask or the label."
        )
    return Loaded(frame, mask)


def _gray(file: Path) -> Pixels:
    try:
        return read_gray(file)
    except CameraError as error:
        raise ConfigurationError(f"{error}. Restore it, or take it out of the dataset.") from None
