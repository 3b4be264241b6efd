"""Examples to train and to judge a network on: drawn parts, or a folder that edge_agent/dataset reads; whole groups held out.

Images keep their own size: `fit` stretches one to the network's rows and cols, as the recipe's `prepare: resize` does.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from options import source_of
from unet import Shape

from edge_agent.dataset import MASK_ABOVE, Dataset, Labelled, load, read_dataset
from edge_agent.dataset.layouts import GOOD_KINDS
from edge_agent.inference.prepare import stretch
from edge_agent.pictures import unused_bits

Gray = NDArray[np.uint8]
_HASH_DIGITS = 12
LEAST_MASK_PX = 4  # of a mask, as taken: fewer are a slip of the labeller's pen, and such a frame is not trained on
Pair = tuple[Gray, Gray]  # a frame and its mask: 0 background, k the k-th defect class


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs of frame and mask, each (rows, cols) uint8 of its own size.

    `kinds` are what the data calls each, whether or not the network tells it apart; `groups`, which part it shows; `hashes`, the
    beginning of each image file's SHA-256, of drawn parts none.
    """

    pairs: tuple[Pair, ...]
    kinds: NDArray[np.str_]
    is_defective: NDArray[np.bool_]
    groups: tuple[str, ...]
    hashes: tuple[str, ...] = ()

    def chances(self) -> NDArray[np.float64]:
        """How often to draw each frame, summing to 1: half of the draws good, the others by the root of each kind's frames."""
        group = np.where(self.is_defective, self.kinds, "")
        names, member, sizes = np.unique(group, return_inverse=True, return_counts=True)
        roots = max(1.0, np.sqrt(sizes[names != ""]).sum())
        chance = np.where(self.is_defective, np.sqrt(sizes[member]) / roots, 1.0) / sizes[member]
        return np.asarray(chance / chance.sum())

    def fitted(self, rows: int, cols: int) -> Examples:
        """The same, each stretched to rows x cols."""
        return replace(self, pairs=tuple(fit(pair, rows, cols) for pair in self.pairs))

    def with_masks(self) -> Examples:
        """Without the defective frames whose mask is empty, or nearly: to learn from, they would be good ones."""
        marked_px = (np.count_nonzero(mask) for _, mask in self.pairs)
        stays = np.array([not bad or px >= LEAST_MASK_PX for px, bad in zip(marked_px, self.is_defective, strict=True)], bool)
        pairs, groups = tuple(compress(self.pairs, stays)), tuple(compress(self.groups, stays))
        hashes = tuple(compress(self.hashes, stays))
        return Examples(pairs, self.kinds[stays], self.is_defective[stays], groups, hashes)


@dataclass(frozen=True, slots=True)
class Split:
    """What to train on, what to validate on, and how that came about. Without anything held out `val` is empty."""

    train: Examples
    val: Examples
    words: str


