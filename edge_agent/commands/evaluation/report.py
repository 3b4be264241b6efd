"""The evaluation in tables, once for the terminal and once as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from edge_agent.commands.output import Printer
from edge_agent.typewords import counted

PICTURES = {
    "threshold.png": "What a threshold costs",
    "precision_recall.png": "Precision against recall",
    "scores.png": "How good and defective parts score",
    "worst.png": "The worst images",
}
_HEADER = ("threshold", "TP", "TN", "FP", "FN", "FP rate", "precision", "recall", "slip, % (bounds)", "false reject, % (bounds)")
_WARNING = "WARNING: "
_MOST_NAMES = 10
_WIDTH = 124  # room for every table, where the terminal is narrower or none: it breaks a line, and no figure is cut off
_SCORES = ("Dice", "IoU", "found", "pixel accuracy", "mean pixel accuracy")
_SCORES_TOLD = (
    "Found: the share of its pixels that are called so. Pixel accuracy: the share of all pixels that are rightly of it or not; its "
    "mean: of found and of the same share of the other pixels."
)
_MEAN = "Threshold is the mean of the classes' own, by their log-odds; these are in evaluation.json, `recipe_at`."
_TOLD = (
    "Positive means defective: TP are defective images rejected, FN slips (defective, passed), FP false rejects (good, rejected). "
    "Bounds are 95 %, exact binomial (Clopper and Pearson)."
)
_GROUPED = (
    "Images of one group show the same part and are not independent, so the bounds of images are too narrow. By group, a group "
    "counts once: it slips where any of its defective images passed, and is falsely rejected where any of its good images was."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a word on it, and a table."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def sections(result: dict[str, Any]) -> list[Section]:
    """What there is to tell, in the order in which one asks."""
    return [
        each
        for each in (
            _as_it_stands(result),
            _decks_table(result),
            _recipe_at(result),
            _kinds(result),
            _sizes(result),
            _pixels(result),
            _pixels_by_size(result),
            _confusion(result),
        )
        if each is not None and each.rows
    ]


def _as_it_stands(result: dict[str, Any]) -> Section:
    stands = result["as_it_stands"]
    rows = [
        ("slips, of defective images", *bounded(stands["slip"])),
        ("false rejects, of good images", *bounded(stands["false_reject"])),
    ]
    if "slip_by_group" in stands:
        rows.append(("slips, of groups with a defect", *bounded(stands["slip_by_group"])))
        rows.append(("false rejects, of groups with good images", *bounded(stands["false_reject_by_group"])))
    note = f"With all its rules, threshold {told_thresholds(result['recipe']['thresholds'])}."
    if "slip_by_group" in stands:
        note += " A group counts once: it slips where any of its defective images passed."
    return Section("The recipe as it stands", note, ("", "images or groups", "rate", "95 % bounds"), rows)


def _decks_table(result: dict[str, Any]) -> Section:
    rows = [(f"{each['threshold']:.1f}", *_counts(each)) for each in result["thresholds"]]
    auc = f"{result['auc']:.4f}" if result["auc"] is not None else "not known without both good and defective images"
    note = f"An image is called defective where any inspected pixel reaches the threshold. ROC AUC of the highest pixel: {auc}."
    return Section("By pixel threshold", note, _HEADER, rows)


def _recipe_at(result: dict[str, Any]) -> Section:
    tenths = [each for each in result["recipe_at"] if round(each["threshold"] * 100) % 10 == 0]
    rows = [(f"{each['threshold']:.1f}", *_counts(each)) for each in tenths]
    note = "The recipe's verdicts, had it these thresholds (above its hysteresis) and all its other rules. Of these --pick chooses"
    note += f", and moves single classes from there. {_MEAN}" if len(result["model"]["classes"]) > 1 else "."
    return Section("The recipe at other thresholds", note, _HEADER, rows)


def _kinds(result: dict[str, Any]) -> Section:
    by_group = any("wrong_by_group" in each for each in result["kinds"])
    header = ("kind", "error", "images", "rate", "95 % bounds", *(("groups", "bounds by group") if by_group else ()))
    rows = []
    for each in result["kinds"]:
        row: tuple[str, ...] = (each["kind"], "slips" if each["is_defective"] else "false rejects", *bounded(each["wrong"]))
        if by_group:
            group = bounded(each["wrong_by_group"])
            row = (*row, group[0], group[2])
        rows.append(row)
    return Section("By kind", "The recipe as it stands.", header, rows)


def _sizes(result: dict[str, Any]) -> Section:
    rows = []
    for each in result["sizes"]:
        rows.append((_area(each), *bounded(each["slip"])))
    note = "Slips of the recipe as it stands, by the defect's area in its mask, in frame pixels."
    return Section("By size of the defect", note, ("area in px", "images", "rate", "95 % bounds"), rows)


def _pixels(result: dict[str, Any]) -> Section | None:
    pixels = result["pixels"]
    if pixels is None:
        return None
    rows = [(name, str(pixels["images"]), *_scores(each)) for name, each in pixels["classes"].items()]
    if len(rows) > 1:
        rows.append(("any defect", str(pixels["images"]), *_scores(pixels["any_defect"])))
    rows.append(("background", str(pixels["images"]), "", "", share(pixels["background_accuracy"]), "", ""))
    means = (share(pixels["mean_dice"]), share(pixels["mean_iou"]), "", "", "")
    rows.append(("mean of the defective images", "", *means))
    rows += [(f"kind {each['kind']}", str(each["images"]), *_scores(each["any_defect"])) for each in pixels["kinds"]]
    note = (
        f"Pixels that the recipe counts, against the masks of {counted(pixels['images'], 'image')}; "
        "of a kind, in its own images only. "
        f"Pixel accuracy {share(pixels['accuracy'])}, its mean over background and classes {share(pixels['mean_accuracy'])}. "
        f"{_SCORES_TOLD}"
    )
    return Section("Against the masks", note, ("", "images", *_SCORES), rows)


def _pixels_by_size(result: dict[str, Any]) -> Section | None:
    if result["pixels"] is None:
        return None
    rows = []
    for each in result["pixels"]["sizes"]:
        classes = {name: scores for name, scores in each["classes"].items() if scores["truth_px"]}
        told = {"any defect": {**each["any_defect"], "images": each["images"]}}
        told |= classes if len(result["model"]["classes"]) > 1 else {}
        rows += [(_area(each), name, str(scores["images"]), *_scores(scores)) for name, scores in told.items()]
    note = (
        "In the defective images only, by the defect's area in its mask, in frame pixels; of a class, in how many of them it is, "
        f"and its scores in all of them. {_SCORES_TOLD}"
    )
    return Section("Against the masks, by size of the defect", note, ("area in px", "class", "images", *_SCORES), rows)


def _scores(each: dict[str, Any]) -> tuple[str, ...]:
    return tuple(share(each[key]) for key in ("dice", "iou", "found", "accuracy", "mean_accuracy"))


def _area(each: dict[str, Any]) -> str:
    return f"{each['from_px']:g}" + (f" to {each['to_px']:g}" if each["to_px"] is not None else " and more")


def _confusion(result: dict[str, Any]) -> Section | None:
    table = result["confusion"]
    if table is None:
        return None
    header = ("truth", *next(iter(table.values())))
    rows = [(kind, *map(str, row.values())) for kind, row in table.items()]
    return Section("Classes", "Images by what they are and what they were called: the class with the most NG pixels.", header, rows)


def _counts(each: dict[str, Any]) -> tuple[str, ...]:
    shares = (share(each[key]) for key in ("fp_rate", "precision", "recall"))
    return (*(str(each[key]) for key in ("tp", "tn", "fp", "fn")), *shares, _compact(each["slip"]), _compact(each["false_reject"]))


def _compact(rate: dict[str, Any]) -> str:
    """25.00 (13.64 to 39.60)."""
    whole = "-" if rate["share"] is None else f"{100 * rate['share']:.2f}"
    return f"{whole} ({100 * rate['low']:.2f} to {100 * rate['high']:.2f})"


def bounded(rate: dict[str, Any]) -> tuple[str, str, str]:
    """A rate in words: 3 of 96, 3.12 %, 0.65 to 8.86 %."""
    return f"{rate['count']} of {rate['of']}", share(rate["share"]), f"{100 * rate['low']:.2f} to {100 * rate['high']:.2f} %"


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def told_thresholds(thresholds: dict[str, float]) -> str:
    """One number where all classes have the same."""
    values = set(thresholds.values())
    return f"{values.pop():g}" if len(values) == 1 else ", ".join(f"{name} {value:g}" for name, value in thresholds.items())


def headline(result: dict[str, Any]) -> list[str]:
    """What was judged on what, every warning and every note."""
    data, missed, names = result["data"], result["not_judged"], result["not_judged_images"]
    lines = [
        f"Model {result['model']['name']} {result['model']['hash'][:12]}, recipe {result['recipe']['name']} "
        f"{result['recipe']['hash'][:12]}, data {data['name']} ({data['selection']}): {counted(result['images'], 'image')} of "
        f"{counted(result['groups'], 'group')}, {result['defective']} of them defective."
    ]
    if missed["images"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in missed["reasons"].items())
        lines.append(
            f"NOT JUDGED: {missed['images']} of the images came out as FAULT ({reasons}), {missed['defective']} of them defective: "
            f"{', '.join(names[:_MOST_NAMES])}{' and more' if len(names) > _MOST_NAMES else ''}. They are in no figure below."
        )
    return [*lines, *(f"{_WARNING}{each}" for each in result["warnings"]), *(f"Note: {each}" for each in result["notes"])]


def print_report(result: dict[str, Any], out: Path, already_told: Collection[str] = ()) -> None:
    """Print the tables. Of what a terminal has shown in full already, one short line is enough there."""
    console = Printer(markup=False)  # a path may have brackets
    again = [each for each in already_told if console.is_terminal]
    wide = Printer(width=max(console.width, _WIDTH), markup=False)
    console = console if console.is_terminal else wide
    lines = [line for line in headline(result) if line.removeprefix(_WARNING) not in again]
    for line in [*lines, *([f"{_WARNING}see what was told before the work."] if again else [])]:
        console.print(line, style="bold red" if line.startswith(("WARNING", "NOT")) else None, highlight=False)
    for section in sections(result):
        console.print(f"\n{section.title}", style="bold", highlight=False)
        console.print(section.note, highlight=False)
        wide.print(_table(section))
    if result["pick"] is not None:
        console.print(told_pick(result["pick"], out), highlight=False)


def _table(section: Section) -> Table:
    """Narrow enough for a terminal of 100 columns: what a heading has in brackets stands below it."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(section.header):
        table.add_column(name.replace(" (", "\n("), justify="right" if number else "left", no_wrap=True)
    for row in section.rows:
        table.add_row(*row)
    return table


