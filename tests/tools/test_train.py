"""A short training: learns, keeps its best weights, goes on where it stopped, and tells how it came to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
HOW = [
    *("--data", "generator:5", "--count", "16", "--val", "6", "--rows", "64", "--cols", "64", "--frame", "64x128"),
    *("--filters", "4", "--levels", "2", "--coarse", "--steps", "12", "--checks", "3", "--batch", "2", "--device", "cpu"),
    *("--seed", "3", "--out"),
]


def train(out: Path, *more: str) -> str:
    pytest.importorskip("torch", reason="torch is not installed; `make tools` installs it")
    done = subprocess.run([sys.executable, TOOLS / "train.py", *HOW, out, *more], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_leaves_weights_papers_and_curves_and_is_repeatable(tmp_path: Path) -> None:
    import torch

    first, second = tmp_path / "first", tmp_path / "second"
    assert "next: python tools/export.py" in train(first)
    train(second)
    kept = [torch.load(out / "checkpoint.pt") for out in (first, second)]
    assert all(torch.equal(kept[0]["weights"][name], kept[1]["weights"][name]) for name in kept[0]["weights"])
    assert kept[0]["training"]["data"] == "generator:5"
    assert kept[0]["training"]["steps"] in (4, 8, 12)
    assert (kept[0]["rows"], kept[0]["cols"]) == (64, 128)
    assert (first / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    import torch

    train(tmp_path)
    before = torch.load(tmp_path / "last.pt")["at"]
    train(tmp_path, "--resume", "--steps", "20", "--checks", "5")
    after = torch.load(tmp_path / "last.pt")["at"]
    assert before["step"] == 12
    assert after["step"] == 20
    assert after["seconds"] > before["seconds"]
