"""The card's commands can be run one after another, and make the files that the next one reads."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Tool = Callable[[str], ModuleType]
MODELS = Path(__file__).parents[2] / "models"
OPENVINO = ("threads", "median_ms", "pixels_off_by_more_than_1", "pixels", "largest_difference")
TRAINED = "python tools/train.py --data folder:Class1 --terms 'my own' --steps 6 --out out/all/cap"
EXPORTED = "python tools/export.py my/models/cap --folds out/cap0 out/cap2 --data folder:Class1"


def card(tool: Tool, training_command: str, export_command: str, **changed: Any) -> str:
    counts = {"threshold": 0.5, "tp": 3, "fp": 0, "fn": 0, "tn": 7}
    scores = {"frames": 10, "auc": 1.0, "at": [counts], "kinds": [], "folds": [0, 2], "of": 3, "differing": [], **changed}
    training = {"data": "folder:Class1", "terms": "my own", "split": "", "command": training_command, "seconds": 1, "held_out": []}
    papers = {
        "name": "cap",
        "version": 1,
        "input": {"rows": 64, "cols": 64},
        "training": training,
        "scores": {"held out": scores, "openvino": dict.fromkeys(OPENVINO, 0)},
    }
    told: str = tool("card").card_of(papers, tool("unet").Shape(), export_command)
    return told


def commands(card: str) -> list[str]:
    return [line.strip() for line in card.splitlines() if line.startswith("    ")]


def test_the_checkpoint_is_brought_and_the_folds_are_trained_before_the_export(tool: Tool) -> None:
    told = card(tool, TRAINED, EXPORTED)
    assert commands(told) == [
        TRAINED,
        "python tools/train.py --data folder:Class1 --terms 'my own' --steps 6 --folds 3 --fold 0 --out out/cap0",
        "mkdir -p my/models/cap; cp out/all/cap/checkpoint.pt my/models/cap",
        EXPORTED,
    ]
    assert "Fold 0 is trained by this command, the others with `--fold 2 --out out/cap2`. Then the model is exported." in told
    assert "For `folder:Class1` give the path of that folder" in told


def test_what_the_folds_had_otherwise_is_said(tool: Tool) -> None:
    assert "by this command but for --rate, which the folds had otherwise," in card(tool, TRAINED, EXPORTED, differing=["--rate"])


def test_nothing_is_brought_that_lies_there(tool: Tool) -> None:
    assert not any("cp " in each for each in commands(card(tool, TRAINED, EXPORTED.replace("my/models/cap", "out/all/cap"))))


def _options(command: str, name: str) -> list[str]:
    words = shlex.split(command)
    given = words[words.index(name) + 1 :] if name in words else []
    return given[: next((at for at, word in enumerate(given) if word.startswith("--")), len(given))]


@pytest.mark.parametrize("name", sorted(file.parent.name for file in MODELS.glob("*/README.md")))
def test_a_shipped_cards_commands_are_the_tools_and_follow_one_another(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = (MODELS / name / "README.md").read_text(encoding="utf-8")
    *trainings, brought, exported = commands(told)
    for each in trainings:
        tool("options").check(tool("options").parser().parse_args(shlex.split(each)[2:]))
    outs = [_options(each, "--out")[0] for each in trainings]
    assert brought == f"mkdir -p models/{name}; cp {outs[0]}/checkpoint.pt models/{name}"
    monkeypatch.setattr("sys.argv", shlex.split(exported)[1:])
    folds = tool("export").parse().folds
    assert outs[1:] == [str(each) for each in folds[:1]]
    assert all(f"--fold {number} --out {folder}" in told for number, folder in enumerate(folds))