def told_pick(picked: dict[str, Any], folder: Path) -> str:
    """What was picked, in words, and the file in its folder."""
    if "error" in picked:
        return f"Not picked: {picked['error']}"
    several = picked["by_class"] is not None
    chosen = f"threshold{'s' if several else ''} {told_thresholds(picked['thresholds'])}, with {_told_errors(picked)}"
    flatters = "A threshold chosen on images flatters itself on them: confirm it on others."
    if several:
        flatters = "Thresholds chosen on images flatter themselves on them, one for each class most of all: confirm them on others."
    how = _told_by_class(picked["by_class"]) if several else ""
    return f"Picked for {picked['condition']}: {chosen}. {how}Written: {folder / picked['file']}. {flatters}"


def _told_by_class(found: dict[str, Any]) -> str:
    """How thresholds of several classes were found, and what one shift of all would have given."""
    if rules := found["rules_of_several"]:
        return (
            f"All classes were moved by one shift only, for {', '.join(rules)} adds classes up. Name a class in each such "
            "rule, and each gets its own threshold. "
        )
    if not found["moved"]:
        return "All classes are moved by one shift: no threshold of a single class saves an error beyond that. "
    moved = f"{', '.join(found['moved'])} {'was' if len(found['moved']) == 1 else 'were'} moved one at a time; "
    together = found["together"]
    if together is None:
        return f"{moved}no shift of all classes together would do. "
    return (
        f"{moved}the shift of all classes together gives {told_thresholds(together['thresholds'])}, with {_told_errors(together)}. "
    )


def _told_errors(counts: dict[str, Any]) -> str:
    slip, reject = bounded(counts["slip"]), bounded(counts["false_reject"])
    return f"slips {slip[0]} ({slip[1]}, {slip[2]}) and false rejects {reject[0]} ({reject[1]}, {reject[2]})"


def markdown(result: dict[str, Any], pictures: Sequence[str]) -> str:
    """report.md, with the pictures that lie beside it."""
    first, *rest = headline(result)
    said = (line if line.startswith("Note") else f"**{line}**" for line in rest)
    parts = [f"# Evaluation of {result['model']['name']}", first, *said, _TOLD]
    if "slip_by_group" in result["as_it_stands"]:
        parts.append(_GROUPED)
    if result["pick"] is not None:
        parts += ["## What was picked", told_pick(result["pick"], Path())]
    for section in sections(result):
        rows = [section.header, ("---",) * len(section.header), *section.rows]
        parts += [f"## {section.title}", section.note, "\n".join("| " + " | ".join(row) + " |" for row in rows)]
    for name in pictures:
        parts += [f"## {PICTURES[name]}", f"![{PICTURES[name]}]({name})"]
    return "\n\n".join(parts) + "\n"
