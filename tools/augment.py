"""How training examples differ from their pictures, as surfaces and lamps do: place, turn, exposure, grain, borrowed defects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from examples import Examples, Gray, Pair, fit
from flaws import Flaw, draw_flaw
from torch import Tensor

FULL = 255.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far an example may differ from its picture, and the rows and cols it is handed over with.

    `window`: the least share of each side that is seen, stretched to rows x cols; 0 takes a crop of rows x cols as it is. Either
    holds most of the defect, or some of it. `light` is how far gain and gamma leave 1, as a share; `offset` is in gray levels.
    """

    rows: int
    cols: int
    window: float = 0.0
    light: float = 0.15
    offset: float = 12.0
    grain: float = 0.0  # largest standard deviation of added noise, gray levels
    paste: float = 0.0  # share of good frames that get the defect of another, or the background would tell
    draw: float = 0.0  # share of good frames that get a drawn flaw
    keeps_grain: bool = False  # mirrored only, never turned: grinding marks that always run one way may say what is a defect


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A defect cut out with a margin around it: frame and mask (rows, cols), and its class."""

    frame: Gray
    mask: Gray
    label: int


def borrowable(examples: Examples, most_share: float = 0.1, margin_px: int = 12) -> list[Borrowed]:
    """The defects small enough to be laid elsewhere, and away from the frame's edges, where half of them might be hidden."""
    found = []
    for frame, mask in examples.pairs:
        if mask.any():
            count, labels, boxes, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))
            for number in range(1, count):
                x, y, width, height, area = (int(value) for value in boxes[number])
                inside = min(x, y) > 2 and x + width < mask.shape[1] - 2 and y + height < mask.shape[0] - 2
                if inside and area < most_share * mask.size:
                    rows, cols = (slice(max(0, at - margin_px), at + size + margin_px) for at, size in ((y, height), (x, width)))
                    label = int(mask[labels == number].max())
                    found.append(Borrowed(frame[rows, cols], (labels[rows, cols] == number).astype(np.uint8), label))
    return found


def paste(pair: Pair, source: Borrowed, rng: np.random.Generator) -> Pair:
    """The pair with the source's defect somewhere in it, mirrored and sized at random, as much darker or brighter as it was."""
    size, flips = rng.uniform(0.7, 1.4), [slice(None, None, 1 - 2 * int(rng.integers(2))) for _ in range(2)]
    patch = cv2.resize(np.ascontiguousarray(source.frame[flips[0], flips[1]]).astype(np.float32), None, fx=size, fy=size)
    shape = cv2.resize(np.ascontiguousarray(source.mask[flips[0], flips[1]]), patch.shape[::-1], interpolation=cv2.INTER_NEAREST)
    near = cv2.dilate(shape, np.ones((5, 5), np.uint8))
    limits = [whole - part for whole, part in zip(pair[0].shape, patch.shape, strict=True)]
    if min(limits) <= 0 or near.all():
        return pair
    top, left = (int(rng.integers(limit)) for limit in limits)
    place = slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1])
    frame, mask = pair[0].astype(np.float32), pair[1].copy()
    ground = cv2.GaussianBlur(frame[place], (0, 0), 9) + 8
    laid = ground * patch / (patch[near == 0].mean() + 8) - 8
    share = cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1.5) * min(1.0, rng.uniform(0.7, 1.1))
    frame[place] += share * (laid - frame[place])
    mask[place][shape > 0] = source.label
    return np.clip(frame, 0, FULL).astype(np.uint8), mask


def _place(length: int, size: int, seen: int, rng: np.random.Generator) -> int:
    """Where a window of `size` begins: around what must be seen, though rarely in its middle."""
    return int(np.clip(seen - rng.integers(size // 8, max(size // 8 + 1, size - size // 8)), 0, length - size))


def cut(pair: Pair, rng: np.random.Generator, how: Augmentation) -> Pair:
    """The part of the frame that the example shows, rows x cols."""
    frame, mask = pair
    if how.window:
        sizes = [int(length * np.sqrt(rng.uniform(how.window**2, 1))) for length in frame.shape]
    else:
        sizes = [min(wanted, length) for wanted, length in zip((how.rows, how.cols), frame.shape, strict=True)]
    defect = np.argwhere(mask)
    for _ in range(4):
        # A good frame is cut as if it had a defect anywhere: seeing where the surface ends must not tell of one.
        seen = defect[rng.integers(len(defect))] if len(defect) else rng.integers(frame.shape)
        top, left = (_place(length, size, at, rng) for length, size, at in zip(frame.shape, sizes, seen, strict=True))
        place = slice(top, top + sizes[0]), slice(left, left + sizes[1])
        if not len(defect) or not how.window or 2 * np.count_nonzero(mask[place]) > len(defect):
            return fit((frame[place], mask[place]), how.rows, how.cols)
    return fit(pair, how.rows, how.cols)


def turn(pair: Pair, rng: np.random.Generator, how: Augmentation) -> Pair:
    """Turned by quarters where the grain allows it and the frame is square, and mirrored."""
    turns = int(rng.integers(4)) if how.rows == how.cols and not how.keeps_grain else 2 * int(rng.integers(2))
    mirror = slice(None, None, 1 - 2 * int(rng.integers(2)))
    frame, mask = (np.rot90(array, turns)[:, mirror] for array in pair)
    return frame, mask


def relight(frame: Gray, rng: np.random.Generator, how: Augmentation) -> Gray:
    """The frame under another exposure; never one so bright that half of it is white, which would hide what the mask shows."""
    levels = np.arange(256) / FULL
    brightest = max(1 - how.light / 2, min(1 + how.light, 0.75 / (frame.mean() / FULL + 0.05)))
    light = levels ** rng.uniform(1 - how.light / 2, 1 + how.light / 2) * FULL * rng.uniform(1 - how.light, brightest)
    seen = (light + rng.uniform(-how.offset, how.offset))[frame]
    if how.grain and rng.random() < 0.3:
        seen = seen + rng.normal(0, rng.uniform(0, how.grain), frame.shape)
    return np.asarray(np.clip(seen, 0, FULL), np.uint8)


class Sampler:
    """Draws batches of augmented examples. Not for several threads."""

    def __init__(self, examples: Examples, how: Augmentation, flaws: tuple[Flaw, ...], seed: int) -> None:
        self._examples, self._how, self._flaws = examples, how, flaws
        self._rng = np.random.default_rng(seed)
        self._chances = examples.chances()
        self._borrowed = borrowable(examples) if how.paste else []

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Frames (size, 1, rows, cols) uint8 and masks (size, rows, cols) int64."""
        picks = self._rng.choice(len(self._chances), size, p=self._chances)
        pairs = [self._example(self._examples.pairs[pick], bool(self._examples.is_defective[pick])) for pick in picks]
        frames, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
        return frames[:, None], masks.long()

    def _example(self, pair: Pair, is_defective: bool) -> Pair:
        rng, how = self._rng, self._how
        fate = 1.0 if is_defective else rng.random()
        if fate < how.paste and self._borrowed:
            pair = paste(pair, self._borrowed[int(rng.integers(len(self._borrowed)))], rng)
        elif fate < how.paste + how.draw and self._flaws:
            pair = draw_flaw(pair, self._flaws, rng)
        frame, mask = turn(cut(pair, rng, how), rng, how)
        return relight(frame, rng, how), np.ascontiguousarray(mask)
