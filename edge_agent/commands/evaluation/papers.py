"""What a model's papers say of its training, and which images of a dataset that concerns.

An image is known by the content of its file where the papers list that; else by its name in the training's own folder, however
deep or shallow the folder is that is judged now. A name alone proves nothing in another folder: plain numbers are what every set
calls its groups.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edge_agent.dataset import Dataset, Labelled
from edge_agent.inference.model import ModelPapers
from edge_agent.pictures import ENDINGS

_IN_WORDS = re.compile(r"of the groups ([^;]+)$")
_NO_NAMES = {"", "Train", "Test", "images"}  # folders of these names are in every dataset


@dataclass(frozen=True, slots=True)
class Papers:
    """What model.yaml says of the training; None where it says nothing. A group may be an image by itself.

    `data` is the name of the folder, '' for drawn parts; `hashes` are the beginnings of the SHA-256 of the images' files.
    """

    data: str
    held_out: frozenset[str] | None
    trained_on: frozenset[str] | None
    hashes: frozenset[str] | None

    def is_of(self, dataset: Dataset) -> bool:
        """The dataset has the name of the training's."""
        return self.data not in _NO_NAMES and self.data == dataset.folder.resolve().name

    def has_image(self, file: Path) -> bool:
        """The papers list the content of this file."""
        if not self.hashes:
            return False
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return any(digest[:length] in self.hashes for length in {len(each) for each in self.hashes})


@dataclass(frozen=True, slots=True)
class Match:
    """Groups of a dataset that are among the papers' names: `surely`, or `alike`, by their name only."""

    surely: frozenset[str]
    alike: frozenset[str]


def read_papers(papers: ModelPapers) -> Papers:
    """Read `training`: `held_out`, `trained_on` and `trained_on_sha256`, or groups held out in the words of `split`."""
    training = papers.training
    held_out = _names(training.get("held_out"))
    if held_out is None and (words := _IN_WORDS.search(str(training.get("split", "")))):
        held_out = frozenset(name.strip() for name in words[1].split(","))
    kind, _, where = str(training.get("data", "")).rpartition(":")
    data = Path(where).name if kind in ("", "folder") else ""
    return Papers(data, held_out, _names(training.get("trained_on")), _names(training.get("trained_on_sha256")))


def _names(value: object) -> frozenset[str] | None:
    return frozenset(map(str, value)) if isinstance(value, list) else None


def match(dataset: Dataset, names: Collection[str], papers: Papers) -> Match:
    """Return which groups of these images the papers name by `names`."""
    wanted = frozenset(names)
    surely = {each.group for each in dataset.images if wanted & names_in_training(each, dataset, papers)}
    alike = {each.group for each in dataset.images if _is_alike(each, wanted)}
    return Match(frozenset(surely), frozenset(alike - surely))


def _is_alike(labelled: Labelled, names: frozenset[str]) -> bool:
    """The group is called so, or the file's path ends so; or, of a file in neither half of DAGM's, its own name is the same."""
    inner = labelled.image.resolve().parts[1:]
    if labelled.group in names or any("/".join(inner[n:]) in names for n in range(len(inner))):
        return True
    is_in_half = inner[-2:-1] in (("Train",), ("Test",))
    return not is_in_half and labelled.image.name in {Path(name).name for name in names if is_image(name)}


def names_in_training(labelled: Labelled, dataset: Dataset, papers: Papers) -> set[str]:
    """What the training called this image, if it lies in the training's folder: its group, and its path in there."""
    if papers.data in _NO_NAMES:
        return set()
    found = {labelled.group} if papers.is_of(dataset) else set()
    for file in (labelled.image.absolute(), labelled.image.resolve()):
        inner = ["/".join(file.parts[n + 1 :]) for n, name in enumerate(file.parts[:-1]) if name == papers.data]
        found |= {*inner, *(name.removeprefix("images/") for name in inner)}
    return found


def is_image(name: str) -> bool:
    """The name is a file's: then the group is an image by itself."""
    return Path(name).suffix.lower() in ENDINGS
