"""Judge a model the factory's way: run labelled images through the very same line and leave slips, false rejects and their bounds,
the table by threshold, agreement with the masks, plots and the worst images. Positive means defective. `--pick` chooses the
threshold by what is asked of it and writes it into a copy of the recipe.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import msgspec
from rich.progress import Progress

from edge_agent.commands import output
from edge_agent.commands.evaluation import split
from edge_agent.commands.evaluation.figures import Figures
from edge_agent.commands.evaluation.gallery import write_gallery
from edge_agent.commands.evaluation.line import Judged, Observer, run_line
from edge_agent.commands.evaluation.papers import read_papers
from edge_agent.commands.evaluation.pick import picked
from edge_agent.commands.evaluation.plots import new_figure, write_plots
from edge_agent.commands.evaluation.report import PICTURES, markdown, print_report
from edge_agent.commands.evaluation.room import make_room, written_files
from edge_agent.commands.replay import find_model, result_of
from edge_agent.dataset import MASK_ABOVE, Dataset, read_dataset
from edge_agent.errors import CameraError, ConfigurationError, EdgeAgentError, Problem
from edge_agent.fit import load_pair
from edge_agent.inference.model import Model
from edge_agent.pictures import read_gray, unused_bits
from edge_agent.qualification.pick import read_condition
from edge_agent.qualification.pixels import overlap
from edge_agent.qualification.rates import rate
from edge_agent.qualification.thresholds import candidates
from edge_agent.recipe import ClassLimits, Recipe
from edge_agent.records import in_utf8

_MOST_TOLD = 10
LOG_LEVEL = "warning"  # as replay's
_CAUTION = "TRAINED on such images, or nobody can tell: see report.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="a shipped model's name, or a folder with model.yaml")
    parser.add_argument("--recipe", required=True, type=Path, metavar="FILE")
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="DAGM's layout, or index.csv, or good/ and bad/")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--pick", metavar="CONDITION", help="such as 'precision>=0.9925' or 'false_reject<=0.1%%'; also recall, slip"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables: evaluation.json")
    split.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    condition = read_condition(args.pick) if args.pick is not None else None
    folder = find_model(args.model)
    model, recipe = load_pair(folder, args.recipe)
    papers = read_papers(model.papers)
    dataset, selection = split.choose(read_dataset(args.data), papers, args)
    warnings = _warnings(dataset, model, split.warning_of(dataset, papers))
    note = split.note_of(dataset, papers, args.held_out)
    _require_libraries()
    _require_pictures(dataset)
    make_room(args.out, args.data, args.recipe, args.pick is not None)
    console, warnings_told = output.told(), tuple(warnings)
    for warning in warnings_told:
        output.warn(console, warning)
    if note:
        console.print(f"Note: {note}", highlight=False)

    family = candidates(recipe, model.papers.classes)
    observer = Observer(dataset.images, model.papers.classes, family)
    with Progress(console=console) as progress:
        task = progress.add_task("evaluate", total=len(dataset.images))
        judged = run_line(folder, args.recipe, dataset.images, observer, lambda: progress.advance(task))
    figures = Figures(judged, model.papers.classes, family)
    if not figures.rows:
        _require_readable(judged[0].labelled.image, len(judged))
        reasons = ", ".join(sorted({reason for each in judged for reason in each.verdict.reasons}))
        raise EdgeAgentError(f"none of {len(judged)} images could be judged: FAULT {reasons}. Mend the recipe's regions or checks.")

    warnings += _of_masks(observer.empty_masks)
    told = {"warnings": warnings, "notes": [note] if note else []}
    result = _identity(model, recipe, dataset, selection) | told | figures.summary() | {"pick": None}
    failure = None
    if condition is not None:
        result["pick"], failure = picked(condition, figures, args.recipe, recipe, args.out)
    _write(args.out, figures, observer, recipe, result)
    if args.json:
        print(msgspec.json.encode(result).decode())
    else:
        print_report(result, args.out, already_told=warnings_told if console.is_terminal else ())
        print(f"  {args.out / 'report.md'}")
    if failure is not None:
        raise failure
    return 0


def _require_libraries() -> None:
    """Fail before the work is done, not after."""
    rate(0, 1)
    new_figure(1, 1)


def _require_pictures(dataset: Dataset) -> None:
    """Raise ConfigurationError with every file that is no picture, before an hour's work ends in FAULTs."""
    strange = [each.image for each in dataset.images if not _is_picture(each.image)]
    if strange:
        told = [
            Problem(str(file), 0, "", "is not a readable image.", "restore it, or take it out of the data.") for file in strange
        ]
        raise ConfigurationError(told[:_MOST_TOLD] + _more(len(told) - _MOST_TOLD, dataset))


def _require_readable(first: Path, count: int) -> None:
    """Raise ConfigurationError where it was not the recipe that no picture got through: their headers alone were in order."""
    try:
        read_gray(first)
    except CameraError as error:
        message = f"none of {count} images could be judged: {error}."
        raise ConfigurationError.of(message, "give pictures that can be read.") from None


