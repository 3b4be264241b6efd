"""Trains the network and leaves its best weights in OUT/checkpoint.pt; `tools/export.py OUT` makes the model of them.

    python tools/train.py --data generator:1 --count 400 --val 100 --minutes 10 --out models/demo-texture
    python tools/train.py --data folder:DIR --val 150 --rows 224 --cols 224 --out models/tiles

What a folder holds is told in examples.py.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples import Augmentation, Examples, draw_batch, load_examples
from loss import Weights, loss_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scores import Scores, score, table_of
from unet import Shape, UNet, probabilities

WARM_STEPS = 30


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
    p.add_argument("--normalise", action="store_true", help="each frame by its own mean and deviation, inside the network")
    p.add_argument("--head", default="sigmoid", choices=("sigmoid", "softmax"))
    p.add_argument("--classes", default="defect", help="defect classes, by comma; with one, every mask counts as it")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after this long; the rate falls in time for it")
    p.add_argument("--patience", type=int, default=12, help="stop after this many epochs without a better one")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    p.add_argument("--defect-weight", type=float, default=1.0, help="of a defect pixel in the cross-entropy")
    p.add_argument("--frame-dice", action="store_true", help="Dice of each frame: a small defect weighs as much as a large one")
    p.add_argument("--peak-weight", type=float, default=0.0, help="of each frame's peak in the loss; try 0.3 to end with")
    p.add_argument("--gain", type=float, default=0.15, help="augmentation: gain 1 +- this")
    p.add_argument("--offset", type=float, default=12.0, help="augmentation: offset +- this many gray levels")
    p.add_argument("--crop", type=int, default=0, help="train on squares of this side that hold the defect; 0: whole frames")
    p.add_argument("--stretch", type=float, default=0.0, help="augmentation: rows and cols 1 +- this; needs --crop")
    p.add_argument("--paste", type=float, default=0.0, help="augmentation: share of good frames that get another's defect")
    p.add_argument("--keep-grain", action="store_true", help="augmentation: half turns only, no quarter turns")
    p.add_argument("--start", type=Path, help="checkpoint whose weights to start from")
    p.add_argument("--seed", type=int, default=0, help="weights, order and augmentation")
    p.add_argument("--split-seed", type=int, default=0, help="which groups of a folder are held out")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", type=Path, required=True, help="models/<name>")
    return p.parse_args()


def validate(network: UNet, examples: Examples, batch: int, weights: Weights) -> tuple[Scores, float]:
    """Scores by the highest probability on each frame, and the mean loss."""
    network.eval()
    peaks, losses = [], []
    with torch.no_grad():
        for first in range(0, len(examples.frames), batch):
            logits = network(torch.from_numpy(examples.frames[first : first + batch, None]))
            masks = torch.from_numpy(examples.masks[first : first + batch]).long()
            losses.append(loss_of(logits, masks, network.shape.head, weights).item())
            peaks.append(probabilities(logits, network.shape.head).amax((1, 2, 3)).double().numpy())
    return score(np.concatenate(peaks), examples.is_defective, examples.kinds), float(np.mean(losses))


def papers_of(args: argparse.Namespace, split: str, seconds: float, before: dict[str, Any]) -> dict[str, object]:
    """How the weights came to be, with what came `before`. Of a folder only its name is kept: where it lay tells nothing."""
    kind, _, where = args.data.partition(":")
    data = args.data if kind == "generator" else f"folder:{Path(where).name}"
    told = {"data": data, "terms": args.terms, "split": split}
    told["command"] = shlex.join(["python", *sys.argv]).replace(args.data, data)
    if before:
        seconds += before["seconds"]
        told = {key: text if text == before[key] else f"{before[key]}; then {text}" for key, text in told.items()}
    return {**told, "seed": args.seed, "seconds": round(seconds)}


class Training:
    """A network on its way: draws batches, steps, and sets the rate, which climbs for a moment and falls along a half cosine."""

    def __init__(self, args: argparse.Namespace, network: UNet, train: Examples, weights: Weights) -> None:
        self._args, self._network, self._train, self._weights = args, network, train, weights
        self._rng = np.random.default_rng(args.seed)
        self._how = Augmentation(args.gain, args.offset, args.crop, args.stretch, args.paste, args.keep_grain)
        self._chances = train.chances()
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=1e-3)
        self._began_s = time.monotonic()
        self._taken = 0
        self.steps = math.ceil(len(train.frames) / args.batch)  # per epoch

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began_s

    @property
    def done(self) -> float:
        """Share of the training done, 0 to 1: by epochs or by minutes, whichever ends first."""
        return float(min(1.0, max(self._taken / self.steps / self._args.epochs, self.seconds / 60 / self._args.minutes)))

    def epoch(self) -> Iterator[float]:
        """Takes one epoch's steps; after each, the mean loss so far."""
        self._network.train()
        running = 0.0
        for step in range(1, self.steps + 1):
            running += self._step()
            yield running / step

    def _step(self) -> float:
        args = self._args
        warm = min(1.0, (self._taken + 1) / WARM_STEPS)
        self._optimizer.param_groups[0]["lr"] = args.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.done)) / 2)
        picks = self._rng.choice(len(self._chances), args.batch, p=self._chances)
        frames, masks = draw_batch(self._train, picks, self._rng, self._how)
        loss = loss_of(self._network(frames), masks, args.head, self._weights)
        if not torch.isfinite(loss):
            raise SystemExit(f"step {self._taken}: the loss is {loss.item()}; lower --rate {args.rate}")
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._taken += 1
        return float(loss.item())


