"""Examples to train and to judge a network on: drawn parts, or images and masks from a folder; and how they are augmented.

A folder holds index.csv (columns image, mask, class, group), images/ and masks/ (defect where > 127). Images of one group
show the same part and stay on the same side of the split. Every image is stretched to rows x cols.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from unet import Shape

Row = dict[str, str]  # one line of index.csv
Gray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Examples:
    """Frames (n, rows, cols) uint8 and their masks (n, rows, cols) uint8: 0 background, k the k-th defect class.

    `kinds` (n,) are what the data calls each frame: index.csv's class, whether or not the network tells it apart.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    kinds: NDArray[np.str_]

    @property
    def is_defective(self) -> NDArray[np.bool_]:
        """One bool per frame: does its mask hold a defect pixel?"""
        return np.asarray(self.masks.any(axis=(1, 2)))

    def chances(self) -> NDArray[np.float64]:
        """How often to draw each frame, summing to 1: half of the draws good, the others by the root of each kind's frames."""
        is_bad = self.is_defective
        group = np.where(is_bad, self.kinds, "")
        names, member, sizes = np.unique(group, return_inverse=True, return_counts=True)
        chance = np.where(is_bad, np.sqrt(sizes[member]) / max(1.0, np.sqrt(sizes[names != ""]).sum()), 1.0) / sizes[member]
        return np.asarray(chance / chance.sum())


def draw_examples(seed: int, first: int, count: int, rows: int, cols: int, defect_share: float = 0.5) -> Examples:
    """Parts first .. first + count - 1 of the generator's series `seed`; a few are empty belts."""
    from edge_agent.camera.texture import draw_part, label_of

    frames, masks = np.zeros((2, count, rows, cols), np.uint8)
    for slot in range(count):
        part = draw_part(seed, first + slot, rows, cols, defect_share=defect_share)
        frames[slot], masks[slot] = part.pixels, label_of(part.truth, rows, cols)
    return Examples(frames, masks, np.where(masks.any(axis=(1, 2)), "defect", "good"))


def read_rows(folder: Path, index: list[Row], shape: Shape, rows: int, cols: int) -> Examples:
    """The images and masks that the index rows name, stretched to rows x cols."""
    frames, masks = np.zeros((2, len(index), rows, cols), np.uint8)
    for slot, row in enumerate(index):
        frame, mask = (cv2.imread(str(folder / f"{kind}s" / row[kind]), cv2.IMREAD_GRAYSCALE) for kind in ("image", "mask"))
        if frame is None or mask is None:
            raise SystemExit(f"{folder}: cannot read image {row['image']} or mask {row['mask']}; check index.csv")
        frames[slot] = cv2.resize(frame, (cols, rows), interpolation=cv2.INTER_AREA)
        masks[slot] = (cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_AREA) > 127) * class_of(row, shape)
    return Examples(frames, masks, np.array([row["class"] for row in index]))


def class_of(row: Row, shape: Shape) -> int:
    """Which class a mask's defect pixels are: 1 where there is but one, 0 (background) where the class is not asked for."""
    if len(shape.classes) == 1:
        return 1
    return shape.classes.index(row["class"]) + 1 if row["class"] in shape.classes else 0


