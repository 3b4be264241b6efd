"""A short training: learns, keeps its best weights, goes on where it stopped, and tells how it came to be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
HOW = [
    *("--data", "generator:5", "--count", "16", "--val", "6", "--rows", "64", "--cols", "64", "--frame", "64x128"),
    *("--filters", "4", "--levels", "2", "--coarse", "--steps", "12", "--checks", "3", "--batch", "2", "--device", "cpu"),
    *("--seed", "3", "--out"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a training as its users start it, and what it printed."""
    pytest.importorskip("torch", reason="torch is not installed; `make tools` installs it")
    out = tmp_path_factory.mktemp("trained")
    command, wide = [sys.executable, TOOLS / "train.py", *HOW, out], {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, env=wide, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture
def train(tool: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trains in this process, which has torch already."""

    def call(out: Path, *more: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train.py", *HOW, str(out), *more])
        tool("train").main()

    return call


def test_a_training_leaves_weights_papers_and_curves_and_is_repeatable(
    trained: tuple[Path, str], train: Callable[..., None], tmp_path: Path
) -> None:
    import torch

    first, told = trained
    assert "next: python tools/export.py" in told
    train(tmp_path)
    kept = [torch.load(out / "checkpoint.pt") for out in (first, tmp_path)]
    assert all(torch.equal(kept[0]["weights"][name], kept[1]["weights"][name]) for name in kept[0]["weights"])
    assert kept[0]["training"]["data"] == "generator:5"
    assert kept[0]["training"]["steps"] in (4, 8, 12)
    assert (kept[0]["rows"], kept[0]["cols"]) == (64, 128)
    assert (first / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_goes_on_where_it_stopped(trained: tuple[Path, str], train: Callable[..., None], tmp_path: Path) -> None:
    import torch

    out = shutil.copytree(trained[0], tmp_path / "out")
    before = torch.load(out / "last.pt")["at"]
    train(out, "--resume", "--steps", "20", "--checks", "5")
    after = torch.load(out / "last.pt")["at"]
    assert before["step"] == 12
    assert after["step"] == 20
    assert after["seconds"] > before["seconds"]
