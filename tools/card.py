"""The model card: what a person should know before trusting a model, as Markdown."""

from __future__ import annotations

from typing import Any

from unet import Shape


def card_of(papers: dict[str, Any], shape: Shape, export_command: str) -> str:
    """README.md of a model, from what model.yaml says, its network's shape and the command that exported it."""
    training, size, engine = papers["training"], papers["input"], papers["scores"]["openvino"]
    parts = [
        f"# {papers['name']}, version {papers['version']}",
        f"U-Net, {shape.stem}x{shape.stem} space-to-depth stem, {shape.filters} filters, {shape.levels} levels, "
        f"{shape.head} head with a logit for each {shape.cell_px}x{shape.cell_px} pixels, "
        f"classes: {', '.join(shape.classes)}. Frames of {size['rows']} x {size['cols']} pixels, 8 bit gray; "
        f"rows and columns must be multiples of {shape.stride}. What goes in and out is in `model.yaml`."
        + " Each frame is first normalised by its own mean and deviation, inside the graph."
        * shape.normalise,
        "## Data",
        f"Trained on `{training['data']}`. Terms: {training['terms'] or 'not stated'}. Split: {training['split']}.",
        f"    {training['command']}",
        f"took {training['seconds']} s to the epoch kept.",
        "## Scores",
        "Per frame: defective when the highest probability reaches the threshold. TP are defective frames found, FN slips, "
        "FP false rejects.",
    ]
    for name, scores in papers["scores"].items():
        if "at" in scores:
            parts += [_heading(name, scores), _table(scores), *_ends(scores), *_kinds(scores)]
    parts += [
        "## Speed and agreement",
        f"    {export_command}",
        f"On OpenVINO, {engine['threads']} threads, one frame at a time: median {engine['median_ms']} ms. Against the network in "
        f"torch: {engine['pixels_off_by_more_than_1']} of {engine['pixels']} pixels of the map differ by more than one gray "
        f"level, the largest difference is {engine['largest_difference']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _heading(name: str, scores: dict[str, Any]) -> str:
    told = f"{name.capitalize()}: {scores['frames']} frames, AUC {scores['auc']}"
    if "folds" in scores:
        told += f" (mean of {scores['folds']} networks, each judged on the groups that it did not see)"
    elif "data" in scores:
        told += f", `{scores['data']}`"
    else:
        told += ", which chose the epoch"
    return f"### {told}"


def _ends(scores: dict[str, Any]) -> list[str]:
    """Which thresholds make no error, where there are such."""
    good, bad = scores.get("highest_good", 1.0), scores.get("lowest_bad", 0.0)
    return [f"No error at any threshold from {good:.3f} to {bad:.3f}."] if good < bad else []


def _table(scores: dict[str, Any]) -> str:
    rows = ["| threshold | TP | FP | FN | TN |", "|---|---|---|---|---|"]
    rows += [f"| {c['threshold']:.1f} | {c['tp']} | {c['fp']} | {c['fn']} | {c['tn']} |" for c in scores["at"]]
    return "\n".join(rows)


def _kinds(scores: dict[str, Any]) -> list[str]:
    """What was called defective kind by kind, and which kind slips most; nothing for scores that tell no kinds apart."""
    kinds = scores.get("kinds", [])
    if len(kinds) <= 2:
        return []
    rows = ["| called defective | of " + "".join(f"| {c['threshold']:.1f} " for c in scores["at"]) + "|"]
    rows.append("|---" * (2 + len(scores["at"])) + "|")
    rows += ["| " + " | ".join(map(str, [kind["name"], kind["frames"], *kind["called"]])) + " |" for kind in kinds]
    half = [called["threshold"] for called in scores["at"]].index(0.5)
    found = [(kind["called"][half] / kind["frames"], kind["name"]) for kind in kinds if kind["defective"]]
    worst = ", ".join(f"{name} {share:.0%}" for share, name in sorted(found))
    return ["\n".join(rows), f"Found at 0.5, the worst kind first: {worst}."]
