"""Trains a network and leaves its best weights in OUT/checkpoint.pt; `tools/export.py OUT` makes the model of them.

    python tools/train.py --data generator:1 --count 400 --val 100 --minutes 10 --out models/demo-texture
    python tools/train.py --data folder:Class1 --folds 3 --filters 8 --coarse --rows 256 --cols 256 --minutes 4 --out out/fold0
    python tools/train.py --data folder:tiles --classes Blowhole,Break,Crack,Fray,Uneven --head softmax --minutes 25 --out out/tiles

`--stem 1 --levels 4` with 8 filters is the U-Net of NVIDIA's decks, with 16 that of its tutorial. What a folder holds is told in
edge_agent/dataset. Beside the weights lie curves.png and last.pt, from which `--resume` goes on.
"""

from __future__ import annotations

import argparse
import copy
import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import Augmentation, Sampler
from curves import Curves
from examples import Examples, Split, fit, load_split
from flaws import DRAWN_BY, flaws_of
from loss import Weights, any_defect, loss_of, to_cells
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scores import Scores, score, table_of
from unet import Shape, UNet

WARM_STEPS = 30
MEAN_OVER = 0.995  # the weights that are judged and kept are the running mean of those trained: steadier, and free


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = p.add_argument_group("data")
    data.add_argument("--data", required=True, help="generator:SEED or folder:DIR")
    data.add_argument("--terms", default="", help="the terms of the data, for the model's papers")
    data.add_argument("--count", type=int, default=400, help="parts of the generator to train on")
    data.add_argument("--val", type=int, default=100, help="parts of the generator to validate on")
    data.add_argument("--folds", type=int, default=0, help="of a folder, hold out one group in so many; 0 trains on everything")
    data.add_argument("--fold", type=int, default=0, help="which")
    data.add_argument("--split-seed", type=int, default=0)
    data.add_argument("--classes", default="defect", help="defect classes, by comma; with one, every mask counts as it")
    network = p.add_argument_group("network")
    network.add_argument("--filters", type=int, default=16)
    network.add_argument("--levels", type=int, default=3)
    network.add_argument("--stem", type=int, default=4, choices=(1, 2, 4, 8))
    network.add_argument("--coarse", action="store_true", help="one logit for each cell of the stem, not for each pixel")
    network.add_argument("--normalise", action="store_true", help="each frame by its own mean and deviation, inside the network")
    network.add_argument("--head", default="sigmoid", choices=("sigmoid", "softmax"))
    network.add_argument("--dropout", type=float, default=0.0)
    network.add_argument("--frame", default="", help="ROWSxCOLS of the model's input; the default is that of training")
    augment = p.add_argument_group("augmentation")
    augment.add_argument("--rows", type=int, default=512, help="of the examples trained on: a crop of the image")
    augment.add_argument("--cols", type=int, default=512)
    augment.add_argument("--window", type=float, default=0.0, help="not a crop: at least this share of each side, stretched")
    augment.add_argument("--light", type=float, default=0.15, help="how far gain and gamma leave 1")
    augment.add_argument("--offset", type=float, default=12.0, help="gray levels")
    augment.add_argument("--grain", type=float, default=0.0, help="most noise, gray levels")
    augment.add_argument("--paste", type=float, default=0.0, help="share of good frames that get another's defect")
    augment.add_argument("--draw", type=float, default=0.0, help="share of good frames that get a drawn flaw")
    augment.add_argument("--flaws", default="", help=f"CLASS=FLAW by comma, of {', '.join(DRAWN_BY)}")
    augment.add_argument("--keep-grain", action="store_true", help="mirrored only, no quarter turns")
    training = p.add_argument_group("training")
    training.add_argument("--loss", default="both", choices=("both", "dice", "entropy"))
    training.add_argument("--peak", type=float, default=0.3, help="weight of each frame's peak in the loss")
    training.add_argument("--defect-share", type=float, default=0.3, help="of the cross-entropy, however few pixels are defects")
    training.add_argument("--minutes", type=float, default=10.0, help="the rate falls to nothing in this time")
    training.add_argument("--steps", type=int, default=0, help="instead of minutes")
    training.add_argument("--checks", type=int, default=12, help="validations, evenly spaced")
    training.add_argument("--patience", type=int, default=6, help="stop after this many validations without a better one")
    training.add_argument("--batch", type=int, default=8)
    training.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    training.add_argument("--decay", type=float, default=1e-3, help="of the weights")
    training.add_argument("--seed", type=int, default=0, help="weights, order and augmentation")
    training.add_argument("--threads", type=int, default=1)
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    training.add_argument("--full-precision", action="store_true", help="on a GPU: float32 throughout, no mixed precision")
    training.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    p.add_argument("--out", type=Path, required=True, help="models/<name>")
    return p.parse_args()


