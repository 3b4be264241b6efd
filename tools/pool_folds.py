"""Thresholds by what several folds say together, and what such thresholds are worth on a fold that did not choose them.

    python tools/pool_folds.py out/ev0 out/ev1 out/ev2 out/ev3 --pick "false_reject<=0.01"

Each folder is the --out of `edge-agent evaluate --held-out`, of networks trained alike. An image is called defective where some
class's highest probability reaches its threshold, which is what a recipe without least areas and counts does.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from options import Help, refusing
from rich import box
from rich.console import Console
from rich.table import Table

from edge_agent.errors import EdgeAgentError
from edge_agent.qualification.pick import Condition, middle_of_best, read_condition
from edge_agent.qualification.rates import Counts, rate, reaches
from edge_agent.qualification.refine import Calls, Places, refine

THRESHOLDS = np.arange(1, 100) / 100


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold's images: their groups, the truth (images,) and the highest probability of each class (images, classes)."""

    name: str
    groups: frozenset[str]
    is_defective: NDArray[np.bool_]
    peaks: NDArray[np.float64]
    unjudged: int = 0  # images without a map, which came out as a FAULT
    unjudged_bad: int = 0


def read_folds(folders: list[Path]) -> tuple[list[Fold], tuple[str, ...]]:
    """The folds and their classes. Raises SystemExit for what is no evaluation, or not of one network's folds."""
    if len(folders) < 2:
        raise SystemExit("give the evaluations of two folds or more: one must choose for another")
    is_known_by_name = len({folder.name for folder in folders}) == len(folders)
    all_rows = [(folder.name if is_known_by_name else str(folder), _rows(folder)) for folder in folders]
    classes = {tuple(row["peaks"]) for _, rows in all_rows for row in rows if row["peaks"]}
    if len(classes) != 1:
        raise SystemExit(
            f"the folds tell of the classes {', '.join(map(str, sorted(classes))) or 'of none'}: give those of one network"
        )
    (names,) = classes
    folds = [_fold(name, rows, names) for name, rows in all_rows]
    for number, fold in enumerate(folds):
        for other in folds[:number]:
            if shared := sorted(fold.groups & other.groups):
                raise SystemExit(f"{fold.name} and {other.name} both judge {shared[0]}: give each fold once")
    return folds, names


def _rows(folder: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise SystemExit(f"{folder}/results.jsonl: {error}. Give the --out of edge-agent evaluate.") from None
    if not all(isinstance(row, dict) and {"group", "is_defective", "peaks"} <= row.keys() for row in rows):
        raise SystemExit(
            f"{folder}/results.jsonl tells no peaks, or is no evaluation's. Evaluate the fold again with this version."
        )
    return rows


def _fold(name: str, all_rows: list[dict[str, Any]], classes: tuple[str, ...]) -> Fold:
    rows = [row for row in all_rows if row["peaks"]]
    peaks = np.array([[row["peaks"][each] for each in classes] for row in rows], float).reshape(len(rows), len(classes))
    truth = np.array([row["is_defective"] for row in rows], bool)
    bad = sum(row["is_defective"] for row in all_rows)
    groups = frozenset(str(row["group"]) for row in rows)
    return Fold(name, groups, truth, peaks, len(all_rows) - len(rows), bad - int(truth.sum()))


def calls_of(folds: list[Fold]) -> Calls:
    """What each class calls each image of these folds at each of THRESHOLDS."""
    peaks = np.concatenate([fold.peaks for fold in folds])
    return Calls(
        np.concatenate([fold.is_defective for fold in folds]), np.stack([reaches(peaks, each) for each in THRESHOLDS], axis=1)
    )


def chosen(condition: Condition, calls: Calls) -> Places:
    """The place of each class's threshold, as `edge-agent evaluate --pick` finds it. Raises SystemExit where nothing does."""
    common = middle_of_best(condition, [calls.counts((place,) * calls.classes) for place in range(calls.thresholds)])
    places = refine(condition, calls, common)
    if places is None:
        raise SystemExit(f"no thresholds from {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g} reach {condition}. Ask for less.")
    return places


def tell(folds: list[Fold], classes: tuple[str, ...], condition: Condition, console: Console) -> None:
    """A row of thresholds for each fold, which the others chose, with its errors by them; then what all of them choose together."""
    table = Table("judged", *classes, "slips", "false rejects", title=f"--pick {condition}", box=box.SIMPLE, padding=(0, 1, 0, 0))
    total = Counts(0, 0, 0, 0)
    for fold in folds:
        places = chosen(condition, calls_of([each for each in folds if each is not fold]))
        counts = calls_of([fold]).counts(places)
        table.add_row(fold.name, *_told(places), f"{counts.fn}", f"{counts.fp}")
        total = Counts(*(sum(both) for both in zip(_four(total), _four(counts), strict=True)))
    together = calls_of(folds)
    places = chosen(condition, together)
    flattered = together.counts(places)
    table.add_row("all", *_told(places), f"{flattered.fn}", f"{flattered.fp}", style="bold")
    console.print(table)
    console.print(f"each by what the others chose: {errors_of(total)}")
    console.print(f"all by what they chose together, which flatters: {errors_of(flattered)}")


def _told(places: Places) -> list[str]:
    return [f"{THRESHOLDS[place]:.2f}" for place in places]


def _four(counts: Counts) -> tuple[int, int, int, int]:
    return counts.tp, counts.tn, counts.fp, counts.fn


def errors_of(counts: Counts) -> str:
    """Slips and false rejects, each with the exact bounds of its share."""
    rates = {"slips": rate(counts.fn, counts.fn + counts.tp), "false rejects": rate(counts.fp, counts.fp + counts.tn)}
    return ", ".join(
        f"{name} {each.count} of {each.of} (95 % bounds {100 * each.low:.1f} to {100 * each.high:.1f} %)"
        for name, each in rates.items()
    )


@refusing()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    p.add_argument("folds", nargs="+", type=Path, help="folders that edge-agent evaluate --held-out wrote, one for each fold")
    p.add_argument("--pick", default="false_reject<=0.01", help="what is asked of the thresholds, as of edge-agent evaluate")
    args = p.parse_args()
    try:
        condition = read_condition(args.pick)
    except EdgeAgentError as error:
        raise SystemExit(str(error)) from None
    folds, classes = read_folds(args.folds)
    for fold in folds:
        if fold.unjudged:
            print(f"{fold.name}: {fold.unjudged} images, {fold.unjudged_bad} of them defective, were not judged and are left out")
    tell(folds, classes, condition, Console())


if __name__ == "__main__":
    main()
