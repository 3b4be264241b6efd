"""docs/models.md stays true: every key, its example, its commands, and every refusal in the words the station uses."""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from modelsdoc import phrases
from test_house import check_table, structs

from edge_agent.cli import COMMANDS
from edge_agent.inference import model
from edge_agent.inference.model import load_model

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "models.md").read_text()
SECTIONS: dict[Any, str] = {
    model.ModelPapers: "## model.yaml",
    model.OnnxFile: "## Onnx",
    model.ModelInput: "## Input",
    model.ModelOutput: "## Output",
}
SOURCES = ("model", "ports", "graph", "describe", "probe", "cpu")


@pytest.mark.parametrize("kind", list(structs(model.ModelPapers, set())), ids=lambda kind: kind.__name__)
def test_every_key_is_in_the_docs_with_its_default(kind: type[msgspec.Struct]) -> None:
    check_table(kind, TEXT, SECTIONS[kind])


def test_its_example_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    (tmp_path / "model.onnx").write_bytes(b"a network")
    digest = hashlib.sha256(b"a network").hexdigest()
    (tmp_path / "model.yaml").write_text(re.sub(r"sha256: \w+", f"sha256: {digest}", example))
    assert load_model(tmp_path).papers.channels == 3


def test_every_refusal_and_note_in_it_is_one_of_the_stations() -> None:
    """The other direction, that every refusal has its row, is tests/inference/test_refusals.py's."""
    source = "".join((ROOT / "edge_agent" / "inference" / f"{name}.py").read_text() for name in SOURCES)
    told = [words for row in phrases(TEXT) for words in row]
    assert len(told) > 30
    assert [words for words in told if words not in source] == []


def test_its_commands_are_there() -> None:
    for command in re.findall(r"^\s*edge-agent ([a-z-]+)", TEXT, re.M):
        assert command in COMMANDS
        assert importlib.import_module(f"edge_agent.commands.{command.replace('-', '_')}")


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).is_file(), link
    for other in ("README.md", "ARCHITECTURE.md"):
        assert "(docs/models.md)" in (ROOT / other).read_text()