def _is_picture(file: Path) -> bool:
    """By its first bytes. Its name in bytes, too: OpenCV crashes on text that is no UTF-8."""
    try:
        return bool(cv2.haveImageReader(os.fsencode(file)))  # type: ignore[arg-type]
    except cv2.error:
        return True


def _more(count: int, dataset: Dataset) -> list[Problem]:
    return [Problem(str(dataset.folder), 0, "", f"and {count} more are no readable images.")] if count > 0 else []


def _of_masks(empty: dict[str, int]) -> list[str]:
    """A word on defective images whose mask shows no defect: without it they would vanish from figures in silence."""
    if not empty:
        return []
    first = ", ".join(list(empty)[:_MOST_TOLD]) + (f" and {len(empty) - _MOST_TOLD} more" if len(empty) > _MOST_TOLD else "")
    low = f" The highest value in them is {max(empty.values())}: multiply them by 255." if 0 < max(empty.values()) < 8 else ""
    return [
        f"the masks of {len(empty)} defective images are empty, for a mask shows a defect where it is above {MASK_ABOVE}: {first}."
        f"{low} These images are in no figure against the masks and in none by size."
    ]


def _warnings(dataset: Dataset, model: Model, of_training: str) -> list[str]:
    """What a person must know before believing the figures."""
    warnings = [of_training] if of_training else []
    if dark := unused_bits([each.image for each in dataset.images]):
        warnings.append(dark)
    if dataset.unlisted:
        warnings.append(f"{dataset.unlisted} images in {dataset.folder} are named by no label and not judged.")
    if all(each.is_defective for each in dataset.images):
        kinds = ", ".join(dataset.kinds[:_MOST_TOLD])
        warnings.append(f"no image is good by its label ({kinds}): nothing tells of false rejects. What good parts are, call good.")
    classes = {name.casefold() for name in model.papers.classes}
    strange = [kind for kind in dataset.kinds if kind.casefold() not in classes]
    strange = [kind for kind in strange if any(each.is_defective and each.kind == kind for each in dataset.images)]
    if len(classes) > 1 and strange:
        warnings.append(
            f"the model has no class {', '.join(strange)}: such images count as defective, but their pixels are not compared. "
            f"It has {', '.join(model.papers.classes)}."
        )
    return warnings


def _identity(model: Model, recipe: Recipe, dataset: Dataset, selection: str) -> dict[str, Any]:
    thresholds = {name: recipe.classes.get(name, ClassLimits()).threshold for name in model.papers.classes}
    return {
        "model": {"name": model.papers.name, "hash": model.hash, "classes": list(model.papers.classes)},
        "recipe": {"name": recipe.name, "hash": recipe.hash, "thresholds": thresholds},
        "data": {"name": in_utf8(dataset.folder.resolve().name), "layout": dataset.layout, "selection": selection},
    }


def _write(out: Path, figures: Figures, observer: Observer, recipe: Recipe, result: dict[str, Any]) -> None:
    name = f"{result['model']['name']} on {result['data']['name']}"
    with output.writing(out / "results.jsonl"), open(out / "results.jsonl", "wb") as rows:
        for each in figures.all:
            rows.write(msgspec.json.encode(row_of(each)) + b"\n")
    caution = _CAUTION if any("TRAINED" in warning for warning in result["warnings"]) else ""
    write_plots(out, figures, name, result["recipe"]["thresholds"], result["pick"], caution)
    write_gallery(out / "worst.png", observer.worst, figures.all, recipe, name, caution)
    with output.writing(out / "report.md"):
        (out / "report.md").write_text(markdown(result, [name for name in PICTURES if (out / name).exists()]), encoding="utf-8")
    result["files"] = written_files(out, result["pick"])
    with output.writing(out / "evaluation.json"):
        (out / "evaluation.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


def row_of(judged: Judged) -> dict[str, Any]:
    """The object of results.jsonl: what replay tells of an image, and what is true of it."""
    labelled, seen = judged.labelled, judged.seen
    table = seen.table if seen is not None else None
    dice = iou = None
    if table is not None and labelled.is_defective:
        dice, iou = overlap(int(table[1:, 1:].sum()), int(table[1:].sum()), int(table[:, 1:].sum()))
    return {
        **result_of(judged.verdict, labelled.name),
        "group": labelled.group,
        "kind": labelled.kind,
        "is_defective": labelled.is_defective,
        "called": judged.called,
        "error": "slip" if judged.is_slip else "false_reject" if judged.is_false_reject else None,
        "peak": seen.score if seen is not None else None,
        "peaks": seen.peaks if seen is not None else {},
        "area_px": math.fsum(blob.area_px for blob in judged.verdict.blobs),
        "truth_area_px": seen.truth_area_px if seen is not None else None,
        "dice": dice,
        "iou": iou,
    }
