"""Trains several networks alike, times them beside one another, and writes a table of accuracy against speed.

    python tools/compare.py --data folder:Class1 --frame 512x512 --steps 300 --seeds 3 --out docs/measurements/networks.md

Each candidate is trained by tools/train.py on the same examples, once for each seed, and judged on the frames held out. Then all
are run on OpenVINO in turns, round by round, so that whatever else the machine does falls on each of them alike; a speed is told
as a ratio to the slowest-known one, the tutorial's U-Net. The first seed's network is also quantised as `edge-agent calibrate`
does it, judged and timed. What is already trained under --work is not trained again.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples import Split, load_split
from judged import compiled, eightbit_of, floats_of, medians_of, scores_of
from rich.console import Console
from scores import Scores
from unet import Shape, UNet

FOLDS = 3
CANDIDATES = {
    "tutorial's U-Net, 16 filters": "--stem 1 --levels 4 --filters 16",
    "decks' U-Net, 8 filters": "--stem 1 --levels 4 --filters 8",
    "2x2 stem, 16 filters, 3 levels": "--stem 2 --levels 3 --filters 16",
    "4x4 stem, 32 filters, 3 levels, coarse": "--stem 4 --levels 3 --filters 32 --coarse",
    "4x4 stem, 16 filters, 3 levels": "--stem 4 --levels 3 --filters 16",
    "4x4 stem, 16 filters, 3 levels, coarse": "--stem 4 --levels 3 --filters 16 --coarse",
    "4x4 stem, 8 filters, 3 levels, coarse": "--stem 4 --levels 3 --filters 8 --coarse",
    "8x8 stem, 16 filters, 2 levels, coarse": "--stem 8 --levels 2 --filters 16 --coarse",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate: weights, AUC and errors at 0.5 of each seed, the narrowest gap between good and defective, training time."""

    name: str
    weights: int
    aucs: tuple[float, ...]
    errors: tuple[int, ...]
    gap: float
    seconds: float


