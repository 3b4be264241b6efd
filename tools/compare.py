"""Trains several networks alike, times them beside one another, and writes a table of accuracy against speed.

    python tools/compare.py --data folder:Class1 --frame 512x512 --steps 300 --seeds 3 --out docs/measurements/networks.md
    python tools/compare.py --untrained --only tutorial --also 'softmax=--coarse --head softmax --classes pit,dent' --out speed.md

Each candidate is trained by tools/train.py on the same examples, once for each seed. Its weights are those of the last check: the
frames held out judge and choose nothing. It is judged on OpenVINO, in float32 and in 8 bits as `edge-agent calibrate` makes them.
Then all are run in turns, round by round, so that whatever else the machine does falls on each of them alike; a speed is told as a
ratio to the first one. A training that is finished under --work is not done again; one of other words there is refused.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints import at_of, cpu_seconds_of, load, load_last
from examples import Split, load_split
from judged import compiled, eightbit_of, floats_of, medians_of, scores_of
from networks import Network, network_of
from options import (
    ENDLESS,
    Help,
    check,
    differences,
    frame_of,
    parser,
    refusing,
    require_within,
    shape_of,
    size_of,
    source_of,
    told_of,
)
from rich.console import Console
from scores import Scores

FOLDS = 3
OURS = (
    "--folds",
    "--fold",
    "--split-seed",
    "--seed",
    "--out",
    "--checks",
    "--keep",
    "--resume",
    "--minutes",
)  # not to be passed on
SAID_ONCE = ("--data", "--frame")  # to compare.py, of all candidates; not in --also
BOUNDS = dict.fromkeys(("steps", "seeds", "threads"), (1.0, ENDLESS))
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
    """One candidate: how many weights, the scores of each seed in float32 and in 8 bits, the mean CPU time to train."""

    name: str
    weights: int
    floats: tuple[Scores, ...]
    eightbit: tuple[Scores, ...]
    cpu_seconds: float
    is_measured: bool  # that time; else in proportion to the steps


def parse() -> argparse.Namespace:
    """The command line; what it does not know goes to train.py."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    p.add_argument("--data", default="", help="folder:DIR, as for train.py")
    p.add_argument("--frame", default="512x512", help="ROWSxCOLS of the model's input")
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--untrained", action="store_true", help="only time them: weights do not matter to that")
    p.add_argument("--only", default="", help="candidates whose name holds this")
    also = "one more candidate, in the words of train.py; of --steps of its own let NAME tell"
    p.add_argument("--also", default="", metavar="NAME=WORDS", help=also)
    p.add_argument("--threads", type=int, default=2, help="of OpenVINO while timing")
    p.add_argument("--work", type=Path, default=Path("out/compare"))
    p.add_argument("--out", type=Path, required=True, help="Markdown file")
    args, more = p.parse_known_args()
    args.more = more
    check_meant(args)
    return args


def check_meant(args: argparse.Namespace) -> None:
    """Raises SystemExit for what cannot be meant, before anything is trained."""
    require_within(args, BOUNDS)
    name, _, words = args.also.partition("=")
    try:
        given = shlex.split(words)
    except ValueError:  # a quote that is not closed
        given = []
    if args.also and not (name and given):
        raise SystemExit(f"--also {args.also}: say NAME=WORDS, such as 'mine=--stem 4 --levels 2 --coarse'")
    refused = sorted({word.partition("=")[0] for word in [*args.more, *given]} & {*OURS, *SAID_ONCE})
    if refused:
        raise SystemExit(f"{', '.join(refused)}: the same for all candidates, so that they compare. Leave it out.")
    if not args.untrained and isinstance(source_of("--data", args.data), int):
        raise SystemExit(f"--data {args.data}: candidates are judged on a fold of a folder. Say folder:DIR, or --untrained.")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise SystemExit(f"--out {args.out}: name a file, in a folder that is there")


