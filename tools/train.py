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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples import Augmentation, Examples, draw_batch, load_examples
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scores import Scores, score, table_of
from torch import Tensor
from torch.nn import functional
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
    p.add_argument("--head", default="sigmoid", choices=("sigmoid", "softmax"))
    p.add_argument("--classes", default="defect", help="defect classes, by comma; with one, every mask counts as it")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after this long; the rate falls in time for it")
    p.add_argument("--patience", type=int, default=12, help="stop after this many epochs without a better one")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    p.add_argument("--defect-weight", type=float, default=1.0, help="of a defect pixel in the cross-entropy")
    p.add_argument("--peak-weight", type=float, default=0.0, help="of each frame's peak in the loss; try 0.3 to end with")
    p.add_argument("--gain", type=float, default=0.15, help="augmentation: gain 1 +- this")
    p.add_argument("--offset", type=float, default=12.0, help="augmentation: offset +- this many gray levels")
    p.add_argument("--crop", type=int, default=0, help="train on squares of this side that hold the defect; 0: whole frames")
    p.add_argument("--start", type=Path, help="checkpoint whose weights to start from")
    p.add_argument("--seed", type=int, default=0, help="weights, order and augmentation")
    p.add_argument("--split-seed", type=int, default=0, help="which groups of a folder are held out")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", type=Path, required=True, help="models/<name>")
    return p.parse_args()


def loss_of(logits: Tensor, masks: Tensor, head: str, defect_weight: float = 1.0, peak_weight: float = 0.0) -> Tensor:
    """Cross-entropy of every pixel, plus one minus the smoothed Dice of each defect class over the whole batch.

    With `peak_weight` also the cross-entropy of each frame's highest probability: what a frame is judged by, and what a
    false alarm of three pixels shows in, which costs the other two next to nothing.
    """
    classes = logits.shape[1] - int(head == "softmax")
    target = functional.one_hot(masks, classes + 1).permute(0, 3, 1, 2)[:, 1:].float()
    weight = logits.new_full((classes, 1, 1), defect_weight)
    if head == "sigmoid":
        entropy = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
    else:
        entropy = functional.cross_entropy(logits, masks, functional.pad(weight.flatten(), (1, 0), value=1.0))
    p = probabilities(logits, head)
    overlap, total = (p * target).sum((0, 2, 3)), (p + target).sum((0, 2, 3))
    dice = ((2 * overlap + 1) / (total + 1)).mean()
    peaks = p.amax((2, 3)).clamp(1e-6, 1 - 1e-6)
    return entropy + 1 - dice + peak_weight * functional.binary_cross_entropy(peaks, target.amax((2, 3)))


def validate(network: UNet, examples: Examples, batch: int) -> tuple[Scores, float]:
    """Scores by the highest probability on each frame, and the mean loss."""
    network.eval()
    peaks, losses = [], []
    with torch.no_grad():
        for first in range(0, len(examples.frames), batch):
            logits = network(torch.from_numpy(examples.frames[first : first + batch, None]))
            masks = torch.from_numpy(examples.masks[first : first + batch]).long()
            losses.append(loss_of(logits, masks, network.shape.head).item())
            peaks.append(probabilities(logits, network.shape.head).amax((1, 2, 3)).double().numpy())
    return score(np.concatenate(peaks), examples.is_defective), float(np.mean(losses))


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


def main() -> None:
    args, console = parse(), Console()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    # Data: every batch holds about as many defective as good frames, whatever the share in the set.
    shape = Shape(args.filters, args.levels, args.stem, args.head, tuple(args.classes.split(",")))
    if any(size % shape.stride for size in (args.rows, args.cols, args.crop)):
        raise SystemExit(f"--rows {args.rows} --cols {args.cols} --crop {args.crop}: use multiples of {shape.stride}")
    train, val, split = load_examples(args.data, args.count, args.val, args.rows, args.cols, shape, args.split_seed)
    is_bad = train.is_defective
    chance = np.where(is_bad, 1 / max(1, int(is_bad.sum())), 1 / max(1, int((~is_bad).sum())))
    chance /= chance.sum()
    how = Augmentation(args.gain, args.offset, args.crop)
    steps = math.ceil(len(train.frames) / args.batch)
    console.print(f"{len(train.frames)} frames to train on ({is_bad.sum()} defective), {len(val.frames)} to validate")

    # Network and optimizer.
    network = UNet(shape).to(memory_format=torch.channels_last)
    before: dict[str, Any] = {}
    if args.start:
        started = torch.load(args.start)
        network.load_state_dict(started["weights"])
        before = started["training"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=1e-3)

    # Epochs: the rate climbs for a moment, then falls along a half cosine, by epochs or by minutes, whichever ends first.
    best, best_epoch, done, began_s = (-math.inf, -math.inf, -math.inf), 0, 0.0, time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        for epoch in range(1, args.epochs + 1):
            network.train()
            running = 0.0
            bar = progress.add_task(f"epoch {epoch}", total=steps)
            for step in range(steps):
                elapsed = (time.monotonic() - began_s) / 60 / args.minutes
                done = min(1.0, max((epoch - 1 + step / steps) / args.epochs, elapsed))
                warm = min(1.0, ((epoch - 1) * steps + step + 1) / WARM_STEPS)
                optimizer.param_groups[0]["lr"] = args.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
                frames, masks = draw_batch(train, rng.choice(len(chance), args.batch, p=chance), rng, how)
                loss = loss_of(network(frames), masks, args.head, args.defect_weight, args.peak_weight)
                if not torch.isfinite(loss):
                    raise SystemExit(f"epoch {epoch}, step {step}: the loss is {loss.item()}; lower --rate {args.rate}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                running += loss.item()
                progress.update(bar, advance=1, description=f"epoch {epoch} loss {running / (step + 1):.4f}")

            # The best epoch has the highest AUC, then the fewest errors at 0.5, then the lowest loss.
            scores, val_loss = validate(network, val, args.batch)
            summary = f"val {val_loss:.4f}, AUC {scores.auc}, errors at 0.5: {scores.errors}"
            console.print(f"epoch {epoch}: loss {running / steps:.4f}, {summary}")
            rank = (round(scores.auc, 3), -float(scores.errors), -val_loss)
            if rank > best:
                best, best_epoch = rank, epoch
                made = {"training": papers_of(args, split, time.monotonic() - began_s, before), "scores": scores.as_dict()}
                network_is = {"shape": shape.as_dict(), "rows": args.rows, "cols": args.cols}
                torch.save({"weights": network.state_dict(), **network_is, **made}, args.out / "checkpoint.pt")
                console.print(table_of(scores, f"epoch {epoch}, the best so far"))
            if epoch - best_epoch >= args.patience or done >= 1.0:
                break
    console.print(f"epoch {best_epoch} is in {args.out}/checkpoint.pt; next: python tools/export.py {args.out}")


if __name__ == "__main__":
    main()
