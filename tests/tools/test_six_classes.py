"""The benchmark of six classes counts by the labels on the disk, and refuses results that are not of these images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from stations import ROOT, Program

Tool = Callable[[str], ModuleType]
MODEL, RECIPE = ROOT / "models" / "demo-texture", ROOT / "config" / "recipes" / "demo-texture.yaml"


def test_a_class_is_judged_by_its_labels(tool: Tool, within: Program, tmp_path: Path) -> None:
    drawn = within("draw-parts", "--out", tmp_path / "parts", "--classes", 1, "--count", 6, "--defect-share", 0.5, "--seed", 2)
    assert drawn.returncode == 0, drawn.stderr
    folder = tmp_path / "parts" / "Class1" / "Test"
    labels = folder / "Label" / "Labels.txt"
    as_drawn = labels.read_text()
    row = tool("six_classes").judge(folder, "one", MODEL, RECIPE, tmp_path / "out")
    assert (row.good + row.defective, row.defective) == (6, as_drawn.count("_label"))
    assert 0 < row.defective < 6
    assert row.slips + row.false_rejects + row.faults <= 1

    swapped = as_drawn.replace("\t0\t0", "\t#\t0").replace("\t1\t0", "\t0\t0").replace("\t#\t0", "\t1\t0")
    labels.write_text(swapped)  # what was right is now wrong, so every error must be counted
    wrong = tool("six_classes").judge(folder, "one", MODEL, RECIPE, tmp_path / "out")
    assert wrong.slips + wrong.false_rejects + wrong.faults >= 5
    labels.write_text("\n".join(as_drawn.splitlines()[:-1]) + "\n")
    with pytest.raises(SystemExit, match="has 6 images"):
        tool("six_classes").judge(folder, "one", MODEL, RECIPE, tmp_path / "out")


def test_the_sum_of_the_classes(tool: Tool) -> None:
    six = tool("six_classes")
    assert six.total_of([six.Row("a", 1, 2, 3, 4, 5), six.Row("b", 10, 20, 30, 40, 50)]) == six.Row("all", 11, 22, 33, 44, 55)
