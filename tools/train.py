"""Trains the network and leaves its best weights in OUT/checkpoint.pt; `tools/export.py OUT` makes the model of them.

    python tools/train.py --data generator:1 --count 400 --val 100 --rows 512 --cols 512 --minutes 10 --out models/demo-texture
    python tools/train.py --data folder:DIR --val 150 --rows 224 --cols 224 --out models/tiles

A folder holds index.csv (columns image, mask, class, group), images/ and masks/ (defect where > 127). Images of one group show the same part
and stay on the same side of the split. Every image is stretched to ROWS x COLS.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from unet import Shape, UNet, probabilities

THRESHOLDS = tuple(t / 10 for t in range(1, 10))


# --- examples -------------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Examples:
    """Frames (n, rows, cols) uint8 and their masks (n, rows, cols) uint8: 0 background, k the k-th defect class."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    @property
    def is_defective(self) -> NDArray[np.bool_]:
        """One bool per frame: does its mask hold a defect pixel?"""
        return self.masks.any(axis=(1, 2))


def draw_examples(seed: int, first: int, count: int, rows: int, cols: int) -> Examples:
    """Parts first .. first + count - 1 of the generator's series `seed`; every second one has a defect."""
    from edge_agent.camera.texture import draw_part, label_of

    frames, masks = np.zeros((2, count, rows, cols), np.uint8)
    for slot in range(count):
        part = draw_part(seed, first + slot, rows, cols, defect_share=0.5)
        frames[slot], masks[slot] = part.pixels, label_of(part.truth, rows, cols)
    return Examples(frames, masks)


def read_rows(folder: Path, index: list[dict[str, str]], shape: Shape, rows: int, cols: int) -> Examples:
    """The images and masks that the index rows name, stretched to rows x cols."""
    frames, masks = np.zeros((2, len(index), rows, cols), np.uint8)
    for slot, row in enumerate(index):
        frame, mask = (
            cv2.imread(str(folder / f"{kind}s" / row[kind]), cv2.IMREAD_GRAYSCALE) for kind in ("image", "mask")
        )
        if frame is None or mask is None:
            raise SystemExit(f"{folder}: cannot read image {row['image']} or mask {row['mask']}; check index.csv")
        frames[slot] = cv2.resize(frame, (cols, rows), interpolation=cv2.INTER_AREA)
        known = shape.classes.index(row["class"]) + 1 if row["class"] in shape.classes else 0
        masks[slot] = (cv2.resize(mask, (cols, rows), interpolation=cv2.INTER_AREA) > 127) * (
            known if len(shape.classes) > 1 else 1
        )
    return Examples(frames, masks)


