"""The command line of train.py, which says all of a training: compare.py and export.py read the words of one by it."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from flaws import DRAWN_BY
from unet import Shape

from edge_agent.cli import Defaults
from edge_agent.errors import EdgeAgentError
from edge_agent.records import NAME_PATTERN

NOT_THE_TRAINING = {"out", "data", "terms", "resume", "patience", "keep"}  # these leave the weights of the last check as they are
ENDLESS = math.inf
BOUNDS = {  # least and most; above 0 where an option makes no sense at 0
    **dict.fromkeys(("count", "filters", "levels", "rows", "cols", "checks", "patience", "batch", "threads"), (1, ENDLESS)),
    **dict.fromkeys(("val", "steps", "seed", "offset", "grain", "peak", "decay"), (0, ENDLESS)),
    **dict.fromkeys(("window", "paste", "draw", "defect_share", "encoder_rate"), (0, 1)),
    **dict.fromkeys(("light", "dropout"), (0, 0.99)),
    "rate": (1e-9, 1),
    "minutes": (1e-3, ENDLESS),
}


class Help(Defaults, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and each option's default."""


class OfPapers(argparse.ArgumentParser):
    """Reads what papers tell. Raises SystemExit for words that this version does not have, and does not tell those it has."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(f"{message}. Take the tools that trained it, or train it again.")


@contextmanager
def refusing() -> Iterator[None]:
    """What edge_agent refuses, and a file that cannot be had, end a tool with their line, not with a traceback."""
    try:
        yield
    except (EdgeAgentError, OSError) as error:
        raise SystemExit(str(error)) from error


def parser(words: str = "", kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The command line. Options are never shortened: a shortened one could be another program's."""
    p = kind(description=words, formatter_class=Help, allow_abbrev=False)
    _data(p.add_argument_group("data"))
    _network(p.add_argument_group("network"))
    _augmentation(p.add_argument_group("augmentation"))
    _training(p.add_argument_group("training"))
    p.add_argument("--out", type=Path, required=True, help="models/<name>")
    return p


def _data(data: Any) -> None:
    data.add_argument("--data", required=True, help="generator:SEED or folder:DIR")
    data.add_argument("--terms", default="", help="the terms of the data, for the model's papers")
    data.add_argument("--count", type=int, default=400, help="parts of the generator to train on")
    data.add_argument("--val", type=int, default=100, help="parts of the generator to validate on")
    data.add_argument("--folds", type=int, default=0, help="of a folder, hold out one group in so many; 0 trains on everything")
    data.add_argument("--fold", type=int, default=0, help="which of the folds, from 0")
    data.add_argument("--split-seed", type=int, default=0, help="another one deals the groups out to the folds otherwise")
    data.add_argument("--classes", default="defect", help="defect classes, by comma; with one, every mask counts as it")


def _network(network: Any) -> None:
    network.add_argument("--encoder", default="plain", choices=("plain", "lite0"), help="lite0: begins with ImageNet's weights")
    network.add_argument("--filters", type=int, default=16, help="channels of the first level; each level below has twice as many")
    network.add_argument("--levels", type=int, default=3, help="how often rows and columns are halved below the stem")
    network.add_argument(
        "--stem", type=int, default=4, choices=(1, 2, 4, 8), help="side of the square of pixels folded into channels"
    )
    network.add_argument("--coarse", action="store_true", help="one logit for each cell of the stem, not for each pixel")
    network.add_argument("--normalise", action="store_true", help="each frame by its own mean and deviation, inside the network")
    network.add_argument("--head", default="sigmoid", choices=("sigmoid", "softmax"), help="each class on its own, or one of all")
    network.add_argument("--dropout", type=float, default=0.0, help="share of the lowest level's channels left out of a step")
    network.add_argument("--frame", default="", help="ROWSxCOLS of the model's input; the default is that of training")


def _augmentation(augment: Any) -> None:
    augment.add_argument("--rows", type=int, default=512, help="of the examples trained on: a crop of the frame")
    augment.add_argument("--cols", type=int, default=512, help="the same")
    augment.add_argument("--window", type=float, default=0.0, help="not a crop: at least this share of each side, stretched")
    augment.add_argument("--light", type=float, default=0.15, help="how far gain and gamma leave 1")
    augment.add_argument("--offset", type=float, default=12.0, help="gray levels")
    augment.add_argument("--grain", type=float, default=0.0, help="most noise, gray levels")
    augment.add_argument("--paste", type=float, default=0.0, help="share of good frames that get another's defect")
    augment.add_argument("--draw", type=float, default=0.0, help="share of good frames that get a drawn flaw")
    augment.add_argument("--flaws", default="", help=f"CLASS=FLAW by comma, of {', '.join(DRAWN_BY)}")
    augment.add_argument("--keep-grain", action="store_true", help="mirrored only, no quarter turns")


