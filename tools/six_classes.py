"""Draws DAGM-like parts of six classes and lets the whole line judge each class: slips and false rejects, in a table.

    python tools/six_classes.py --model models/demo-texture --recipe config/recipes/demo-texture.yaml --count 300

Only each class's Test folder is judged, by `edge-agent replay`. The seed must be none that the model was trained on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_agent.commands.draw_parts import CLASSES


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one class's parts. A FAULT is neither a slip nor a false reject, but no verdict either."""

    name: str
    good: int
    defective: int
    slips: int
    false_rejects: int
    faults: int

    def __str__(self) -> str:
        cells = (self.name, self.good, self.defective, self.slips, self.false_rejects, self.faults)
        return f"| {' | '.join(map(str, cells))} |"


def edge_agent(*words: object) -> None:
    """Runs one command of the station; its errors end this tool."""
    done = subprocess.run([sys.executable, "-m", "edge_agent", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def judge(folder: Path, name: str, model: Path, recipe: Path, out: Path) -> Row:
    """Replays the folder's images and counts against its Labels.txt."""
    edge_agent("replay", "--model", model, "--recipe", recipe, "--images", folder, "--out", out, "--no-overlays")
    rows = [line.split("\t") for line in (folder / "Label" / "Labels.txt").read_text().splitlines()[1:]]
    is_defective = {image: has_defect == "1" for _, has_defect, image, *_ in rows}
    outcome = {one["image"]: one["outcome"] for one in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    if outcome.keys() != is_defective.keys():
        raise SystemExit(f"{out}/results.jsonl has {len(outcome)} images, {folder}/Label/Labels.txt {len(is_defective)}")
    defective = [outcome[image] for image, bad in is_defective.items() if bad]
    good = [outcome[image] for image, bad in is_defective.items() if not bad]
    faults = [*defective, *good].count("FAULT")
    return Row(name, len(good), len(defective), defective.count("PASS"), good.count("NG"), faults)


def total_of(rows: list[Row]) -> Row:
    """The sum of all classes."""
    names = ("good", "defective", "slips", "false_rejects", "faults")
    return Row("all", *(sum(getattr(row, name) for row in rows) for name in names))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=Path("models/demo-texture"))
    p.add_argument("--recipe", type=Path, default=Path("config/recipes/demo-texture.yaml"))
    p.add_argument("--count", type=int, default=300, help="parts of each class")
    p.add_argument("--defect-share", type=float, default=0.5, help="of them with a defect")
    p.add_argument("--seed", type=int, default=31)
    args = p.parse_args()

    rows: list[Row] = []
    print("| class | good | defective | slips | false rejects | FAULT |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="six-classes-") as scratch:
        parts = Path(scratch) / "parts"
        edge_agent("draw-parts", "--out", parts, "--count", args.count, "--defect-share", args.defect_share, "--seed", args.seed)
        for k, (family, defect) in enumerate(CLASSES, 1):
            name = f"{k}: {defect} on {family}"
            rows.append(judge(parts / f"Class{k}" / "Test", name, args.model, args.recipe, Path(scratch) / f"out{k}"))
            print(rows[-1], flush=True)
    print(total_of(rows))


if __name__ == "__main__":
    main()
