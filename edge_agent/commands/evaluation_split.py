"""Which images of a dataset a model is judged on: groups that are asked for, those it never saw, and a warning for the others."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edge_agent.dataset import Dataset
from edge_agent.errors import UsageError
from edge_agent.inference.model import ModelPapers

_IN_WORDS = re.compile(r"of the groups ([^;]+)$")
_MOST_NAMES = 10


@dataclass(frozen=True, slots=True)
class Papers:
    """What model.yaml says of groups (a group may be an image by itself); None where it says nothing."""

    data: str
    held_out: frozenset[str] | None
    trained_on: frozenset[str] | None


def read_papers(papers: ModelPapers) -> Papers:
    """Read `training`: the lists `held_out` and `trained_on`, or groups held out in the words of `split`."""
    training = papers.training
    held_out = _names(training.get("held_out"))
    if held_out is None and (words := _IN_WORDS.search(str(training.get("split", "")))):
        held_out = frozenset(name.strip() for name in words[1].split(","))
    data = Path(str(training.get("data", "")).partition(":")[2]).name
    return Papers(data, held_out, _names(training.get("trained_on")))


def _names(value: object) -> frozenset[str] | None:
    return frozenset(map(str, value)) if isinstance(value, list) else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--groups", metavar="A,B,..", help="judge only images of these groups")
    parser.add_argument("--exclude-groups", metavar="A,B,..", help="leave images of these groups out")
    parser.add_argument("--groups-file", type=Path, metavar="FILE", help="judge only the groups in this file, one a line")
    parser.add_argument("--held-out", action="store_true", help="judge only what model.yaml says was kept from training")


def choose(dataset: Dataset, papers: Papers, args: argparse.Namespace) -> tuple[Dataset, str]:
    """Return the images to judge and the choice in words. Raises UsageError for unknown groups and for an empty choice."""
    groups, words = set(dataset.groups), []
    for option, named in _named(args).items():
        unknown = sorted(named - set(dataset.groups))
        if unknown:
            raise UsageError(
                f"{option}: {dataset.folder} has no group {_shown(unknown)}. "
                f"It has {len(dataset.groups)}: {_shown(dataset.groups)}."
            )
        groups = groups - named if option == "--exclude-groups" else groups & named
        words.append(f"{option} {len(named)} groups")
    if args.held_out:
        if papers.held_out is None:
            raise UsageError(
                "--held-out: the model's papers (model.yaml) name no groups that were kept from training: neither "
                "training.held_out nor the words of training.split. Name them with --groups or --groups-file."
            )
        groups &= papers.held_out
        words.append("held out of the training by the model's papers")
    chosen = dataset.of_groups(groups)
    if not chosen.images:
        raise UsageError(f"no image of {dataset.folder} is left to judge: {' and '.join(words)}. Choose other groups.")
    return chosen, ", ".join(words) or "all images"


def _named(args: argparse.Namespace) -> dict[str, set[str]]:
    """The groups that each option names."""
    named = {}
    for option, value in (("--groups", args.groups), ("--exclude-groups", args.exclude_groups)):
        if value is not None:
            named[option] = {name.strip() for name in value.split(",") if name.strip()}
    if args.groups_file is not None:
        try:
            lines = args.groups_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--groups-file {args.groups_file} cannot be read: {error}. Give a text file, one group a line."
            ) from None
        named["--groups-file"] = {line.strip() for line in lines if line.strip()}
    return named


def trained_on(dataset: Dataset, papers: Papers) -> list[str]:
    """The groups of these images that the model was trained on, or may have been, by its papers; sorted."""
    groups = set(dataset.groups)
    if papers.trained_on is not None:
        return sorted(groups & papers.trained_on)
    is_same_data = bool(papers.data) and papers.data == dataset.folder.resolve().name
    return sorted(groups - papers.held_out) if is_same_data and papers.held_out is not None else []


def warning_of(dataset: Dataset, papers: Papers) -> str:
    """A loud word where training data is judged, or may be; '' where not."""
    seen = trained_on(dataset, papers)
    if seen:
        count = sum(each.group in set(seen) for each in dataset.images)
        surely = "was" if papers.trained_on is not None else "may have been"
        return (
            f"the model {surely} TRAINED on {count} of these {len(dataset.images)} images ({len(seen)} groups: {_shown(seen)}). "
            "These figures flatter it. Judge it with --held-out."
        )
    if papers.held_out is None and papers.trained_on is None and papers.data == dataset.folder.resolve().name:
        return "the model's papers name this data and no groups held out of it: these images may be what it was TRAINED on."
    return ""


def _shown(names: Collection[str]) -> str:
    first = list(names)[:_MOST_NAMES]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")
