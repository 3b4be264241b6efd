"""Which images of a dataset a model is judged on: groups that are asked for, those it never saw, and words on the others."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from edge_agent.commands.evaluation.papers import Match, Papers, is_image, match, names_in_training
from edge_agent.dataset import Dataset
from edge_agent.errors import UsageError
from edge_agent.typewords import counted

_MOST_NAMES = 10


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
        words.append(f"{option} {counted(len(named), 'group')}")
    if args.held_out:
        groups &= _held_out(dataset, papers)
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
            lines = args.groups_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--groups-file {args.groups_file} cannot be read: {error}. Give a text file, one group a line."
            ) from None
        named["--groups-file"] = {line.strip() for line in lines if line.strip()}
    return named


def _held_out(dataset: Dataset, papers: Papers) -> frozenset[str]:
    """The groups of these images that the papers hold out. Raises UsageError where there can be none."""
    if papers.held_out is None:
        raise UsageError(
            "--held-out: the model's papers (model.yaml) name no groups that were kept from training: neither "
            "training.held_out nor the words of training.split. Name them with --groups or --groups-file."
        )
    if not papers.held_out:
        raise UsageError(
            f"--held-out: by its papers (training.held_out in model.yaml is empty) the model was trained on every image of "
            f"{papers.data or 'its data'}, so that nothing is left to judge it on. Judge it on images it has not seen, without "
            "--held-out; what networks trained alike did on such stands in the model's README.md, if anybody measured it."
        )
    found = match(dataset, papers.held_out, papers)
    if not found.surely | found.alike:
        raise UsageError(
            f"--held-out: none of the {len(papers.held_out)} groups that the model's papers hold out of "
            f"{papers.data or 'its data'} is in {dataset.folder}: {_shown(sorted(papers.held_out))}. "
            "Give the data that it was trained on, or leave out --held-out."
        )
    return found.surely | found.alike


def seen_by(dataset: Dataset, papers: Papers) -> Match:
    """The groups of these images that the model was trained on by its papers, and those of which only the name says so."""
    found = match(dataset, papers.trained_on or (), papers)
    if papers.hashes is None:
        return found
    surely = frozenset(each.group for each in dataset.images if papers.has_image(each.image))
    return Match(surely, (found.surely | found.alike) - surely)


def warning_of(dataset: Dataset, papers: Papers) -> str:
    """A loud word where training data is judged, may be, or nobody can tell; '' where not."""
    told_of = papers.trained_on is not None or papers.hashes is not None
    seen = seen_by(dataset, papers).surely if told_of else _not_held_out(dataset, papers)
    if seen:
        count = sum(each.group in seen for each in dataset.images)
        return (
            f"the model {'was' if told_of else 'may have been'} TRAINED on {count} of these {len(dataset.images)} images "
            f"({counted(len(seen), 'group')}: {_shown(sorted(seen))}), {_known_by(papers)}. These figures flatter it. "
            f"{_remedy(papers)}"
        )
    if papers.held_out is None and not told_of and papers.is_of(dataset):
        return "the model's papers name this data and no groups held out of it: these images may be what it was TRAINED on."
    if papers.held_out == frozenset() and not _can_be_told(dataset, papers):
        return (
            f"the model was trained on every image of {papers.data or 'its data'}, and its papers do not tell whether these "
            f"{len(dataset.images)} images are among them: they may be what it was TRAINED on. "
            "If they are, these figures flatter it."
        )
    return ""


def note_of(dataset: Dataset, papers: Papers, by_held_out: bool) -> str:
    """A soft word where groups are called as those of the training are, and nothing else says that they are those; '' where not."""
    names = papers.held_out if by_held_out else papers.trained_on
    found = match(dataset, names or (), papers) if by_held_out else seen_by(dataset, papers)
    if not found.alike:
        return ""
    said = f"{len(found.alike)} groups ({_shown(sorted(found.alike))}) have names that {'held-out' if by_held_out else 'training'} "
    return said + (
        f"groups of {papers.data or 'the training data'} have, but {dataset.folder.resolve().name} is not known to be that data. "
        f"If it is a copy of it, these are {'the ones it never saw' if by_held_out else 'images that the model was trained on'}; "
        "if its groups are only numbered alike, this means nothing."
    )


def _not_held_out(dataset: Dataset, papers: Papers) -> frozenset[str]:
    """The groups that lie in the training's data and were not kept from it."""
    if papers.held_out is None:
        return frozenset()
    inside = [(each.group, names_in_training(each, dataset, papers)) for each in dataset.images]
    return frozenset(group for group, names in inside if names and not names & papers.held_out)


def _can_be_told(dataset: Dataset, papers: Papers) -> bool:
    """Files can be compared with the papers, or both go by names of the same sort: images by themselves, or parts."""
    if papers.hashes is not None:
        return True
    if papers.trained_on is None:
        return False
    return bool({is_image(name) for name in papers.trained_on} & {is_image(name) for name in dataset.groups})


def _known_by(papers: Papers) -> str:
    return "known by their content" if papers.hashes is not None else f"known by their names in {papers.data or 'its data'}"


def _remedy(papers: Papers) -> str:
    if papers.held_out:
        return "Judge it with --held-out."
    return "Nothing was held out of the training: judge it on images it has not seen. What it may do on such is in its README.md."


def _shown(names: Collection[str]) -> str:
    first = list(names)[:_MOST_NAMES]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")