def fit(pair: Pair, rows: int, cols: int) -> Pair:
    """The pair stretched to rows x cols, as the station does it."""
    frame, mask = pair
    if frame.shape == (rows, cols):
        return pair
    stretched = stretch(frame, np.empty((rows, cols), np.uint8))
    return stretched, np.asarray(cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def draw_examples(seed: int, first: int, count: int, rows: int, cols: int, defect_share: float = 0.5) -> Examples:
    """Parts first .. first + count - 1 of the generator's series `seed`; a few are empty belts."""
    from edge_agent.camera.texture import draw_part, label_of

    parts = [draw_part(seed, first + slot, rows, cols, defect_share=defect_share) for slot in range(count)]
    pairs = tuple((part.pixels, label_of(part.truth, rows, cols).astype(np.uint8)) for part in parts)
    is_defective = np.array([part.truth.ellipse is not None for part in parts], bool)
    kinds = np.where(is_defective, "defect", "good")
    return Examples(pairs, kinds, is_defective, tuple(str(first + slot) for slot in range(count)))


def read_examples(images: Sequence[Labelled], shape: Shape) -> Examples:
    """Every image with its mask. Raises ConfigurationError for a file that cannot be read."""
    pairs = tuple(_read(each, shape) for each in images)
    kinds, is_defective = np.array([each.kind for each in images]), np.array([each.is_defective for each in images], bool)
    hashes = tuple(hashlib.sha256(each.image.read_bytes()).hexdigest()[:_HASH_DIGITS] for each in images)
    return Examples(pairs, kinds, is_defective, tuple(each.group for each in images), hashes)


def _read(each: Labelled, shape: Shape) -> Pair:
    loaded = load(each)
    if loaded.mask is None:
        what = f"{each.name}, of the class {each.kind}, is defective and has no mask, so that there is nothing to learn from it"
        raise SystemExit(f"{what}. Draw one; the class of a good part is one of {', '.join(sorted(GOOD_KINDS))}.")
    return loaded.frame, ((loaded.mask > MASK_ABOVE) * class_of(each.kind, shape)).astype(np.uint8)


def class_of(kind: str, shape: Shape) -> int:
    """Which class a mask's defect pixels are: 1 where there is but one. Capitals make no difference, as in a recipe."""
    classes = [name.casefold() for name in shape.classes]
    return 1 if len(classes) == 1 else classes.index(kind.casefold()) + 1 if kind.casefold() in classes else 0


def asked_for(dataset: Dataset, shape: Shape) -> Dataset:
    """Without the defective images of kinds that are no class: taught as good, they would be slips.

    Raises SystemExit for a class that no image has. With one class, every kind of defect is of it.
    """
    if len(shape.classes) == 1:
        return dataset
    there = sorted({each.kind for each in dataset.images if each.is_defective})
    absent = [name for name in shape.classes if name.casefold() not in {kind.casefold() for kind in there}]
    if absent:
        raise SystemExit(f"--classes {','.join(absent)}: no image shows one; the data's are {', '.join(there)}")
    stays = tuple(each for each in dataset.images if not each.is_defective or class_of(each.kind, shape))
    return replace(dataset, images=stays)


def folds_of(dataset: Dataset, folds: int, seed: int) -> dict[str, int]:
    """Which fold each group is in: every kind's groups are dealt out in turn, the rarest kind first."""
    of_kind: dict[str, set[str]] = {}
    for each in dataset.images:
        of_kind.setdefault(each.kind, set()).add(each.group)
    fold_of: dict[str, int] = {}
    for kind in sorted(of_kind, key=lambda kind: (len(of_kind[kind]), kind)):
        groups = sorted(of_kind[kind])
        random.Random(seed).shuffle(groups)
        here = [sum(fold_of.get(group) == fold for group in groups) for fold in range(folds)]
        for group in groups:
            if group not in fold_of:
                fold = min(range(folds), key=lambda fold: (here[fold], sum(taken == fold for taken in fold_of.values())))
                fold_of[group] = fold
                here[fold] += 1
    return fold_of


def load_split(data: str, count: int, val: int, folds: int, fold: int, seed: int, shape: Shape, rows: int, cols: int) -> Split:
    """Examples of generator:SEED (`count` to train on, `val` to validate on) or folder:DIR (fold `fold` of `folds` held out).

    What is held out must show both good parts and defective ones, or nothing could be said of it.
    """
    source = source_of("--data", data)
    if isinstance(source, int):
        words = f"parts 0..{count - 1} to train on, {count}..{count + val - 1} to validate, half with a defect"
        train, held = (draw_examples(source, first, each, rows, cols) for first, each in ((0, count), (count, val)))
    else:
        train, held, words = _read_split(source, folds, fold, seed, shape)
    if len(held.pairs):
        require_both(held, f"the {len(held.pairs)} frames held out", "Hold out more, or nothing.")
    learnt = train.with_masks()
    lost = len(train.pairs) - len(learnt.pairs)
    if len(learnt.pairs) and learnt.is_defective.all():
        words += "; WITHOUT a good part to train on: what those look like is learnt from around the defects alone. Give some"
    return Split(learnt, held, words + f"; {lost} defective with next to nothing in the mask not trained on" * bool(lost))


def require_both(examples: Examples, them: str, remedy: str) -> None:
    """Raises SystemExit for frames, called `them`, that are not both good and defective: they have no AUC."""
    found = set(examples.is_defective.tolist())
    if len(found) < 2:
        only = "defective" if True in found else "good"
        raise SystemExit(f"{them} are all {only}: they judge nothing. {remedy}")


def require_every_class(examples: Examples, classes: tuple[str, ...], drawn: Set[int]) -> None:
    """Raises SystemExit for a class that no mask shows and that is not drawn: what has never been seen is not found."""
    shown = set(drawn).union(*(np.unique(mask).tolist() for _, mask in examples.pairs))
    absent = [name for label, name in enumerate(classes, start=1) if label not in shown]
    if absent:
        raise SystemExit(
            f"--classes {','.join(absent)}: no mask trained on shows it. Label more images, hold others out (--fold, --split-seed) "
            "or draw it (--draw SHARE --flaws CLASS=FLAW)."
        )


def _read_split(folder: Path, folds: int, fold: int, seed: int, shape: Shape) -> tuple[Examples, Examples, str]:
    """What is not held out of a folder, what is, and how that came about."""
    whole = read_dataset(folder)
    dataset = asked_for(whole, shape)
    if folds > (groups := len({each.group for each in dataset.images})):
        raise SystemExit(
            f"--folds {folds}: {folder} has {groups} groups, so that some fold would hold out nothing. Take fewer, or 0."
        )
    fold_of = folds_of(dataset, folds, seed) if folds else {}
    images = [[each for each in dataset.images if (fold_of.get(each.group) == fold) is held] for held in (False, True)]
    words = f"by group, fold {fold} of {folds} held out, seed {seed}" if folds else "every image"
    words = f"{words}: {len(images[0])} to train on, {len(images[1])} to validate"
    if len(dataset.images) < len(whole.images):
        left_out = sorted({each.kind for each in whole.images} - {each.kind for each in dataset.images})
        words += f"; {len(whole.images) - len(dataset.images)} images of {', '.join(left_out)} left out, no classes of it"
    kinds = sorted({each.kind for each in dataset.images if each.is_defective})
    if len(shape.classes) == 1 and [kind.casefold() for kind in kinds] != [shape.classes[0].casefold()]:
        words += f"; every defect taught as {shape.classes[0]}: {', '.join(kinds)}"
    if dark := unused_bits([each.image for each in dataset.images]):
        words += f"; {dark.rstrip('.')}"
    train, held = (read_examples(each, shape) for each in images)
    return train, held, words
