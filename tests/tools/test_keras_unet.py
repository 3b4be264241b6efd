"""The example from Keras without Keras: what it takes, and what its papers tell."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def keras_unet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("keras_unet")


def test_the_command_in_the_papers_makes_the_same_model_again(keras_unet: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--filters 2 --size 64 --steps 6 --opset 15 --seed 5"
    monkeypatch.setattr(sys, "argv", ["keras_unet.py", "--out", "out/x", *words.split()])
    assert keras_unet.command_of(keras_unet.parse()) == f"tools/keras_unet.py {words}"


@pytest.mark.parametrize("words", ["--size 50", "--size 0", "--filters 0", "--steps 0", "--seed -1"])
def test_what_keras_would_refuse_in_its_own_words_is_refused_before(
    keras_unet: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["keras_unet.py", "--out", "out/x", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        keras_unet.parse()
    assert words.split()[0] in capsys.readouterr().err.splitlines()[-1]