def chosen_of(args: argparse.Namespace) -> dict[str, str]:
    """The candidates asked for and the words of each. Raises SystemExit where there is none."""
    chosen = {name: shape for name, shape in CANDIDATES.items() if args.only in name}
    if args.also:
        name, _, shape = args.also.partition("=")
        chosen[name] = shape
    if not chosen:
        raise SystemExit(f"--only {args.only}: no candidate's name holds this. There are: {'; '.join(CANDIDATES)}")
    return chosen


def words_of(args: argparse.Namespace, shape: str, seed: int, folder: Path) -> list[str]:
    """What train.py is told."""
    where = ["--data", args.data, "--frame", args.frame, "--seed", str(seed), "--out", str(folder)]
    how = ["--folds", str(FOLDS), "--steps", str(args.steps), "--checks", "3"]
    return [*where, *how, *shlex.split(shape), *args.more]


def is_trained(words: list[str], folder: Path, split: Split) -> bool:
    """Whether this training is in the folder and came to its end. Raises SystemExit where another one is there."""
    if not (folder / "last.pt").exists() or not (folder / "checkpoint.pt").exists():
        return False
    told = load(folder / "checkpoint.pt")["training"]
    differing = differences(told["command"], shlex.join(["python", "tools/train.py", *words]))
    asked = parser().parse_args(words)
    if told["data"] != told_of(asked.data) or set(told["held_out"]) != set(split.val.groups):
        differing.append("--data")
    if differing:
        raise SystemExit(f"{folder} holds another training: {', '.join(differing)} differ. Name another --work, or remove it.")
    return bool(at_of(folder)["step"] >= asked.steps)


def train(words: list[str], folder: Path, split: Split) -> None:
    """Trains unless that is done already."""
    if not is_trained(words, folder, split):
        subprocess.run([sys.executable, Path(__file__).with_name("train.py"), *words], check=True)


def split_of(words: list[str]) -> Split:
    """The frames that train.py trains on, and those it holds out."""
    asked = parser().parse_args(words)
    check(asked)
    return load_split(asked.data, 0, 0, asked.folds, asked.fold, asked.split_seed, shape_of(asked), *frame_of(asked))


def untrained(words: str, frame: str) -> Network:
    """A candidate as it is before any training."""
    asked = parser().parse_args(["--data", "", "--out", "", *shlex.split(words), "--frame", frame])
    (rows, cols), shape = size_of(frame), shape_of(asked)
    if rows % shape.stride or cols % shape.stride:
        raise SystemExit(f"--frame {frame}: {words} takes multiples of {shape.stride}")
    network = network_of(shape)
    network.eval()
    return network


def judge(name: str, folders: list[Path], split: Split, rows: int, cols: int, threads: int) -> tuple[Row, tuple[Any, Any]]:
    """One candidate by the weights of its last check, on the frames held out; and the first seed's graphs, float32 and 8 bits."""
    networks = [load_last(folder)[0] for folder in folders]
    graphs = [(floats_of(network), eightbit_of(network, split.train, rows, cols)) for network in networks]
    floats, eightbit = (
        tuple(scores_of(compiled(graph, rows, cols, threads), split.val, rows, cols) for graph in same)
        for same in zip(*graphs, strict=True)
    )
    spent = [cpu_seconds_of(folder) for folder in folders]
    seconds, is_measured = sum(each for each, _ in spent) / len(spent), all(is_whole for _, is_whole in spent)
    return Row(name, weights_in(networks[0]), floats, eightbit, seconds, is_measured), graphs[0]


def weights_in(network: Network) -> int:
    return sum(p.numel() for p in network.parameters())


