"""docs/training.md, the cards and the measurements: their commands are train.py's and export.py's, and the recipe is one."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edge_agent.recipe import load_recipe

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"\.venv/bin/python tools/(train|export)\.py ([^;#\n]+)", TEXT)
TRAININGS = {
    f"{file.relative_to(ROOT)}, {number}": words
    for file in [*sorted(ROOT.glob("models/*/README.md")), *sorted(ROOT.glob("docs/measurements/*.md"))]
    for number, words in enumerate(
        re.findall(r"^    .*?python tools/train\.py (.+?)(?:; done.*)?$", file.read_text(encoding="utf-8"), re.M)
    )
}


@pytest.mark.parametrize("words", TRAININGS.values(), ids=TRAININGS)
def test_a_training_that_was_measured_can_be_done_again(tool: Callable[[str], ModuleType], words: str) -> None:
    given = shlex.split(words.replace("$f", "1").replace("$s", "2"))
    tool("options").check(tool("options").parser().parse_args(given))


def test_every_command_is_found() -> None:
    assert len(COMMANDS) == len(re.findall(r"python tools/(?!pool_folds)", TEXT)) == 7


@pytest.mark.parametrize(("tool_name", "words"), COMMANDS)
def test_its_commands_can_be_meant(
    tool: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tool_name: str, words: str
) -> None:
    given = shlex.split(words.replace("$fold", "3"))
    if tool_name == "train":
        tool("options").check(tool("options").parser().parse_args(given))
    else:
        monkeypatch.setattr(sys, "argv", ["export.py", *given])
        assert tool("export").parse().model in (Path("my/models/cap"), Path("out/fold3/cap"))


def test_its_recipe_is_one_of_the_model_it_trains(tmp_path: Path) -> None:
    (words,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    (tmp_path / "cap.yaml").write_text(words)
    recipe = load_recipe(tmp_path / "cap.yaml")
    assert recipe.model.name == "cap"
    assert [region.prepare for region in recipe.regions] == ["resize"]
