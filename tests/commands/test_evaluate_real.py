"""`edge-agent evaluate` of the shipped models on the images they learned from, where those are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stations import ROOT, Program

DATA = ROOT.parent / "shared" / "data"


def evaluate(within: Program, model: str, folder: Path, out: Path) -> dict[str, dict[str, object]]:
    recipe = ROOT / "config" / "recipes" / f"{model}.yaml"
    done = within(
        "--log-level", "error", "evaluate", "--model", model, "--recipe", recipe, "--data", folder, "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, dict[str, object]] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(not DATA.exists(), reason="the folder shared/data is not beside the project")
def test_tiles_it_was_trained_on_are_told_apart_and_that_is_warned_of(within: Program, tmp_path: Path) -> None:
    result = evaluate(within, "magnetic-tile", DATA / "magnetic_tile", tmp_path / "out")
    assert result["images"] == 695
    assert any("TRAINED" in str(warning) for warning in result["warnings"])
    assert float(str(result["auc"])) > 0.97
    stands: dict[str, dict[str, int]] = result["as_it_stands"]  # type: ignore[assignment]
    assert stands["slip_by_group"]["of"] < stands["slip"]["of"]


@pytest.mark.skipif(not DATA.exists(), reason="the folder shared/data is not beside the project")
def test_no_error_on_dagms_first_class(within: Program, tmp_path: Path) -> None:
    result = evaluate(within, "dagm-class1", DATA / "dagm" / "Class1", tmp_path / "out")
    assert result["images"] == 288
    assert (result["as_it_stands"]["fn"], result["as_it_stands"]["fp"]) == (0, 0)
