"""Which folds several trainings are, by their papers: of one split, each group held out once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from options import words_of


@dataclass(frozen=True, slots=True)
class Fold:
    """The training in a folder: fold `number` of `of`, and the groups that it held out."""

    folder: Path
    number: int
    of: int
    held_out: frozenset[str]


def fold_of(folder: Path, training: dict[str, Any]) -> Fold:
    """The fold that these papers tell of. Raises SystemExit where nothing was held out."""
    if not training.get("held_out"):
        raise SystemExit(f"{folder} held out no group of a folder, so that it is no fold. Leave it out, or train it with --folds.")
    asked = words_of(training["command"])
    return Fold(folder, asked.fold, asked.folds, frozenset(training["held_out"]))


def require_one_split(folds: list[Fold]) -> None:
    """Raises SystemExit for folds of several splits, or for one given twice: their frames would count twice, or never."""
    for one, other in combinations(folds, 2):
        if one.of != other.of:
            raise SystemExit(
                f"{one.folder} is a fold of --folds {one.of}, {other.folder} of --folds {other.of}: give folds of one split."
            )
        if shared := sorted(one.held_out & other.held_out):
            raise SystemExit(
                f"{one.folder} and {other.folder} both held out {shared[0]}, one of {len(shared)} such groups: they would count "
                "twice. Give each fold once, all of one --split-seed."
            )
