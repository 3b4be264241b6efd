"""docs/evaluation.md: its first commands work in a clean clone, and its figures are of the models that are shipped."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from stations import ROOT, Program

from edge_agent.inference.model import load_model

DOC = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_first_commands_work_without_outside_data(tmp_path: Path, edge_agent: Program) -> None:
    block = DOC.split("```sh")[1].split("```")[0]
    commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines() if "bin/edge-agent" in line]
    assert [words[0] for words in commands] == ["draw-parts", "evaluate"]
    (tmp_path / "config").symlink_to(ROOT / "config")
    for words in commands:
        less = ["1" if before == "--count" else word for before, word in zip(["", *words], words, strict=False)]
        fewer = ["--seed", "78", "--defect-share", "0.5"] if words[0] == "draw-parts" else []
        done = edge_agent("--log-level", "error", *less, *fewer)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "judged" / "report.md").exists()


def test_its_figures_are_of_the_shipped_models() -> None:
    """Measure them again by the commands on the page when a model is shipped anew."""
    hashes = {load_model(folder.parent).hash[:12] for folder in (ROOT / "models").glob("*/model.yaml")}
    told = set(re.findall(r"\b[0-9a-f]{12}\b", DOC.split("## Three examples")[1]))
    assert len(told) == 2
    assert told <= hashes