def table_of(rows: list[Row], medians: list[float]) -> list[str]:
    """Markdown lines in the order of the rows. `medians` has each network's float32, then each one's 8 bits."""
    lines = [
        "| network | weights | AUC by seed | errors at 0.5 | narrowest gap | CPU time to train | speed beside the first "
        "| in 8 bits: AUC | errors at 0.5 | narrowest gap | speed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, median, quick in zip(rows, medians, medians[len(rows) :], strict=False):
        spent = f"{'' if row.is_measured else 'about '}{row.cpu_seconds:.0f} s"
        cells = [row.name, f"{row.weights:,}", *_told(row.floats), spent, f"{medians[0] / median:.1f}"]
        lines.append(f"| {' | '.join([*cells, *_told(row.eightbit), f'{medians[0] / quick:.1f}'])} |")
    return lines


def _told(scores: tuple[Scores, ...]) -> list[str]:
    """AUC and errors of each seed, and the narrowest gap between good frames and defective ones."""
    aucs, errors = (" ".join(map(str, each)) for each in zip(*((each.auc, each.errors) for each in scores), strict=True))
    return [aucs, errors, f"{min(each.gap for each in scores):.2f}"]


def header_of(split: Split, rows: list[Row]) -> str:
    """What the table's figures are of."""
    bad = int(split.val.is_defective.sum())
    told = (
        f"Every network has the weights of its last check; the {len(split.val.pairs)} frames held out, {bad} of them defective, "
        "chose nothing. AUC and errors are each seed's on OpenVINO, float32 and 8 bits; the narrowest gap is the worst seed's."
    )
    if all(row.is_measured for row in rows):
        return told + " CPU time is the mean of whole trainings."
    return (
        told
        + " CPU time is the mean of whole trainings; with *about*, of some it was kept only up to an earlier check, and is told in "
        "proportion to the steps."
    )


def speeds_of(networks: dict[str, Network], rows: int, cols: int, threads: int) -> list[str]:
    """Markdown lines of networks timed beside one another, the first of them as the measure."""
    medians = medians_of([floats_of(network) for network in networks.values()], rows, cols, threads)
    lines = ["| network | weights | median | speed beside the first |", "|---|---|---|---|"]
    for (name, network), median in zip(networks.items(), medians, strict=True):
        lines.append(f"| {name} | {weights_in(network):,} | {median:.1f} ms | {medians[0] / median:.1f} |")
    return lines


def rows_of(args: argparse.Namespace, chosen: dict[str, str], console: Console) -> list[str]:
    """Trains, judges and times the candidates; the file's lines."""
    rows_px, cols_px = size_of(args.frame)
    folders = {
        name: [args.work / f"{number}-{seed}" for seed in range(args.seeds)]
        for number, name in enumerate(CANDIDATES | chosen)
        if name in chosen
    }
    splits = {name: split_of(words_of(args, shape, 0, args.work)) for name, shape in chosen.items()}
    for name, shape in reversed(chosen.items()):  # the quick ones first
        for seed, folder in enumerate(folders[name]):
            console.rule(f"{name}, seed {seed}")
            train(words_of(args, shape, seed, folder), folder, splits[name])
    judged = [judge(name, each, splits[name], rows_px, cols_px, args.threads) for name, each in folders.items()]
    rows, graphs = [row for row, _ in judged], [each for _, each in judged]
    medians = medians_of([graph for same in zip(*graphs, strict=True) for graph in same], rows_px, cols_px, args.threads)
    return [header_of(next(iter(splits.values())), rows), "", *table_of(rows, medians)]


@refusing()
def main() -> None:
    args, console = parse(), Console()
    chosen = chosen_of(args)
    if args.untrained:
        networks = {name: untrained(f"{shape} {shlex.join(args.more)}", args.frame) for name, shape in chosen.items()}
        lines = speeds_of(networks, *size_of(args.frame), args.threads)
    else:
        lines = rows_of(args, chosen, console)
    words = [told_of(word) if word == args.data else word for word in sys.argv[1:]]
    args.out.write_text("\n".join([f"    {shlex.join(['python', 'tools/compare.py', *words])}", "", *lines]) + "\n")
    console.print("\n".join(lines), soft_wrap=True)


if __name__ == "__main__":
    main()