def load_start(network: UNet, start: Path | None) -> dict[str, Any]:
    """Gives the network the weights of a checkpoint, and returns that one's training papers; both empty without one."""
    if start is None:
        return {}
    started: dict[str, Any] = torch.load(start)
    network.load_state_dict(started["weights"])
    papers: dict[str, Any] = started["training"]
    return papers


def main() -> None:
    args, console = parse(), Console()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    shape = Shape(args.filters, args.levels, args.stem, args.head, tuple(args.classes.split(",")), args.normalise)
    if any(size % shape.stride for size in (args.rows, args.cols, args.crop)):
        raise SystemExit(f"--rows {args.rows} --cols {args.cols} --crop {args.crop}: use multiples of {shape.stride}")
    train, val, split = load_examples(args.data, args.count, args.val, args.rows, args.cols, shape, args.split_seed)
    console.print(f"{len(train.frames)} frames to train on ({train.is_defective.sum()} defective), {len(val.frames)} to validate")

    network = UNet(shape).to(memory_format=torch.channels_last)
    before = load_start(network, args.start)
    weights = Weights(args.defect_weight, args.peak_weight, args.frame_dice)
    training = Training(args, network, train, weights)

    # The best epoch has the highest AUC, then the fewest errors at 0.5, then the lowest loss.
    best, best_epoch = (-math.inf, -math.inf, -math.inf), 0
    args.out.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        for epoch in range(1, args.epochs + 1):
            bar = progress.add_task(f"epoch {epoch}", total=training.steps)
            for loss in training.epoch():
                progress.update(bar, advance=1, description=f"epoch {epoch} loss {loss:.4f}")
            scores, val_loss = validate(network, val, args.batch, weights)
            summary = f"val {val_loss:.4f}, AUC {scores.auc}, errors at 0.5: {scores.errors}"
            console.print(f"epoch {epoch}: loss {loss:.4f}, {summary}")
            rank = (round(scores.auc, 3), -float(scores.errors), -val_loss)
            if rank > best:
                best, best_epoch = rank, epoch
                made = {"training": papers_of(args, split, training.seconds, before), "scores": scores.as_dict()}
                network_is = {"shape": shape.as_dict(), "rows": args.rows, "cols": args.cols}
                torch.save({"weights": network.state_dict(), **network_is, **made}, args.out / "checkpoint.pt")
                console.print(table_of(scores, f"epoch {epoch}, the best so far"))
            if epoch - best_epoch >= args.patience or training.done >= 1.0:
                break
    console.print(f"epoch {best_epoch} is in {args.out}/checkpoint.pt; next: python tools/export.py {args.out}")


if __name__ == "__main__":
    main()