def read_index(folder: Path) -> list[Row]:
    """The lines of index.csv."""
    with (folder / "index.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def read_folder(folder: Path, shape: Shape, rows: int, cols: int) -> Examples:
    """Every image that index.csv names."""
    return read_rows(folder, read_index(folder), shape, rows, cols)


def split_by_group(index: list[Row], held_out: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Index rows to train on and to validate on: whole groups, about `held_out` images, the same share of every class."""
    of_group: dict[str, list[Row]] = {}
    for row in index:
        of_group.setdefault(row["group"], []).append(row)
    groups = sorted(of_group)
    random.Random(seed).shuffle(groups)
    train: list[Row] = []
    val: list[Row] = []
    for name in sorted({rows[0]["class"] for rows in of_group.values()}):
        same = [of_group[g] for g in groups if of_group[g][0]["class"] == name]
        wanted, taken = held_out * sum(map(len, same)) / len(index), 0
        for rows in same:
            (val if taken < wanted else train).extend(rows)
            taken += len(rows)
    return train, val


def load_examples(
    data: str, count: int, held_out: int, rows: int, cols: int, shape: Shape, split_seed: int
) -> tuple[Examples, Examples, str]:
    """Training examples, validation examples, and the split in words. `count` 0 takes every image of a folder."""
    kind, _, where = data.partition(":")
    if kind == "generator":
        seed = int(where)
        words = f"parts 0..{count - 1} to train on, {count}..{count + held_out - 1} to validate, half with a defect"
        return draw_examples(seed, 0, count, rows, cols), draw_examples(seed, count, held_out, rows, cols), words
    if kind != "folder":
        raise SystemExit(f"--data {data}: say generator:SEED or folder:DIR")
    train, val = split_by_group(read_index(Path(where)), held_out, split_seed)
    train = random.Random(split_seed).sample(train, min(count, len(train))) if count else train
    held = ", ".join(sorted({row["group"] for row in val}))
    words = f"by group, seed {split_seed}: {len(train)} images to train on, {len(val)} to validate, of the groups {held}"
    return read_rows(Path(where), train, shape, rows, cols), read_rows(Path(where), val, shape, rows, cols), words


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a training example may differ from its picture: exposure gain 1 +- gain, offset in gray levels, crop in pixels.

    With a crop (0: whole frames) an example is a square of that side, which holds defect pixels where the frame has any.
    """

    gain: float = 0.15
    offset: float = 12.0
    crop_px: int = 0
    stretch: float = 0.0  # rows and cols, each on its own, 1 +- this; not below the crop
    paste_share: float = 0.0  # of the good frames get the defect of another of the batch, or the background would tell
    keeps_grain: bool = False  # half turns only: grinding marks that always run one way may say what is a defect


def crop(frame: Gray, mask: Gray, rng: np.random.Generator, side_px: int) -> tuple[Gray, Gray]:
    """The same random square of frame and mask; around some defect pixel, though rarely in the middle, where there is one."""
    rows, cols = np.nonzero(mask)
    limits = [max(0, length - side_px) for length in mask.shape]
    corner = [int(rng.integers(limit + 1)) for limit in limits]
    if rows.size:
        seen = int(rng.integers(rows.size))
        place = (int(axis[seen]) - int(rng.integers(side_px // 8, side_px - side_px // 8)) for axis in (rows, cols))
        corner = [min(max(0, start), limit) for start, limit in zip(place, limits, strict=True)]
    window = tuple(slice(start, start + side_px) for start in corner)
    return frame[window], mask[window]


def stretch(frame: Gray, mask: Gray, rng: np.random.Generator, how: Augmentation) -> tuple[Gray, Gray]:
    """Frame and mask with rows and columns as many times more or fewer as `how` allows."""
    factors = rng.uniform(1 - how.stretch, 1 + how.stretch, 2)
    rows, cols = (max(how.crop_px, round(length * f)) for length, f in zip(mask.shape, factors, strict=True))
    bent = cv2.resize(frame, (cols, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(bent, np.uint8), np.asarray(cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def augment(frame: Gray, mask: Gray, rng: np.random.Generator, how: Augmentation) -> tuple[Gray, Gray]:
    """Frame and mask cropped, turned and mirrored alike (a surface has no up), the frame under another exposure."""
    if how.stretch:
        frame, mask = stretch(frame, mask, rng, how)
    if how.crop_px:
        frame, mask = crop(frame, mask, rng, how.crop_px)
    by_quarters = frame.shape[0] == frame.shape[1] and not how.keeps_grain
    turns = int(rng.integers(4)) if by_quarters else 2 * int(rng.integers(2))
    mirror = 1 - 2 * int(rng.integers(2))
    frame, mask = (np.rot90(array, turns)[:, ::mirror] for array in (frame, mask))
    light = np.arange(256) * rng.uniform(1 - how.gain, 1 + how.gain) + rng.uniform(-how.offset, how.offset)
    return np.clip(light, 0, 255).astype(np.uint8)[frame], mask


def paste(frame: Gray, source: Gray, source_mask: Gray) -> Gray:
    """The frame with the source's defect at its place there, under the frame's own exposure and as bright as its surroundings."""
    near, far = (cv2.dilate(np.minimum(source_mask, 1), np.ones((side, side), np.uint8)) for side in (5, 17))
    ring = (far > near) if (far > near).any() else np.ones_like(near, bool)
    gain = (frame.std() + 4) / (source.std() + 4)
    laid = (source.astype(np.float32) - source[ring].mean()) * gain + frame[ring].mean()
    share = cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1.5)
    return np.asarray(np.clip(frame + share * (laid - frame), 0, 255), np.uint8)


def mix(pair: tuple[Gray, Gray], defective: list[tuple[Gray, Gray]], rng: np.random.Generator, share: float) -> tuple[Gray, Gray]:
    """The pair of frame and mask; if it is good, `share` of the time with the defect of one of the others, mirrored at random."""
    frame, mask = pair
    if mask.any() or not defective or rng.random() >= share:
        return pair
    mirror = tuple(slice(None, None, 1 - 2 * int(rng.integers(2))) for _ in range(2))
    source, source_mask = (np.ascontiguousarray(array[mirror]) for array in defective[int(rng.integers(len(defective)))])
    return paste(frame, source, source_mask), source_mask


def draw_batch(examples: Examples, picks: NDArray[np.intp], rng: np.random.Generator, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Frames (n, 1, rows, cols) uint8 and masks (n, rows, cols) int64 of the picked examples, augmented."""
    pairs = [(examples.frames[pick], examples.masks[pick]) for pick in picks]
    defective = [(frame, mask) for frame, mask in pairs if mask.any()]
    pairs = [augment(*mix(pair, defective, rng, how.paste_share), rng, how) for pair in pairs]
    frames, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    return frames[:, None], masks.long()