@dataclass
class Progressed:
    """How far a training is: what `--resume` takes up again beside the weights."""

    step: int = 0
    seconds: float = 0.0
    best: tuple[float, ...] = (-math.inf,)
    best_check: int = 0
    check: int = 0


class Training:
    """A network on its way: steps, the rate (a short climb, then half a cosine down), and the running mean of the weights."""

    def __init__(self, args: argparse.Namespace, network: UNet, sampler: Sampler) -> None:
        self._args, self._sampler = args, sampler
        self.network, self.mean = network, copy.deepcopy(network)
        self._weights = Weights(float(args.loss != "dice"), float(args.loss != "entropy"), args.peak, args.defect_share)
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=args.decay)
        self.is_mixed = args.device.startswith("cuda") and not args.full_precision
        self._scaler = torch.amp.GradScaler(enabled=self.is_mixed)
        self.at = Progressed()
        self._began_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent in training, this time and before."""
        return self.at.seconds + time.monotonic() - self._began_s

    @property
    def done(self) -> float:
        """Share of the training done, 0 to 1."""
        share = self.at.step / self._args.steps if self._args.steps else self.seconds / 60 / max(self._args.minutes, 1e-9)
        return float(min(1.0, share))

    def steps_until(self, share: float) -> Iterator[float]:
        """Steps until this share of the training is done; after each, the mean loss so far."""
        self.network.train()
        total, taken = 0.0, 0
        while taken == 0 or self.done < share:
            total, taken = total + self.step(), taken + 1
            yield total / taken

    def step(self) -> float:
        """One batch."""
        args, shape = self._args, self.network.shape
        warm = min(1.0, (self.at.step + 1) / WARM_STEPS)
        self._optimizer.param_groups[0]["lr"] = args.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.done)) / 2)
        frames, masks = (tensor.to(args.device) for tensor in self._sampler.batch(args.batch))
        with torch.autocast(args.device.partition(":")[0], enabled=self.is_mixed):
            logits = self.network(frames)
        loss = loss_of(logits.float(), to_cells(masks, shape.cell_px), shape.head, self._weights)
        if not torch.isfinite(loss):
            raise SystemExit(f"step {self.at.step}: the loss is {loss.item()}; lower --rate {args.rate}")
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.at.step += 1
        self._take_mean()
        return float(loss.item())

    def save(self, file: Path) -> None:
        """Everything that `resume` needs."""
        at = {**vars(self.at), "seconds": self.seconds}
        states = {"network": self.network, "mean": self.mean, "optimizer": self._optimizer, "scaler": self._scaler}
        torch.save({"at": at, **{name: each.state_dict() for name, each in states.items()}}, file)

    def resume(self, file: Path) -> None:
        """Goes on where `save` was called; the order of the examples begins anew."""
        if not file.exists():
            raise SystemExit(f"--resume: {file} is not there; begin without it")
        saved = torch.load(file, map_location=self._args.device)
        for name, each in (
            ("network", self.network),
            ("mean", self.mean),
            ("optimizer", self._optimizer),
            ("scaler", self._scaler),
        ):
            each.load_state_dict(saved[name])
        self.at = Progressed(**saved["at"])

    def _take_mean(self) -> None:
        keep = min(MEAN_OVER, (self.at.step + 1) / (self.at.step + 10))
        for mean, trained in zip(self.mean.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(trained, 1 - keep)  # the statistics of batch norm too: those of one step fit no other's weights


def validate(network: UNet, examples: Examples, rows: int, cols: int, device: str) -> Scores:
    """Scores by the highest log-odds of any defect on each frame, which the station judges by too."""
    network.eval()
    peaks = []
    with torch.no_grad():
        for pair in examples.pairs:
            frame = torch.from_numpy(np.ascontiguousarray(fit(pair, rows, cols)[0])[None, None]).to(device)
            peaks.append(any_defect(network(frame).double(), network.shape.head).amax().sigmoid().item())
    return score(np.array(peaks), examples.is_defective, examples.kinds)


def papers_of(args: argparse.Namespace, split: Split, training: Training) -> dict[str, Any]:
    """How the weights came to be. Of a folder only its name is kept: where it lay tells nothing."""
    kind, _, where = args.data.partition(":")
    data = args.data if kind == "generator" else f"folder:{Path(where).name}"
    told = {"data": data, "terms": args.terms, "split": split.words}
    if kind == "folder":
        told["held_out"], told["trained_on"] = (sorted(set(each.groups)) for each in (split.val, split.train))
    told["command"] = shlex.join(["python", *sys.argv]).replace(args.data, data)
    spent = {"seconds": round(training.seconds), "cpu_seconds": round(time.process_time())}
    return {**told, "seed": args.seed, "steps": training.at.step, **spent}


def speed_up(training: Training, steps: int = 20) -> float:
    """How many times faster steps are in mixed precision than in float32, on copies that are thrown away."""
    took_s = []
    for is_mixed in (False, True):
        trial = copy.copy(training)
        trial.network, trial.at = copy.deepcopy(training.network), Progressed()
        trial.is_mixed = is_mixed
        for count in (5, steps):
            torch.cuda.synchronize()
            began_s = time.monotonic()
            for _ in range(count):
                trial.step()
            torch.cuda.synchronize()
        took_s.append(time.monotonic() - began_s)
    return took_s[0] / took_s[1]


def main() -> None:
    args, console = parse(), Console()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    classes = tuple(args.classes.split(","))
    shape = Shape(args.filters, args.levels, args.stem, args.head, classes, args.normalise, not args.coarse, args.dropout)
    rows, cols = (int(size) for size in args.frame.split("x")) if args.frame else (args.rows, args.cols)
    if any(size % shape.stride for size in (rows, cols, args.rows, args.cols)):
        raise SystemExit(f"--rows {args.rows} --cols {args.cols} --frame {rows}x{cols}: use multiples of {shape.stride}")
    split = load_split(args.data, args.count, args.val, args.folds, args.fold, args.split_seed, shape, rows, cols)
    console.print(f"{split.words}; {split.train.is_defective.sum()} defective to train on")

    how = Augmentation(
        args.rows, args.cols, args.window, args.light, args.offset, args.grain, args.paste, args.draw, args.keep_grain
    )
    sampler = Sampler(split.train, how, flaws_of(args.flaws, classes), args.seed)
    network = UNet(shape).to(args.device, memory_format=torch.channels_last)
    training = Training(args, network, sampler)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        training.resume(args.out / "last.pt")
    if training.is_mixed:
        console.print(f"mixed precision is {speed_up(training):.2f} times as fast as float32 here")

    # The best check has the highest AUC, then the widest gap between the good frames' peaks and the defective ones'.
    at, curves = training.at, Curves(args.out / "curves.png")
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=1.0)
        while training.done < 1.0 and at.check - at.best_check < args.patience:
            at.check += 1
            for loss in training.steps_until(at.check / args.checks):
                progress.update(bar, completed=training.done, description=f"step {at.step} loss {loss:.4f}")
            scores = validate(training.mean, split.val, rows, cols, args.device)
            rank = (round(scores.auc, 3), -float(scores.errors), scores.gap) if split.val.pairs else (float(at.check),)
            console.print(f"step {at.step}, {training.seconds:.0f} s: loss {loss:.4f}, {scores.in_words()}")
            if rank > at.best:
                at.best, at.best_check = rank, at.check
                made = {"training": papers_of(args, split, training), "scores": scores.as_dict()}
                network_is = {"shape": shape.as_dict(), "rows": rows, "cols": cols}
                torch.save({"weights": training.mean.state_dict(), **network_is, **made}, args.out / "checkpoint.pt")
                console.print(table_of(scores, f"check {at.check}, the best so far"))
            curves.add(at.step, loss, scores)
            training.save(args.out / "last.pt")
    console.print(f"check {at.best_check} is in {args.out}/checkpoint.pt; next: python tools/export.py {args.out}")


if __name__ == "__main__":
    main()
