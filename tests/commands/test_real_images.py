"""The shipped tile model on real tiles that it has not seen, through the program, where those images are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from stations import ROOT, Program

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
MODEL = ROOT / "models" / "magnetic-tile"


def held_out() -> dict[str, bool]:
    """Images of the groups that the model's papers say it was not trained on, and whether each has a defect."""
    split = yaml.safe_load((MODEL / "model.yaml").read_text())["training"]["split"]
    groups = set(split.partition("of the groups ")[2].split(", "))
    with (TILES / "index.csv").open(newline="") as lines:
        return {row["image"]: row["class"] != "Free" for row in csv.DictReader(lines) if row["group"] in groups}


@pytest.mark.skipif(not TILES.exists(), reason="the folder shared/data/magnetic_tile is not beside the project")
def test_most_defects_of_tiles_it_has_not_seen_come_out_ng(edge_agent: Program, tmp_path: Path) -> None:
    is_defective = held_out()
    (tmp_path / "images").mkdir()
    for name in is_defective:
        (tmp_path / "images" / name).symlink_to(TILES / "images" / name)
    recipe = ROOT / "config" / "recipes" / "magnetic-tile.yaml"
    words = ("--model", MODEL, "--recipe", recipe, "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert edge_agent("replay", *words).returncode == 0
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {result["image"] for result in results} == is_defective.keys()
    assert {result["outcome"] for result in results} == {"PASS", "NG"}
    ng = {truth: sum(r["outcome"] == "NG" for r in results if is_defective[r["image"]] == truth) for truth in (True, False)}
    defective = sum(is_defective.values())
    assert ng[True] >= 2 / 3 * defective, "too many slips"
    assert ng[False] <= 0.08 * (len(results) - defective), "too many false rejects"
