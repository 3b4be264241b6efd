"""What counts as trained, what may be passed on to the training, and what the table is made of."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Tool = Callable[[str], ModuleType]
SIDE = 64


@pytest.fixture
def compare(tool: Tool) -> ModuleType:
    return tool("compare")


def words(folder: Path, steps: int = 6, more: str = "") -> list[str]:
    """Words of a training of the first two of four drawn frames."""
    how = f"--data folder:{folder.parent}/parts --frame {SIDE}x{SIDE} --rows {SIDE} --cols {SIDE} --folds 3 --steps {steps}"
    return shlex.split(f"{how} --filters 4 --levels 2 --coarse --out {folder} {more}")


def split(tool: Tool) -> Any:
    examples = tool("examples")
    drawn = examples.draw_examples(3, 0, 12, SIDE, SIDE)
    return examples.Split(drawn, drawn, "drawn")


def leave(tool: Tool, folder: Path, step: int, cpu: bool = True) -> Any:
    """What train.py leaves after `step` steps: kept weights of noise, last ones all zero."""
    import torch

    torch.manual_seed(0)
    args = tool("options").parser().parse_args(words(folder))
    network = tool("unet").UNet(tool("options").shape_of(args))
    told = {"data": "folder:parts", "held_out": sorted(set(split(tool).val.groups)), "steps": 3, "cpu_seconds": 5}
    told["command"] = shlex.join(["python", "anywhere/train.py", *words(folder, more="--patience 99")])
    folder.mkdir(exist_ok=True)
    kept = {"weights": network.state_dict(), "shape": network.shape.as_dict(), "rows": SIDE, "cols": SIDE, "training": told}
    torch.save(kept, folder / "checkpoint.pt")
    mean = {name: each * 0 for name, each in network.state_dict().items()}
    at = {"step": step, "seconds": 9.0} | ({"cpu_seconds": 7.5} if cpu else {})
    torch.save({"at": at, "mean": mean}, folder / "last.pt")
    return network


def test_only_a_training_of_the_same_words_that_came_to_its_end_is_done(tool: Tool, compare: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "7-0"
    assert not compare.is_trained(words(folder), folder, split(tool))
    leave(tool, folder, step=2)
    assert not compare.is_trained(words(folder), folder, split(tool))
    leave(tool, folder, step=6)
    assert compare.is_trained(words(folder), folder, split(tool))
    with pytest.raises(SystemExit, match=r"7-0 holds another training: --rate, --steps differ. Name another --work"):
        compare.is_trained(words(folder, steps=9, more="--rate 0.1"), folder, split(tool))


def test_a_training_on_other_data_of_the_same_name_is_refused(tool: Tool, compare: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "7-0"
    leave(tool, folder, step=6)
    drawn = tool("examples").draw_examples(3, 100, 4, SIDE, SIDE)
    with pytest.raises(SystemExit, match="another training: --data differ"):
        compare.is_trained(words(folder), folder, tool("examples").Split(drawn, drawn, "others"))


def test_the_last_check_is_judged_and_not_the_best(tool: Tool, tmp_path: Path) -> None:
    network = leave(tool, tmp_path / "7-0", step=6)
    last, papers = tool("checkpoints").load_last(tmp_path / "7-0")
    assert papers["training"]["data"] == "folder:parts"
    assert not any(each.any() for each in last.state_dict().values())
    assert any(each.any() for each in network.state_dict().values())


def test_the_time_to_train_is_of_the_whole_training(tool: Tool, tmp_path: Path) -> None:
    leave(tool, tmp_path / "7-0", step=6)
    assert tool("checkpoints").cpu_seconds_of(tmp_path / "7-0") == (7.5, True)
    leave(tool, tmp_path / "7-0", step=6, cpu=False)  # kept up to step 3 only, where it was 5 s
    assert tool("checkpoints").cpu_seconds_of(tmp_path / "7-0") == (10.0, False)


@pytest.mark.parametrize("more", ["--fold=1", "--folds 5", "--split-seed 1", "--seed 3"])
def test_words_that_would_make_the_judging_another_are_refused(
    compare: ModuleType, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py", "--out", "x.md", "--data", "folder:parts", *more.split()])
    with pytest.raises(SystemExit, match="the same for all candidates"):
        compare.parse()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--only nosuch", "--only nosuch: no candidate's name holds this. There are: tutorial's U-Net"),
        ("--only nosuch --untrained", "--only nosuch: no candidate's name holds this"),
        ("--also mine", "--also mine: say NAME=WORDS"),
        ("--also mine=", "--also mine=: say NAME=WORDS"),
        ('--also "mine=--classes \'pit"', "--also mine=--classes 'pit: say NAME=WORDS"),
        ("--also 'mine=--coarse --frame 64x64'", "--frame: the same for all candidates"),
        ("--also 'mine=--frame=128x128 --data folder:x'", "--data, --frame: the same for all candidates"),
        ("--also 'mine=--coarse --fold 1'", "--fold: the same for all candidates"),
        ("--data generator:1", "--data generator:1: candidates are judged on a fold of a folder. Say folder:DIR"),
        ("--data parts", "--data parts: say generator:SEED, a whole number, or folder:DIR"),
        ("--seeds 0", "--seeds 0: take 1 or more"),
        ("--steps 0", "--steps 0: take 1 or more"),
        ("--out nowhere/x.md", "--out nowhere/x.md: name a file, in a folder that is there"),
        ("--out .", "--out .: name a file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_training(
    compare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare.py", "--out", "x.md", "--data", "folder:parts", *shlex.split(words)])
    with pytest.raises(SystemExit, match=re.escape(told)):
        compare.main()
    assert not list(tmp_path.iterdir())


def test_a_candidate_has_all_options_of_a_network(compare: ModuleType) -> None:
    more = "--stem 4 --levels 2 --filters 4 --coarse --head softmax --normalise --classes pit,dent"
    shape = compare.untrained(more, "64x64").shape
    assert (shape.head, shape.normalise, shape.classes, shape.fine) == ("softmax", True, ("pit", "dent"), False)


def test_eight_bits_are_calibrated_on_frames_from_the_whole_of_those_trained_on(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    judged, examples = tool("judged"), tool("examples")
    frames = [np.full((SIDE, SIDE), gray, np.uint8) for gray in range(200)]
    pairs = tuple((frame, frame * 0) for frame in frames)
    many = examples.Examples(pairs, np.array(["good"] * 200), np.zeros(200, bool), tuple(map(str, range(200))))
    seen: list[int] = []
    monkeypatch.setattr(judged, "measure_ranges", lambda _, frames, *more: seen.extend(int(each[0, 0]) for each in frames))
    monkeypatch.setattr(judged, "make", lambda *each: None)
    judged.eightbit_of(tool("unet").UNet(tool("unet").Shape(4, 2)), many, SIDE, SIDE)
    assert len(seen) == 128
    assert (seen[0], seen[-1]) == (0, 199)