def split_by_group(
    index: list[dict[str, str]], held_out: int, seed: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Index rows to train on and to validate on: whole groups, about `held_out` images, the same share of every class."""
    of_group: dict[str, list[dict[str, str]]] = {}
    for row in index:
        of_group.setdefault(row["group"], []).append(row)
    groups = sorted(of_group)
    random.Random(seed).shuffle(groups)
    train: list[dict[str, str]] = []
    val: list[dict[str, str]] = []
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
    with (Path(where) / "index.csv").open(newline="") as lines:
        train, val = split_by_group(list(csv.DictReader(lines)), held_out, split_seed)
    train = random.Random(split_seed).sample(train, min(count, len(train))) if count else train
    words = f"by group, seed {split_seed}: {len(train)} images to train on, {len(val)} to validate"
    return read_rows(Path(where), train, shape, rows, cols), read_rows(Path(where), val, shape, rows, cols), words


def augment(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator, gain: float, offset: float
) -> list[NDArray[np.uint8]]:
    """Frame and mask turned or mirrored alike (a surface has no up), the frame under another exposure."""
    turns = int(rng.integers(4)) if frame.shape[0] == frame.shape[1] else 2 * int(rng.integers(2))
    pair = [np.rot90(a, turns)[:, :: 1 - 2 * flip] for flip in (int(rng.integers(2)),) for a in (frame, mask)]
    light = np.arange(256) * rng.uniform(1 - gain, 1 + gain) + rng.uniform(-offset, offset)
    return [np.clip(light, 0, 255).astype(np.uint8)[pair[0]], pair[1]]


def draw_batch(
    examples: Examples, picks: NDArray[np.intp], rng: np.random.Generator, gain: float, offset: float
) -> tuple[Tensor, Tensor]:
    """Frames (n, 1, rows, cols) uint8 and masks (n, rows, cols) int64 of the picked examples, augmented."""
    pairs = [augment(examples.frames[i], examples.masks[i], rng, gain, offset) for i in picks]
    frames, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    return frames[:, None], masks.long()


# --- what is asked of the network -----------------------------------------------------------------------------------------------------
def loss_of(logits: Tensor, masks: Tensor, head: str) -> Tensor:
    """Cross-entropy of every pixel plus one minus the smoothed Dice of each defect class over the whole batch."""
    classes = logits.shape[1] - (head == "softmax")
    target = F.one_hot(masks, classes + 1).permute(0, 3, 1, 2)[:, 1:].float()
    entropy = (
        F.binary_cross_entropy_with_logits(logits, target) if head == "sigmoid" else F.cross_entropy(logits, masks)
    )
    p = probabilities(logits, head)
    overlap, total = (p * target).sum((0, 2, 3)), (p + target).sum((0, 2, 3))
    return entropy + 1 - ((2 * overlap + 1) / (total + 1)).mean()


def auc_of(peaks: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> float:
    """The chance that a defective frame peaks higher than a good one; a tie counts half. NaN where one kind is missing."""
    bad, good = peaks[is_defective][:, None], peaks[~is_defective][None, :]
    return float((bad > good).mean() + (bad == good).mean() / 2) if bad.size and good.size else math.nan


def scores_of(peaks: NDArray[np.float64], is_defective: NDArray[np.bool_]) -> dict[str, object]:
    """AUC and, at each threshold, the frames called defective or not (positive = defective)."""
    at = {}
    for threshold in THRESHOLDS:
        called = peaks >= threshold
        tp, fp = int((called & is_defective).sum()), int((called & ~is_defective).sum())
        at[threshold] = {"tp": tp, "fp": fp, "fn": int(is_defective.sum()) - tp, "tn": int((~is_defective).sum()) - fp}
    return {"frames": len(peaks), "auc": round(auc_of(peaks, is_defective), 5), "at": at}


def table_of(scores: dict[str, object], title: str) -> Table:
    """The scores as a table to print."""
    table = Table("threshold", "TP", "FP", "FN", "TN", title=f"{title}: {scores['frames']} frames, AUC {scores['auc']}")
    for threshold, row in scores["at"].items():  # type: ignore[attr-defined]
        table.add_row(f"{threshold:.1f}", *(str(row[k]) for k in ("tp", "fp", "fn", "tn")))
    return table


@torch.no_grad()
def validate(network: UNet, examples: Examples, batch: int) -> tuple[dict[str, object], float]:
    """Scores by the highest probability of each frame, and the mean loss."""
    network.eval()
    peaks, losses = [], []
    for first in range(0, len(examples.frames), batch):
        logits = network(torch.from_numpy(examples.frames[first : first + batch, None]))
        masks = torch.from_numpy(examples.masks[first : first + batch]).long()
        losses.append(loss_of(logits, masks, network.shape.head).item())
        peaks.append(probabilities(logits, network.shape.head).amax((1, 2, 3)).double().numpy())
    return scores_of(np.concatenate(peaks), examples.is_defective), float(np.mean(losses))


# --- the command ----------------------------------------------------------------------------------------------------------------------
def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="generator:SEED or folder:DIR")
    p.add_argument("--terms", default="", help="the terms of the data, for the model's papers")
    p.add_argument("--count", type=int, default=0, help="images to train on; 0 takes all of a folder")
    p.add_argument("--val", type=int, default=100, help="images to validate on")
    p.add_argument("--rows", type=int, default=512)
    p.add_argument("--cols", type=int, default=512)
    p.add_argument("--filters", type=int, default=16)
    p.add_argument("--levels", type=int, default=3)
    p.add_argument("--stem", type=int, default=4, choices=(1, 2, 4))
    p.add_argument("--head", default="sigmoid", choices=("sigmoid", "softmax"))
    p.add_argument("--classes", default="defect", help="defect classes, by comma; with one, every mask counts as it")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this long; the learning rate falls in time for it"
    )
    p.add_argument("--patience", type=int, default=12, help="stop after this many epochs without a better one")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    p.add_argument("--gain", type=float, default=0.15, help="augmentation: gain 1 +- this")
    p.add_argument("--offset", type=float, default=12.0, help="augmentation: offset +- this many gray levels")
    p.add_argument("--start", type=Path, help="checkpoint to start from")
    p.add_argument("--seed", type=int, default=0, help="weights, order and augmentation")
    p.add_argument("--split-seed", type=int, default=0, help="which groups of a folder are held out")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", type=Path, required=True, help="models/<name>")
    return p.parse_args()


def main() -> None:
    args, console, began_s = parse(), Console(), time.monotonic()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    shape = Shape(args.filters, args.levels, args.stem, args.head, tuple(args.classes.split(",")))
    if args.rows % shape.stride or args.cols % shape.stride:
        raise SystemExit(f"--rows {args.rows} --cols {args.cols}: both must be multiples of {shape.stride}")
    train, val, split = load_examples(args.data, args.count, args.val, args.rows, args.cols, shape, args.split_seed)
    console.print(
        f"{len(train.frames)} frames to train on ({train.is_defective.sum()} defective), {len(val.frames)} to validate"
    )

    network = UNet(shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if args.start:
        network.load_state_dict(torch.load(args.start)["weights"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=1e-3)
    is_defective = train.is_defective
    weight = np.where(is_defective, 0.5 / max(1, is_defective.sum()), 0.5 / max(1, (~is_defective).sum()))
    steps = math.ceil(len(train.frames) / args.batch)
    best: tuple[float, ...] = (-math.inf,)
    best_epoch = 0
    args.out.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    trained_s = time.monotonic()

    with Progress(*columns, console=console) as progress:
        for epoch in range(1, args.epochs + 1):
            network.train()
            running = 0.0
            bar = progress.add_task(f"epoch {epoch}", total=steps)
            for step in range(steps):
                done = max((epoch - 1 + step / steps) / args.epochs, (time.monotonic() - trained_s) / 60 / args.minutes)
                warm = min(1.0, ((epoch - 1) * steps + step + 1) / 30)
                optimizer.param_groups[0]["lr"] = (
                    args.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)
                )
                picks = rng.choice(len(weight), args.batch, p=weight / weight.sum())
                frames, masks = draw_batch(train, picks, rng, args.gain, args.offset)
                loss = loss_of(network(frames), masks, args.head)
                if not torch.isfinite(loss):
                    raise SystemExit(f"epoch {epoch}, step {step}: the loss is {loss.item()}; lower --rate {args.rate}")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                running += loss.item()
                progress.update(bar, advance=1, description=f"epoch {epoch} loss {running / (step + 1):.4f}")
            scores, val_loss = validate(network, val, args.batch)
            half = scores["at"][0.5]  # type: ignore[index]
            console.print(
                f"epoch {epoch}: loss {running / steps:.4f}, val {val_loss:.4f}, AUC {scores['auc']}, at 0.5 {half}"
            )
            rank = (round(float(scores["auc"]), 3), -half["fp"] - half["fn"], -val_loss)  # type: ignore[arg-type]
            if rank > best:
                best, best_epoch = rank, epoch
                training = {
                    "data": args.data,
                    "terms": args.terms,
                    "split": split,
                    "command": shlex.join(["python", *sys.argv]),
                }
                training |= {"seed": args.seed, "seconds": round(time.monotonic() - began_s), "epoch": epoch}
                papers = {
                    "shape": shape.as_dict(),
                    "rows": args.rows,
                    "cols": args.cols,
                    "training": training,
                    "scores": scores,
                }
                torch.save({"weights": network.state_dict(), **papers}, args.out / "checkpoint.pt")
            if epoch - best_epoch >= args.patience or done >= 1.0:
                break
    if args.epochs:
        console.print(table_of(torch.load(args.out / "checkpoint.pt")["scores"], f"best epoch {best_epoch}"))
    console.print(f"{args.out}/checkpoint.pt is written; next: python tools/export.py {args.out}")


if __name__ == "__main__":
    main()
