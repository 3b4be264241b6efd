"""Trains a network and leaves its weights in OUT/checkpoint.pt; `tools/export.py OUT` makes the model of them.

    python tools/train.py --data generator:1 --count 400 --val 100 --minutes 10 --out models/demo-texture
    python tools/train.py --data folder:Class1 --folds 3 --filters 8 --coarse --rows 256 --cols 256 --minutes 4 --out out/fold0
    python tools/train.py --data folder:tiles --classes Blowhole,Break,Crack,Fray,Uneven --head softmax --minutes 25 --out out/tiles

`--stem 1 --levels 4` with 8 filters is the U-Net of NVIDIA's decks, with 16 that of its tutorial. What a folder holds is told in
edge_agent/dataset. The weights kept are those of the last check, for a fold as for the model trained on everything: what is held
out then judges and chooses nothing. Beside them lie curves.png, examples.png, and last.pt, from which `--resume` goes on.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import Augmentation, Sampler
from batches import Batch, ahead, drawn
from checkpoints import load, origin_of, require_same, save
from curves import Point, draw_curves
from examples import Examples, Split, fit, load_split, require_every_class
from flaws import flaws_of
from lite import Lite
from loss import Weights, any_defect, loss_of
from networks import Network, begun
from options import check, frame_of, parser, refusing, shape_of
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scores import Scores, score, table_of
from sheet import draw_sheet
from unet import Shape

from edge_agent.commands.output import require_writable

WARM_STEPS = 30
SHOWN = 24  # examples in examples.png
MEAN_OVER = 0.995  # the weights that are judged and kept are the running mean of those trained: steadier, and free


@dataclass
class Progressed:
    """How far a training is: what `--resume` takes up again beside the weights."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best: tuple[float, ...] = (-math.inf,)
    best_check: int = 0
    check: int = 0


class Training:
    """A network on its way: steps, the rate (a short climb, then half a cosine down), and the running mean of the weights."""

    def __init__(self, args: argparse.Namespace, network: Network, batches: Iterator[Batch], is_mixed: bool) -> None:
        self._args, self._batches = args, batches
        self.network, self.mean = network, copy.deepcopy(network)
        self._weights = Weights(float(args.loss != "dice"), float(args.loss != "entropy"), args.peak, args.defect_share)
        groups, self._shares = groups_of(network, args.encoder_rate)
        self._optimizer = torch.optim.AdamW(groups, lr=args.rate, weight_decay=args.decay)
        self._device, self._is_mixed = args.device.partition(":")[0], is_mixed
        self._scaler = torch.amp.GradScaler(self._device, enabled=is_mixed)
        self.at = Progressed()
        self.curve: list[Point] = []
        self._began_s, self._began_cpu_s = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Spent in training, this time and before."""
        return self.at.seconds + time.monotonic() - self._began_s

    @property
    def cpu_seconds(self) -> float:
        """The same of all cores; without reading the data."""
        return self.at.cpu_seconds + time.process_time() - self._began_cpu_s

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
        rate = args.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.done)) / 2)
        for group, share in zip(self._optimizer.param_groups, self._shares, strict=True):
            group["lr"] = rate * share
        frames, cells = next(self._batches)
        with torch.autocast(self._device, enabled=self._is_mixed):
            logits = self.network(frames)
        loss = loss_of(logits.float(), cells, shape.head, self._weights)
        if not torch.isfinite(loss):
            raise SystemExit(f"step {self.at.step}: the loss is {loss.item()}; lower --rate {args.rate}")
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.at.step += 1
        self._take_mean()
        return float(loss.item())

    def save(self, file: Path, origin: dict[str, Any]) -> None:
        """Everything that `resume` needs, and what the training learns from."""
        at = {**vars(self.at), "seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        states = {name: each.state_dict() for name, each in self._stateful().items()}
        save({"at": at, "curve": self.curve, "training": origin, **states}, file)

    def resume(self, file: Path) -> None:
        """Goes on where `save` was called; the order of the examples begins anew."""
        saved = load(file, self._args.device)
        for name, each in self._stateful().items():
            if saved[name]:  # float32 leaves no state of a scaler
                each.load_state_dict(saved[name])
        self.at, self.curve = Progressed(**saved["at"]), list(saved.get("curve", []))

    def _stateful(self) -> dict[str, Any]:
        return {"network": self.network, "mean": self.mean, "optimizer": self._optimizer, "scaler": self._scaler}

    def _take_mean(self) -> None:
        keep = min(MEAN_OVER, (self.at.step + 1) / (self.at.step + 10))
        for mean, trained in zip(self.mean.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(trained, 1 - keep)  # the statistics of batch norm too: those of one step fit no other's weights


def next_check(done: float, checks: int) -> float:
    """The share of the training at which it is validated next, of `checks` even ones.

    It goes by what is done, since a training that goes on may be given more steps, or checks, than it began with.
    """
    return min(1.0, (math.floor(done * checks + 1e-9) + 1) / checks)


def groups_of(network: Network, encoder_rate: float) -> tuple[list[dict[str, Any]], list[float]]:
    """The weights for the optimizer, and each group's share of the rate: what was learnt before is changed with care, or not."""
    before = network.learnt_before() if isinstance(network, Lite) else []
    known = {id(each) for each in before}
    for each in before:
        each.requires_grad_(encoder_rate > 0)
    new = [each for each in network.parameters() if id(each) not in known]
    changed = before if encoder_rate else []
    return ([{"params": new}, {"params": changed}], [1.0, encoder_rate]) if changed else ([{"params": new}], [1.0])


