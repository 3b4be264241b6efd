"""`edge-agent evaluate` of the shipped tile model on the groups kept from its training, where those images are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from stations import ROOT, Program

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"


@pytest.mark.skipif(not TILES.exists(), reason="the folder shared/data/magnetic_tile is not beside the project")
def test_the_line_scores_the_tiles_as_the_models_papers_say(edge_agent: Program, tmp_path: Path) -> None:
    recipe = ROOT / "config" / "recipes" / "magnetic-tile.yaml"
    words = ("--model", "magnetic-tile", "--recipe", recipe, "--data", TILES, "--out", tmp_path / "out", "--held-out", "--json")
    done = edge_agent("--log-level", "error", "evaluate", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    papers = yaml.safe_load((ROOT / "models" / "magnetic-tile" / "model.yaml").read_text())["scores"]["validation"]
    assert result["images"] == papers["frames"]
    assert result["warnings"] == []
    assert result["auc"] == pytest.approx(papers["auc"], abs=0.01)
    for found, told in zip(result["thresholds"], papers["at"], strict=True):
        assert all(abs(found[key] - told[key]) <= 2 for key in ("tp", "tn", "fp", "fn")), found["threshold"]
    assert result["as_it_stands"]["slip_by_group"]["of"] < result["as_it_stands"]["slip"]["of"]