def parse() -> argparse.Namespace:
    """The command line; what it does not know goes to train.py."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="", help="folder:DIR, as for train.py")
    p.add_argument("--frame", default="512x512", help="ROWSxCOLS of the model's input")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--plain-seeds", type=int, help="of the networks with a 1x1 or 2x2 stem, which take long; default as --seeds")
    p.add_argument("--untrained", action="store_true", help="only time them: weights do not matter to that")
    p.add_argument("--only", default="", help="candidates whose name holds this")
    p.add_argument(
        "--also", default="", metavar="NAME=WORDS", help="one more candidate, such as 'tiles=--stem 4 --levels 4 --filters 16'"
    )
    p.add_argument("--threads", type=int, default=2, help="of OpenVINO while timing")
    p.add_argument("--work", type=Path, default=Path("out/compare"))
    p.add_argument("--out", type=Path, required=True, help="Markdown file")
    args, more = p.parse_known_args()
    args.more = more
    return args


def seeds_of(args: argparse.Namespace, shape: str) -> int:
    """How many seeds a candidate of this shape is trained with."""
    is_plain = shape.split()[1] in ("1", "2")
    return int(args.plain_seeds if is_plain and args.plain_seeds is not None else args.seeds)


def train(args: argparse.Namespace, shape: str, folder: Path, seed: int) -> None:
    """Trains unless that is done already."""
    if (folder / "checkpoint.pt").exists():
        return
    how = ["--folds", str(FOLDS), "--steps", str(args.steps), "--checks", "3", "--patience", "99", *shlex.split(shape), *args.more]
    where = ["--data", args.data, "--frame", args.frame, "--seed", str(seed), "--out", str(folder)]
    subprocess.run([sys.executable, Path(__file__).with_name("train.py"), *where, *how], check=True)


def row_of(name: str, folders: list[Path]) -> Row:
    """What the checkpoints of one candidate say."""
    kept: list[dict[str, Any]] = [torch.load(folder / "checkpoint.pt") for folder in folders]
    scores = [each["scores"] for each in kept]
    half = [next(at for at in each["at"] if at["threshold"] == 0.5) for each in scores]
    gap = min(each["lowest_bad"] - each["highest_good"] for each in scores)
    count = sum(p.numel() for p in load(folders[0]).parameters())
    errors = tuple(at["fp"] + at["fn"] for at in half)
    seconds = float(np.mean([each["training"]["cpu_seconds"] for each in kept]))
    return Row(name, count, tuple(each["auc"] for each in scores), errors, gap, seconds)


def load(folder: Path) -> UNet:
    """The network of a checkpoint, in evaluation mode."""
    kept = torch.load(folder / "checkpoint.pt")
    network = UNet(Shape(**kept["shape"]))
    network.load_state_dict(kept["weights"])
    network.eval()
    return network


def untrained(shape: str) -> UNet:
    """A candidate as it is before any training."""
    p = argparse.ArgumentParser()
    for name in ("--stem", "--levels", "--filters"):
        p.add_argument(name, type=int)
    p.add_argument("--coarse", action="store_true")
    args = p.parse_args(shlex.split(shape))
    network = UNet(Shape(args.filters, args.levels, args.stem, fine=not args.coarse))
    network.eval()
    return network


def split_of(args: argparse.Namespace, shape: Shape, rows: int, cols: int) -> Split:
    """The frames that train.py trained on, and those it held out."""
    return load_split(args.data, 0, 0, FOLDS, 0, 0, shape, rows, cols)


def table_of(rows: list[Row], eightbit: list[Scores], medians: list[float]) -> list[str]:
    """Markdown lines, the fastest network last. `medians` has each network's float32, then each one's 8 bits."""
    lines = [
        "| network | weights | AUC by seed | errors at 0.5 | narrowest gap | CPU time to train | speed beside the first "
        "| in 8 bits: AUC, errors at 0.5, gap | speed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, scores, median, quick in zip(rows, eightbit, medians, medians[len(rows) :], strict=False):
        aucs, errors = (" ".join(map(str, each)) for each in (row.aucs, row.errors))
        told = (
            f"| {row.name} | {row.weights:,} | {aucs} | {errors} | {row.gap:.2f} | {row.seconds:.0f} s | {medians[0] / median:.1f} "
        )
        lines.append(told + f"| {scores.auc}, {scores.errors}, {scores.gap:.2f} | {medians[0] / quick:.1f} |")
    return lines


def speeds_of(networks: dict[str, UNet], rows: int, cols: int, threads: int) -> list[str]:
    """Markdown lines of networks timed beside one another, the first of them as the measure."""
    medians = medians_of([floats_of(network) for network in networks.values()], rows, cols, threads)
    lines = ["| network | weights | speed beside the first |", "|---|---|---|"]
    for (name, network), median in zip(networks.items(), medians, strict=True):
        lines.append(f"| {name} | {sum(p.numel() for p in network.parameters()):,} | {medians[0] / median:.1f} |")
    return lines


def main() -> None:
    args, console = parse(), Console()
    rows_px, cols_px = (int(size) for size in args.frame.split("x"))
    chosen = {name: shape for name, shape in CANDIDATES.items() if args.only in name}
    if args.also:
        name, _, shape = args.also.partition("=")
        chosen[name] = shape
    if args.untrained:
        networks = {name: untrained(shape) for name, shape in chosen.items()}
        lines = speeds_of(networks, rows_px, cols_px, args.threads)
        args.out.write_text("\n".join(lines) + "\n")
        console.print("\n".join(lines))
        return
    folders = {
        name: [args.work / f"{number}-{seed}" for seed in range(seeds_of(args, shape))]
        for number, (name, shape) in enumerate((CANDIDATES | chosen).items())
        if name in chosen
    }
    for name, shape in reversed(chosen.items()):  # the quick ones first
        for seed, folder in enumerate(folders[name]):
            console.rule(f"{name}, seed {seed}")
            train(args, shape, folder, seed)
    trained = [load(each[0]) for each in folders.values()]
    split = split_of(args, trained[0].shape, rows_px, cols_px)
    eightbit = [eightbit_of(network, split.train, rows_px, cols_px) for network in trained]
    scores = [scores_of(compiled(graph, rows_px, cols_px, args.threads), split.val, rows_px, cols_px) for graph in eightbit]
    medians = medians_of([*map(floats_of, trained), *eightbit], rows_px, cols_px, args.threads)
    lines = table_of([row_of(name, each) for name, each in folders.items()], scores, medians)
    command = shlex.join(["python", *sys.argv]).replace(args.data, f"folder:{Path(args.data.partition(':')[2]).name}")
    args.out.write_text("\n".join([f"    {command}", "", *lines]) + "\n")
    console.print("\n".join(lines))


if __name__ == "__main__":
    main()