def _training(training: Any) -> None:
    training.add_argument(
        "--loss", default="both", choices=("both", "dice", "entropy"), help="smoothed Dice, cross-entropy, or their sum"
    )
    training.add_argument("--peak", type=float, default=0.3, help="weight of each frame's peak in the loss")
    training.add_argument("--defect-share", type=float, default=0.3, help="of the cross-entropy, however few pixels are defects")
    training.add_argument("--minutes", type=float, default=10.0, help="the rate falls to nothing in this time")
    training.add_argument("--steps", type=int, default=0, help="instead of minutes")
    training.add_argument("--checks", type=int, default=12, help="validations, evenly spaced")
    training.add_argument("--keep", default="last", choices=("last", "best"), help="best: chosen on the frames held out")
    training.add_argument(
        "--patience", type=int, default=6, help="with --keep best: stop after so many checks without a better one"
    )
    training.add_argument("--batch", type=int, default=8, help="examples of a step")
    training.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    share = "share of --rate for what --encoder lite0 has learnt before; 0 leaves it as it is, which is faster too"
    training.add_argument("--encoder-rate", type=float, default=0.25, help=share)
    training.add_argument("--decay", type=float, default=1e-3, help="of the weights")
    training.add_argument("--seed", type=int, default=0, help="weights, order and augmentation")
    training.add_argument("--threads", type=int, default=1, help="CPU cores to use")
    training.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of torch; cuda where there is one"
    )
    training.add_argument("--full-precision", action="store_true", help="on a GPU: float32 throughout, no mixed precision")
    training.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")


def classes_of(args: argparse.Namespace) -> list[str]:
    """The names of --classes."""
    return [name.strip() for name in args.classes.split(",")]


def shape_of(args: argparse.Namespace) -> Shape:
    """The network that is asked for."""
    classes = tuple(classes_of(args))
    fine = not args.coarse
    return Shape(args.filters, args.levels, args.stem, args.head, classes, args.normalise, fine, args.dropout, args.encoder)


def size_of(text: str) -> tuple[int, int]:
    """Rows and cols of ROWSxCOLS. Raises SystemExit."""
    rows, _, cols = text.partition("x")
    if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
        raise SystemExit(f"--frame {text}: say ROWSxCOLS in pixels, such as 512x512")
    return int(rows), int(cols)


def frame_of(args: argparse.Namespace) -> tuple[int, int]:
    """Rows and cols of the model's input."""
    return size_of(args.frame) if args.frame else (args.rows, args.cols)


def source_of(option: str, data: str) -> int | Path:
    """The seed of generator:SEED, the folder of folder:DIR. Raises SystemExit for anything else."""
    kind, _, where = data.partition(":")
    if kind == "generator" and where.isdecimal():
        return int(where)
    if kind != "folder" or not where:
        raise SystemExit(f"{option} {data}: say generator:SEED, a whole number, or folder:DIR")
    return Path(where)


def check(args: argparse.Namespace) -> None:
    """Raises SystemExit for what cannot be meant."""
    _check_bounds(args)
    _check_data(args)
    _check_augmentation(args)
    _check_sizes(args)
    _check_effect(args)


