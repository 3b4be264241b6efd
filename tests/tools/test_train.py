"""A short training: learns, keeps its weights, goes on where it stopped, and tells how it came to be."""

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
    assert kept[0]["training"]["steps"] == 12
    assert kept[0]["training"]["kept"] == "the last check"
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
    assert after["cpu_seconds"] > before["cpu_seconds"] > 0
    curve = torch.load(out / "last.pt")["curve"]
    assert [step for step, *_ in curve] == [4, 8, 12, 16, 20]


def test_a_finished_training_goes_on_for_more_steps_with_the_checks_it_had(
    trained: tuple[Path, str], train: Callable[..., None], tmp_path: Path
) -> None:
    import torch

    out = shutil.copytree(trained[0], tmp_path / "out")
    train(out, "--resume", "--steps", "24")
    assert [step for step, *_ in torch.load(out / "last.pt")["curve"]] == [4, 8, 12, 16, 24]


def test_the_best_check_is_kept_only_when_asked_for(
    train: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    train(tmp_path, "--keep", "best", "--patience", "1", "--rate", "0.3")  # at that rate it gets worse
    kept, last = torch.load(tmp_path / "checkpoint.pt"), torch.load(tmp_path / "last.pt")
    assert f"check {last['at']['best_check']} is in" in capsys.readouterr().out
    assert kept["training"]["steps"] == 4 * last["at"]["best_check"] < last["at"]["step"]
    assert kept["training"]["kept"] == f"check {last['at']['best_check']}, the best on what was held out"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--data", "folder:x", "--folds", "3", "--fold", "3"), "--folds 3 --fold 3: take 2 folds or more, and one from 0"),
        (("--data", "folder:x", "--folds", "1"), "--folds 1 --fold 0"),
        (("--val", "0", "--keep", "best"), "--keep best: nothing is held out to choose by"),
        (("--window", "0.8"), "but they are judged at 64x128"),
        (("--rows", "128"), "a crop is no larger than the frame, 64x128"),
    ],
)
def test_what_cannot_be_meant_is_refused(tool: Callable[[str], ModuleType], more: tuple[str, ...], told: str) -> None:
    options = tool("options")
    options.check(options.parser().parse_args([*map(str, HOW), "out"]))
    with pytest.raises(SystemExit, match=told):
        options.check(options.parser().parse_args([*map(str, HOW), "out", *more]))


def test_the_trial_of_mixed_precision_trains_copies_and_leaves_the_network_as_it_is(
    tool: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    train_py, augment = tool("train"), tool("augment")
    args = tool("options").parser().parse_args([*map(str, HOW), "out"])
    parts = tool("examples").draw_examples(5, 0, 6, 64, 64)
    network = train_py.begun(tool("options").shape_of(args))
    before = {name: each.clone() for name, each in network.state_dict().items()}
    steps = []
    whole = torch.amp.GradScaler.step
    monkeypatch.setattr(
        torch.amp.GradScaler, "step", lambda scaler, *each: (steps.append(scaler.is_enabled()), whole(scaler, *each))[1]
    )
    assert train_py.speed_up(args, network, augment.Sampler(parts, augment.Augmentation(64, 64), (), 0), steps=2) > 0
    assert steps == [False] * 7 + [True] * 7
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())


def test_crops_are_of_frames_as_they_are_judged(tool: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    train_py, options, examples = tool("train"), tool("options"), tool("examples")
    from rich.console import Console

    seen = []
    monkeypatch.setattr(train_py, "Sampler", lambda examples, *more: seen.append(examples))
    large = examples.draw_examples(5, 0, 4, 256, 512)
    for words in ([], ["--window", "0.8", "--frame", ""]):
        args = options.parser().parse_args([*map(str, HOW), "out", *words])
        options.check(args)
        train_py.begin(args, options.shape_of(args), examples.Split(large, large, ""), Console(quiet=True))
    assert [each.pairs[0][0].shape for each in seen] == [(64, 128), (256, 512)]  # a window is stretched by itself
