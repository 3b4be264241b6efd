"""What train.py leaves: checkpoint.pt, the network kept and its papers; last.pt, where the training stands."""

from __future__ import annotations

import argparse
import os
import pickle
import shlex
import struct
import sys
from pathlib import Path
from typing import Any

import torch
from examples import Split
from networks import Network, network_of
from options import differences, told_of
from unet import Shape

# What reading half a file, or one of something else, may raise; an unpickler that is given noise raises nearly anything.
UNREADABLE = (RuntimeError, EOFError, pickle.UnpicklingError, struct.error, LookupError, ValueError, TypeError, AttributeError)
# With these a training goes on: how long, where and how often it is looked at changes nothing of what it learns from.
GOES_ON_WITH = {"out", "terms", "resume", "patience", "checks", "steps", "minutes", "threads", "device"}
FRAMES = {"held_out": "the groups held out", "trained_on_sha256": "the images trained on"}


def origin_of(args: argparse.Namespace, split: Split) -> dict[str, Any]:
    """What the training that this command line asks for learns from, and the command; no word of where the data lie."""
    data = told_of(args.data)
    told: dict[str, Any] = {"data": data, "terms": args.terms, "split": split.words}
    if data.startswith("folder:"):
        told["held_out"], told["trained_on"] = (sorted(set(each.groups)) for each in (split.val, split.train))
        told["trained_on_sha256"] = sorted(split.train.hashes)
    words = (word.replace(args.data, data) for word in sys.argv[1:] if word != "--resume")  # it tells how to begin
    return {**told, "command": shlex.join(["python", "tools/train.py", *words])}


def require_same(last: Path, origin: dict[str, Any]) -> None:
    """Raises SystemExit where last.pt is of a training of other examples, or another network, than `origin` tells of.

    Gone on with, it would be judged on frames that it was trained on.
    """
    if not last.exists():
        raise SystemExit(f"--resume: {last} is not there; begin without it")
    # a last.pt that tells nothing of itself has its training's papers beside it
    told = load(last).get("training") or load(last.with_name("checkpoint.pt"))["training"]
    differing = differences(origin["command"], told["command"], GOES_ON_WITH)
    differing += [words for key, words in FRAMES.items() if key in told and set(told[key]) != set(origin.get(key, ()))]
    if differing:
        raise SystemExit(
            f"--resume: {last} is of another training: {', '.join(differing)} differ. Go on with what it began with, "
            f"or begin anew in another --out. It began with: {told['command']}"
        )


def save(content: dict[str, Any], file: Path) -> None:
    """The file whole, or as it was: a stop meanwhile leaves no half of one."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def load(file: Path, device: str = "cpu") -> dict[str, Any]:
    """What `save` wrote. Raises SystemExit where it is not there, or is something else."""
    try:
        with file.open("rb") as stream:
            content: dict[str, Any] = torch.load(stream, map_location=device)
        if not content.keys() & {"training", "at"}:
            raise TypeError("weights alone, or something else with names")
    except FileNotFoundError as error:
        raise SystemExit(f"{file} is not there: train it first, with tools/train.py --out {file.parent}") from error
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # nobody may read it, or it is a folder
        raise SystemExit(f"{file} is not what tools/train.py leaves, or only a part of it: train it again") from error
    return content


def load_network(file: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint.pt in evaluation mode, and the papers that lie with its weights."""
    papers = load(file)
    try:
        network = network_of(Shape(**papers["shape"]))
        network.load_state_dict(papers.pop("weights"))
    except (LookupError, TypeError, RuntimeError) as error:
        raise SystemExit(
            f"{file} holds a network that these tools do not make: {error}. Take those that trained it, or train it again."
        ) from error
    return network.eval(), papers


def load_last(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The same with the weights of the last check, whatever was kept: nothing has chosen these."""
    network, papers = load_network(folder / "checkpoint.pt")
    network.load_state_dict(load(folder / "last.pt")["mean"])
    return network, papers


def at_of(folder: Path) -> dict[str, Any]:
    """How far the training is: `step`, `seconds`, `check`, and `cpu_seconds` where train.py kept them."""
    at: dict[str, Any] = load(folder / "last.pt")["at"]
    return at


def cpu_seconds_of(folder: Path) -> tuple[float, bool]:
    """CPU time of the whole training, and whether it was measured; else it is that up to a check, in proportion to the steps."""
    at = at_of(folder)
    if "cpu_seconds" in at:
        return float(at["cpu_seconds"]), True
    kept = load(folder / "checkpoint.pt")["training"]
    return kept["cpu_seconds"] * at["step"] / kept["steps"], bool(kept["steps"] == at["step"])