def require_within(args: argparse.Namespace, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raises SystemExit for an option beyond its least or most, or that is no number."""
    for name, (least, most) in bounds.items():
        value = getattr(args, name)
        if not least <= value <= most:
            upward = f"{least:g} or more" if most == ENDLESS else f"{least:g} to {most:g}"
            raise SystemExit(f"--{name.replace('_', '-')} {value}: take {upward}")


def _check_bounds(args: argparse.Namespace) -> None:
    require_within(args, BOUNDS)
    try:
        is_there = torch.cuda.is_available() or torch.device(args.device).type != "cuda"
    except RuntimeError:
        is_there = False
    if not is_there:
        raise SystemExit(f"--device {args.device}: torch has no such device here; leave it out")


def _check_data(args: argparse.Namespace) -> None:
    is_drawn = isinstance(source_of("--data", args.data), int)
    _check_names(args)
    names = [name.casefold() for name in classes_of(args)]
    if not all(names) or len(set(names)) < len(names):
        raise SystemExit(f"--classes {args.classes}: name each class once")
    if is_drawn and len(names) > 1:
        raise SystemExit(f"--data {args.data} --classes {args.classes}: drawn parts have one class of defect; name one")
    if args.folds < 0 or args.folds == 1 or not 0 <= args.fold < max(args.folds, 1):
        raise SystemExit(
            f"--folds {args.folds} --fold {args.fold}: take 2 folds or more, and one from 0 to folds - 1; or --folds 0"
        )
    if args.keep == "best" and not (args.val if is_drawn else args.folds):
        raise SystemExit("--keep best: nothing is held out to choose by. Hold some out (--folds, --val), or keep the last check.")


def _check_names(args: argparse.Namespace) -> None:
    """Refuses, before the work, what no model may be called, nor a class of it."""
    for option, given, names in (("--out", args.out, [args.out.name]), ("--classes", args.classes, classes_of(args))):
        for name in names:
            if name and not re.match(NAME_PATTERN, name):
                raise SystemExit(
                    f"{option} {given}: a model with {name!r} could not be exported. Take letters, digits, dot, underscore and "
                    "dash, at most 64, the first a letter or digit; of a class in the data, too."
                )


def _check_augmentation(args: argparse.Namespace) -> None:
    if bool(args.draw) != bool(args.flaws):
        raise SystemExit(
            f"--draw {args.draw:g} --flaws '{args.flaws}': one says how often, the other what is drawn. Give both, or none."
        )
    if args.paste + args.draw > 1:
        raise SystemExit(f"--paste {args.paste:g} --draw {args.draw:g}: together they are at most 1, all of the good frames")


def _check_sizes(args: argparse.Namespace) -> None:
    (rows, cols), stride = frame_of(args), shape_of(args).stride
    if any(size % stride for size in (rows, cols, args.rows, args.cols)):
        raise SystemExit(f"--rows {args.rows} --cols {args.cols} --frame {rows}x{cols}: use multiples of {stride}")
    if args.encoder == "lite0" and (args.stem, args.levels, args.coarse) != (4, 2, True):
        raise SystemExit(
            "--encoder lite0 has cells of 4x4 pixels and halves them twice: add --coarse --levels 2, leave --stem at 4"
        )
    if args.window and (args.rows, args.cols) != (rows, cols):
        raise SystemExit(
            f"--window {args.window} stretches examples to --rows {args.rows} --cols {args.cols}, but they are judged at "
            f"{rows}x{cols}, where defects have another size. Leave --frame out, or --window."
        )
    if args.rows > rows or args.cols > cols:
        raise SystemExit(f"--rows {args.rows} --cols {args.cols}: a crop is no larger than the frame, {rows}x{cols}")


def _check_effect(args: argparse.Namespace) -> None:
    """Refuses what is not left at its default and would change nothing beside the other options."""
    is_drawn, defaults = isinstance(source_of("--data", args.data), int), parser().parse_args(["--data", "", "--out", ""])
    without_effect = (
        (is_drawn, ("folds", "fold", "split_seed"), "of drawn parts, --val are held out"),
        (not is_drawn, ("count", "val"), "a folder is taken whole, and --folds hold some of it out"),
        (not args.folds, ("split_seed",), "without --folds nothing is dealt out"),
        (args.steps > 0, ("minutes",), f"it is --steps {args.steps} that say how long"),
        (args.keep == "last", ("patience",), "only --keep best stops early"),
        (args.encoder == "plain", ("encoder_rate",), "--encoder plain has learnt nothing before"),
    )
    for is_so, names, reason in without_effect:
        for name in names:
            if is_so and (value := getattr(args, name)) != getattr(defaults, name):
                raise SystemExit(f"--{name.replace('_', '-')} {value} changes nothing: {reason}. Leave it out.")


def told_of(data: str) -> str:
    """The data for papers. Of a folder only its name is kept, that of a link where it is one: where it lay tells nothing."""
    kind, _, where = data.partition(":")
    return f"folder:{name_of(Path(where))}" if kind == "folder" else data


def name_of(folder: Path) -> str:
    """What the folder is called, that of a link where it is one; of `.` and `..`, what they are."""
    return (folder if folder.name.strip(".") else folder.resolve()).name


def words_of(command: str) -> argparse.Namespace:
    """What a training was asked for, by its command line as the papers tell it, program first.

    Raises SystemExit for one that this version cannot read.
    """
    try:
        return parser(kind=OfPapers).parse_args(shlex.split(command)[2:])
    except SystemExit as error:
        raise SystemExit(f"a training's papers tell `{command}`, which is not of this version of tools/train.py: {error}") from None


def differences(command: str, other: str, leave_out: set[str] = NOT_THE_TRAINING) -> list[str]:
    """The options, sorted, in which two trainings differ: command lines as the papers tell them, program first."""
    ours, theirs = (vars(words_of(each)) for each in (command, other))
    return sorted(f"--{name.replace('_', '-')}" for name in ours.keys() - leave_out if ours[name] != theirs[name])
