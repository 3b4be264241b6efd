"""The images of a calibration: read as the line reads them, cut and scaled as the line does, and their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge_agent.camera.folder import list_images
from edge_agent.commands.output import listed
from edge_agent.dataset import MASK_ABOVE, NoDataset, load, read_dataset
from edge_agent.errors import CameraError, ConfigurationError
from edge_agent.inference.prepare import RegionError, plan_region
from edge_agent.judgement.quality import QualityGate
from edge_agent.pictures import read_gray
from edge_agent.recipe import Recipe
from edge_agent.records import Pixels
from edge_agent.typewords import counted

T = TypeVar("T")
_DIGITS = 16  # of a content's SHA-256: enough to tell images apart
_REASONS = 3  # told of, where images are left out for many


@dataclass(frozen=True, slots=True)
class Golden:
    """One image; `is_defective` is None without a label, `defect_px` None without a mask."""

    file: Path
    name: str
    is_defective: bool | None = None
    defect_px: float | None = None


def read_golden(folder: Path) -> list[Golden]:
    """The images of a labelled dataset, or those that lie in a folder, without labels. Raises ConfigurationError."""
    try:
        dataset = read_dataset(folder)
    except NoDataset:
        return [Golden(file, file.name) for file in list_images(folder)]
    return [
        Golden(each.image, each.name, each.is_defective, _defect_px(load(each).mask) if each.is_defective else None)
        for each in dataset.images
    ]


def _defect_px(mask: Pixels | None) -> float | None:
    return None if mask is None else float(np.count_nonzero(mask > MASK_ABOVE)) or None


def spread(images: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced: the same ones each time."""
    if len(images) <= most:
        return list(images)
    return [images[round(place * (len(images) - 1) / max(1, most - 1))] for place in range(most)]


@dataclass(frozen=True, slots=True)
class Seen:
    """An image with the tensors (rows, cols) uint8 that the line would give the network; or none, and why."""

    image: Golden
    frames: list[Pixels]
    why: str = ""


def tensors(images: Sequence[Golden], recipe: Recipe, rows: int, cols: int) -> Iterator[Seen]:
    """Yield what the network would see of each image: nothing where the picture shows no part, or cannot be judged."""
    gate = QualityGate(recipe.quality, recipe.presence)
    for image in images:
        try:
            frame = read_gray(image.file)
            plans = [plan_region(region, frame.shape[0], frame.shape[1], rows, cols) for region in recipe.regions]
        except (CameraError, RegionError) as error:
            yield Seen(image, [], str(error).replace(str(image.file), "it"))
            continue
        found, fault = gate.look(plans[0].box.cut(frame), False)
        if fault:
            yield Seen(image, [], f"{fault} by {', '.join(each.rule for each in found if not each.ok)}")
            continue
        cut = [(plan, tile) for plan in plans for tile in range(len(plan.tiles))]
        yield Seen(image, [plan.tensor(tile, frame, np.empty((rows, cols), np.uint8)).copy() for plan, tile in cut])


def require_some(looked: Sequence[Seen], what: str) -> None:
    """Raise ConfigurationError where the network would see nothing of any image."""
    if not any(seen.frames for seen in looked):
        told_of = f"none of the {len(looked)} {what} can be judged by the recipe: {unseen(looked)}"
        raise ConfigurationError(f"{told_of} Give images of parts, or mend the recipe.")


def unseen(all_seen: Sequence[Seen]) -> str:
    """The images of which the network would see nothing, by the reason; '' where it sees some of each."""
    names: dict[str, list[str]] = {}
    for seen in all_seen:
        if not seen.frames:
            names.setdefault(seen.why, []).append(seen.image.name)
    more = len(names) - _REASONS
    told = " ".join(f"{listed(of)} ({why.rstrip('.')})." for why, of in list(names.items())[:_REASONS])
    return told + f" And {counted(more, 'reason')} more." * (more > 0)


def contents(images: Sequence[Golden]) -> list[str]:
    """By which each image is known wherever it lies and whatever it is called."""
    return [hashlib.sha256(image.file.read_bytes()).hexdigest()[:_DIGITS] for image in images]


def fingerprint(images: Sequence[Golden]) -> str:
    """SHA-256 over the names and contents of the images, in their order."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.name.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(hashlib.sha256(image.file.read_bytes()).digest())
    return digest.hexdigest()
