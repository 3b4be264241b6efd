"""The model card: what a person should know before trusting a model, as Markdown."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from unet import Shape

from edge_agent.qualification.rates import Rate, rate


def card_of(papers: dict[str, Any], shape: Shape, export_command: str, note: str = "") -> str:
    """README.md of a model, from model.yaml, its network's shape, the command that exported it and a note on the scores."""
    training, size, engine = papers["training"], papers["input"], papers["scores"]["openvino"]
    parts = [
        f"# {papers['name']}, version {papers['version']}",
        f"{shape.in_words()}, {shape.head} head with a logit for each {shape.cell_px}x{shape.cell_px} pixels, "
        f"classes: {', '.join(shape.classes)}. Frames of {size['rows']} x {size['cols']} pixels, 8 bit gray; "
        f"rows and columns must be multiples of {shape.stride}. What goes in and out is in `model.yaml`."
        + " Each frame is first normalised by its own mean and deviation, inside the graph." * shape.normalise
        + " It is judged as if it were turned by half; the map is upright." * ("judged_as_turned" in training),
        "## Data",
        f"Trained on `{training['data']}`. Terms: {training['terms'] or 'not stated'}. Split: {training['split']}.",
        f"    {training['command']}",
        f"took {training['seconds']} s. {_kept(training)}{_where(training['data'])}",
        "## Scores",
        "Per frame: defective when the highest probability reaches the threshold. TP are defective frames found, FN slips, "
        "FP false rejects. In brackets the exact 95 % bounds of each rate." + (f" {note}" if note else ""),
    ]
    for name, scores in papers["scores"].items():
        if "at" in scores:
            parts += [f"### {_heading(name, scores, training)}", _table(scores), *_notes(scores), *_kinds(scores)]
    parts += [
        "## Speed and agreement",
        *_folds(papers["scores"], training["command"], export_command),
        "\n".join(f"    {each}" for each in [*_brought(training["command"], export_command), export_command]),
        f"On OpenVINO, {engine['threads']} threads, one frame at a time: median {engine['median_ms']} ms. Against the network in "
        f"torch: {engine['pixels_off_by_more_than_1']} of {engine['pixels']} pixels of the map differ by more than one gray "
        f"level, the largest difference is {engine['largest_difference']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _kept(training: dict[str, Any]) -> str:
    """Which check's weights these are, and what chose them."""
    if training.get("held_out") == []:
        return "The weights are those of the last check: nothing was held out to choose them by."
    if training.get("kept") == "the last check":
        return "The weights are those of the last check: what was held out chose nothing."
    return f"The weights are those of {training.get('kept', 'the check that was the best on what was held out')}."


def _where(data: str) -> str:
    return f" For `{data}` give the path of that folder, here and below." if data.startswith("folder:") else ""


def _brought(training_command: str, export_command: str) -> list[str]:
    """The command that brings the checkpoint from where it was trained to where it is exported; none where that is one folder."""
    trained, words = _option(training_command, "--out"), shlex.split(export_command)
    if not trained or len(words) < 3 or Path(trained[0]) == Path(words[2]):
        return []
    return [f"mkdir -p {shlex.quote(words[2])}; {shlex.join(['cp', f'{Path(trained[0])}/checkpoint.pt', words[2]])}"]


def _folds(scores: dict[str, Any], training_command: str, export_command: str) -> list[str]:
    """The command that trains the first fold, and how those of the others differ; nothing where the commands do not tell it."""
    folders = _option(export_command, "--folds")
    judged = next((each for each in scores.values() if "folds" in each), None)
    if judged is None or not training_command or len(folders) != len(judged["folds"]):
        return []
    words = shlex.split(training_command)
    for name in ("--folds", "--fold", "--out"):
        if name in words:
            del words[(at := words.index(name)) : at + 2]
    number, *others = judged["folds"]
    command = shlex.join([*words, "--folds", str(judged["of"]), "--fold", str(number), "--out", folders[0]])
    told = ", ".join(f"`--fold {other} --out {folder}`" for other, folder in zip(others, folders[1:], strict=True))
    but = f" but for {_listed(judged['differing'])}, which the folds had otherwise" if judged["differing"] else ""
    told = f"Fold {number} is trained by this command{but}" + (f", the others with {told}" if told else "")
    return [f"{told}. Then the model is exported.", f"    {command}"]


def _option(command: str, name: str) -> list[str]:
    """What is given to an option of a command, up to the next option; nothing where it is not there."""
    words = shlex.split(command)
    given = words[words.index(name) + 1 :] if name in words else []
    return given[: next((at for at, word in enumerate(given) if word.startswith("--")), len(given))]


def _heading(name: str, scores: dict[str, Any], training: dict[str, Any]) -> str:
    told = f"{name.capitalize()}: {scores['frames']} frames, AUC {scores['auc']}"
    if "folds" not in scores:
        if "data" not in scores:
            return told + ("" if training.get("kept") == "the last check" else ", which chose the weights")
        same = scores.get("names_trained_on", 0)
        but = "No picture of it was trained on, but " if "trained_on_sha256" in training else ""
        doubt = f"\n\n**{but}{same} of its parts have names that this model was trained on: they may be the same parts.**"
        return f"{told}, `{scores['data']}`{doubt if same else ''}"
    of = scores["of"]
    which = (
        "the sum of all folds, AUC their mean" if name == "cross-validation" else f"only fold {_listed(scores['folds'])} of {of}"
    )
    but = f" but for {_listed(scores['differing'])}" if scores["differing"] else ""
    return (
        f"{told}\n\nOf networks trained as this one{but}, {which}: each has the weights of its last check, and is judged on the "
        "groups that it did not see. This model, trained on all of them, is judged by none."
    )


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _table(scores: dict[str, Any]) -> str:
    sides = {"slips": ("fn", "tp", "slip_groups"), "false rejects": ("fp", "tn", "reject_groups")}
    sides_of_parts = {name: keys[2] for name, keys in sides.items() if keys[2] in scores["at"][0]}
    heads = ["threshold", "TP", "FP", "FN", "TN", *sides, *(f"{name}, parts" for name in sides_of_parts)]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for called in scores["at"]:
        rates = [rate(called[wrong], called[wrong] + called[right]) for wrong, right, _ in sides.values()]
        parts = [rate(*called[key]) for key in sides_of_parts.values()]
        counts = [f"{called['threshold']:.1f}", *(str(called[name]) for name in ("tp", "fp", "fn", "tn"))]
        told = [_bounded(each) for each in rates] + [f"{each.count} of {each.of}: {_bounded(each)}" for each in parts]
        rows.append(f"| {' | '.join(counts + told)} |")
    return "\n".join(rows)


def _bounded(found: Rate) -> str:
    return "none there" if found.share is None else f"{found.share:.1%} ({found.low:.1%} to {found.high:.1%})"


def _notes(scores: dict[str, Any]) -> list[str]:
    """What a part is in the table, where it has several frames; which thresholds make no error, where there are such."""
    told = []
    if "slip_groups" in scores["at"][0]:
        told.append("Frames of one part are no independent tries: a part counts once, as wrong where any of its frames is.")
    good, bad = scores.get("highest_good", 1.0), scores.get("lowest_bad", 0.0)
    return told + ([f"No error at any threshold from {good:.3f} to {bad:.3f}."] if good < bad else [])


def _kinds(scores: dict[str, Any]) -> list[str]:
    """What was called defective kind by kind, and which kind slips most; nothing for scores that tell no kinds apart."""
    kinds = scores.get("kinds", [])
    if len(kinds) <= 2:
        return []
    rows = ["| called defective | of frames | of parts " + "".join(f"| {c['threshold']:.1f} " for c in scores["at"]) + "|"]
    rows.append("|---" * (3 + len(scores["at"])) + "|")
    sizes = [[kind["name"], kind["frames"], kind.get("groups", kind["frames"])] for kind in kinds]
    rows += ["| " + " | ".join(map(str, [*size, *kind["called"]])) + " |" for size, kind in zip(sizes, kinds, strict=True)]
    half = [called["threshold"] for called in scores["at"]].index(0.5)
    found = [(kind["called"][half] / kind["frames"], kind["name"]) for kind in kinds if kind["defective"]]
    worst = ", ".join(f"{name} {share:.0%}" for share, name in sorted(found))
    return ["\n".join(rows), f"Found at 0.5, the worst kind first: {worst}."]