def validate(network: Network, examples: Examples, rows: int, cols: int, device: str) -> Scores:
    """Scores by the highest log-odds of any defect on each frame, which the station judges by too."""
    network.eval()
    peaks = []
    with torch.no_grad():
        for pair in examples.pairs:
            frame = torch.from_numpy(np.ascontiguousarray(fit(pair, rows, cols)[0])[None, None]).to(device)
            peaks.append(any_defect(network(frame).double(), network.shape.head).amax().sigmoid().item())
    return score(np.array(peaks), examples.is_defective, examples.kinds, examples.groups)


def papers_of(args: argparse.Namespace, split: Split, training: Training) -> dict[str, Any]:
    """How the weights came to be."""
    kept = "the last check" if args.keep == "last" else f"check {training.at.check}, the best on what was held out"
    spent = {"seconds": round(training.seconds), "cpu_seconds": round(training.cpu_seconds)}
    return {**origin_of(args, split), "kept": kept, "seed": args.seed, "steps": training.at.step, **spent}


def speed_up(args: argparse.Namespace, network: Network, batch: Batch, steps: int = 20) -> float:
    """How many times faster steps on this batch are in mixed precision than in float32, on copies that are thrown away."""
    took_s = []
    synchronize = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    with torch.random.fork_rng():
        for is_mixed in (False, True):
            trial = Training(args, copy.deepcopy(network), repeat(batch), is_mixed)
            for count in (5, steps):  # the first ones warm up
                synchronize()
                began_s = time.monotonic()
                for _ in range(count):
                    trial.step()
                synchronize()
            took_s.append(time.monotonic() - began_s)
    return took_s[0] / took_s[1]


def sampler_of(args: argparse.Namespace, shape: Shape, split: Split) -> Callable[[], Sampler]:
    """What makes the examples, from the first one on each time. Without --window they are crops of frames as they are judged."""
    how = Augmentation(
        args.rows, args.cols, args.window, args.light, args.offset, args.grain, args.paste, args.draw, args.keep_grain
    )
    examples = split.train if args.window else split.train.fitted(*frame_of(args))
    flaws = flaws_of(args.flaws, shape.classes)
    require_every_class(examples, shape.classes, {flaw.label for flaw in flaws})
    return partial(Sampler, examples, how, flaws, args.seed)


def show(sampler: Sampler, classes: tuple[str, ...], file: Path) -> None:
    """Draw what the network is about to learn from."""
    frames, masks = sampler.batch(SHOWN)
    draw_sheet(frames[:, 0].numpy(), masks.numpy(), classes, file)


def begin(args: argparse.Namespace, shape: Shape, sampler: Callable[[], Sampler], console: Console) -> Training:
    """The training as it begins, or goes on."""
    is_gpu = args.device.startswith("cuda")
    network = begun(shape).to(args.device, memory_format=torch.channels_last)
    is_mixed = is_gpu and not args.full_precision

    def batches() -> Iterator[Batch]:
        return drawn(sampler(), args.batch, shape.cell_px, args.device)

    if is_mixed:
        faster = speed_up(args, network, next(batches()))
        console.print(f"mixed precision is {faster:.2f} times as fast as float32 here")
    training = Training(args, network, ahead(batches()) if is_gpu else batches(), is_mixed)
    if args.resume:
        training.resume(args.out / "last.pt")
    return training


def look(args: argparse.Namespace, training: Training, split: Split, loss: float, console: Console) -> None:
    """Validates, and keeps the weights where they are to be kept: always, or where the check is the best so far.

    The best has the highest AUC, then the fewest errors, then the widest gap between good frames' peaks and defective ones'.
    """
    (rows, cols), at = frame_of(args), training.at
    scores = validate(training.mean, split.val, rows, cols, args.device)
    console.print(f"step {at.step}, {training.seconds:.0f} s: loss {loss:.4f}, {scores.in_words()}", soft_wrap=True)
    rank = (round(scores.auc, 3), -float(scores.errors), scores.gap)
    if args.keep == "last" or rank > at.best:
        at.best, at.best_check = rank, at.check
        made = {"training": papers_of(args, split, training), "scores": scores.as_dict()}
        network_is = {"shape": training.network.shape.as_dict(), "rows": rows, "cols": cols}
        save({"weights": training.mean.state_dict(), **network_is, **made}, args.out / "checkpoint.pt")
        if scores.frames:
            console.print(table_of(scores, f"check {at.check}"))
    training.curve.append((at.step, loss, scores.auc, scores.highest_good, scores.lowest_bad))
    draw_curves(training.curve, args.out / "curves.png")
    training.save(args.out / "last.pt", origin_of(args, split))


@refusing()
def main() -> None:
    args, console = parser(__doc__).parse_args(), Console()
    check(args)
    require_writable(args.out, "--out")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    shape = shape_of(args)
    split = load_split(args.data, args.count, args.val, args.folds, args.fold, args.split_seed, shape, *frame_of(args))
    console.print(f"{split.words}; {split.train.is_defective.sum()} defective to train on", soft_wrap=True)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        require_same(args.out / "last.pt", origin_of(args, split))
    sampler = sampler_of(args, shape, split)
    show(sampler(), shape.classes, args.out / "examples.png")
    training = begin(args, shape, sampler, console)
    at = training.at
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=1.0)
        while not at.check or (training.done < 1.0 and (args.keep == "last" or at.check - at.best_check < args.patience)):
            at.check += 1
            for loss in training.steps_until(next_check(training.done, args.checks)):
                progress.update(bar, completed=training.done, description=f"step {at.step} loss {loss:.4f}")
            look(args, training, split, loss, console)
    if training.done < 1.0:
        console.print(
            f"stopped after check {at.check}: none is better than check {at.best_check}, and --patience is {args.patience}"
        )
    console.print(f"check {at.best_check} is in {args.out}/checkpoint.pt; next: python tools/export.py {args.out}", soft_wrap=True)


if __name__ == "__main__":
    main()
