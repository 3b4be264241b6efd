"""A short training: learns, keeps its weights, goes on where it stopped, and tells how it came to be."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
from stations import Program

Tool = Callable[[str], ModuleType]
TOOLS = Path(__file__).parents[2] / "tools"
HOW = [
    *("--data", "generator:5", "--count", "16", "--val", "6", "--rows", "64", "--cols", "64", "--frame", "64x128"),
    *("--filters", "4", "--levels", "2", "--coarse", "--steps", "12", "--checks", "3", "--batch", "2", "--device", "cpu"),
    *("--seed", "3", "--out"),
]

FOLDER = ("--data", "folder:x", "--count", "400", "--val", "100")  # the defaults, which a folder has no use for


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
    sheet = cv2.imread(str(first / "examples.png"))
    assert sheet is not None
    assert ((sheet.max(axis=2) - sheet.min(axis=2)) > 100).any(), "defects have outlines in a colour, surfaces have none"


def test_with_nothing_held_out_no_scores_of_nothing_are_told(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    train(tmp_path, "--val", "0", "--steps", "3")
    told = capsys.readouterr().out
    assert f"next: python tools/export.py {tmp_path}\n" in told, "one line, to be copied, however long"
    assert "nothing is held out" in told and "nan" not in told and "threshold" not in told


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
    last = torch.load(out / "last.pt")
    assert [step for step, *_ in last["curve"]] == [4, 8, 12, 16, 24]
    assert "--resume" not in str(last), "its command is one to begin with"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--seed", "4"), "--seed differ"),
        (("--data", "generator:6"), "--data differ"),
        (("--filters", "8", "--loss", "dice"), "--filters, --loss differ"),
        (("--keep", "best"), "--keep differ"),
    ],
)
def test_another_training_does_not_go_on_from_it(
    trained: tuple[Path, str], train: Callable[..., None], tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    out = shutil.copytree(trained[0], tmp_path / "out")
    before = (out / "last.pt").read_bytes()
    with pytest.raises(SystemExit, match=f"is of another training: {told}"):
        train(out, *more, "--resume", "--steps", "20")
    assert (out / "last.pt").read_bytes() == before


def test_it_goes_on_on_more_threads_and_with_other_terms(
    trained: tuple[Path, str], train: Callable[..., None], tmp_path: Path
) -> None:
    import torch

    out = shutil.copytree(trained[0], tmp_path / "out")
    train(out, "--resume", "--threads", "2", "--terms", "none", "--steps", "14")
    assert torch.load(out / "last.pt")["at"]["step"] == 14


@pytest.mark.parametrize(
    "more",
    [
        (*FOLDER, "--folds", "4", "--split-seed", "2"),
        ("--steps", "0", "--minutes", "5"),
        ("--keep", "best", "--patience", "3"),
        ("--encoder", "lite0", "--stem", "4", "--encoder-rate", "0"),
    ],
)
def test_what_has_an_effect_is_taken(tool: Tool, more: tuple[str, ...]) -> None:
    options = tool("options")
    options.check(options.parser().parse_args([*map(str, HOW), "out", *more]))


def folds_of(folder: Path, fold: int) -> list[str]:
    return [*FOLDER, "--data", f"folder:{folder}", "--frame", "64x64", "--folds", "3", "--fold", str(fold)]


@pytest.mark.parametrize("is_told_in_last", [True, False])
def test_a_fold_does_not_go_on_from_another_whose_frames_it_would_be_judged_on(
    within: Program, tool: Tool, train: Callable[..., None], tmp_path: Path, is_told_in_last: bool
) -> None:
    torch, save = pytest.importorskip("torch"), tool("checkpoints").save
    drawn = within("draw-parts", "--out", "parts", "--classes", 1, "--count", 12, "--defect-share", 0.5, "--seed", 2)
    assert drawn.returncode == 0, drawn.stderr
    parts, out = tmp_path / "parts" / "Class1", tmp_path / "out"
    train(out, *folds_of(parts, 0))
    if not is_told_in_last:  # as it was left before last.pt told of itself
        last = torch.load(out / "last.pt")
        del last["training"]
        save(last, out / "last.pt")
    with pytest.raises(SystemExit, match="--fold, the groups held out, the images trained on differ"):
        train(out, *folds_of(parts, 1), "--resume", "--steps", "20")
    renamed = shutil.copytree(parts, tmp_path / "others" / "Class1")
    first = sorted(renamed.glob("Train/*.PNG"))[0]
    first.write_bytes(sorted(renamed.glob("Train/*.PNG"))[1].read_bytes())
    with pytest.raises(SystemExit, match="another training: the images trained on differ"):
        train(out, *folds_of(renamed, 0), "--resume", "--steps", "20")
    train(out, *folds_of(parts, 0), "--resume", "--steps", "20")


def test_even_the_shortest_training_leaves_something_to_export(train: Callable[..., None], tmp_path: Path) -> None:
    train(tmp_path, "--steps", "0", "--minutes", "0.001", "--checks", "1", "--rows", "16", "--cols", "16")
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_stop_while_writing_leaves_the_file_as_it_was(tool: Tool, tmp_path: Path) -> None:
    checkpoints, file = tool("checkpoints"), tmp_path / "last.pt"
    checkpoints.save({"at": 1}, file)
    with pytest.raises((AttributeError, pickle.PicklingError)):  # half of it is written
        checkpoints.save({"at": 2, "rest": lambda: None}, file)
    assert checkpoints.load(file) == {"at": 1}
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(SystemExit, match=r"last\.pt is not what tools/train\.py leaves, or only a part of it"):
        checkpoints.load(file)


def test_batches_drawn_ahead_are_the_same_in_the_same_order(tool: Tool) -> None:
    augment, batches, torch = tool("augment"), tool("batches"), pytest.importorskip("torch")
    parts = tool("examples").draw_examples(5, 0, 6, 64, 64)
    how = augment.Augmentation(64, 64)
    here, in_a_thread = (batches.drawn(augment.Sampler(parts, how, (), 7), 2, 4, "cpu") for _ in range(2))
    in_a_thread = batches.ahead(in_a_thread)
    for _ in range(5):
        assert all(torch.equal(one, other) for one, other in zip(next(here), next(in_a_thread), strict=True))


def test_what_fails_in_drawing_ahead_fails_the_training(tool: Tool) -> None:
    batches = tool("batches")
    with pytest.raises(ZeroDivisionError):
        list(batches.ahead(1 / each for each in (2, 1, 0)))
    assert list(batches.ahead(iter([3, 1, 2]))) == [3, 1, 2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train.py", "--data", "folder:/nowhere", "--out", "out"), "/nowhere"),
        (("train.py", "--data", "folder:/nowhere", "--out", "taken"), "--out taken cannot be written: File exists"),
        (("export.py", "nothing"), "nothing/checkpoint.pt is not there: train it first"),
        (("compare.py", "--data", "folder:/nowhere", "--out", "out.md", "--only", "tutorial"), "/nowhere"),
    ],
)
def test_what_is_refused_ends_with_a_line_and_no_traceback(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(words))
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit, match=told):
        tool(words[0].removesuffix(".py")).main()


def test_every_option_says_what_it_is_and_its_default(tool: Tool) -> None:
    parser = tool("options").parser()
    assert [action.option_strings for action in parser._actions if not action.help] == []
    told = " ".join(parser.format_help().split())
    assert "(default: 16)" in told
    assert "(default: 0.004)" in told
    assert "None" not in told
    assert "(default: False)" not in told


def test_the_best_check_is_kept_only_when_asked_for(
    train: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    train(tmp_path, "--keep", "best", "--patience", "1", "--rate", "0.3")  # at that rate it gets worse
    kept, last = torch.load(tmp_path / "checkpoint.pt"), torch.load(tmp_path / "last.pt")
    told, at = " ".join(capsys.readouterr().out.split()), last["at"]
    assert f"stopped after check {at['check']}: none is better than check {at['best_check']}, and --patience is 1" in told
    assert f"check {at['best_check']} is in" in told
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
        (("--frame", "256"), "--frame 256: say ROWSxCOLS in pixels, such as 512x512"),
        (("--frame", "0x64"), "--frame 0x64: say ROWSxCOLS"),
        (("--data", "generator:abc"), "--data generator:abc: say generator:SEED, a whole number, or folder:DIR"),
        (("--data", "parts"), "--data parts: say generator:SEED"),
        (("--classes", "pit,dent", "--head", "softmax"), "drawn parts have one class of defect; name one"),
        (("--data", "folder:x", "--classes", "pit,Pit"), "--classes pit,Pit: name each class once"),
        (("--classes", "deep scratch"), "--classes deep scratch: a model with 'deep scratch' could not be exported"),
        (("--data", "folder:x", "--classes", "pit,Überlauf"), "a model with 'Überlauf' could not be exported"),
        (("--out", "models/my cap"), "--out models/my cap: a model with 'my cap' could not be exported"),
        (("--checks", "0"), "--checks 0: take 1 or more"),
        (("--steps", "0", "--minutes", "0"), r"--minutes 0\.0: take 0\.001 or more"),
        (("--flaws", "defect=hole"), "--draw 0 --flaws 'defect=hole': one says how often"),
        (("--draw", "0.4"), "--draw 0.4 --flaws '': one says how often, the other what is drawn. Give both, or none"),
        (("--draw", "0.4", "--flaws", "defect=hole", "--paste", "0.7"), "--paste 0.7 --draw 0.4: together they are at most 1"),
        (("--dropout", "nan"), r"--dropout nan: take 0 to 0\.99"),
        (("--defect-share", "1.5"), r"--defect-share 1\.5: take 0 to 1"),
        (("--device", "abacus"), "--device abacus: torch has no such device here"),
        (("--folds", "4"), "--folds 4 changes nothing: of drawn parts, --val are held out. Leave it out"),
        (("--split-seed", "2"), "--split-seed 2 changes nothing: of drawn parts"),
        (("--data", "folder:x"), "--count 16 changes nothing: a folder is taken whole, and --folds hold some of it out"),
        ((*FOLDER, "--val", "7"), "--val 7 changes nothing: a folder is taken whole"),
        ((*FOLDER, "--split-seed", "2"), "--split-seed 2 changes nothing: without --folds nothing is dealt out"),
        (("--minutes", "5"), r"--minutes 5\.0 changes nothing: it is --steps 12 that say how long"),
        (("--patience", "3"), "--patience 3 changes nothing: only --keep best stops early"),
        (("--encoder-rate", "0.1"), r"--encoder-rate 0\.1 changes nothing: --encoder plain has learnt nothing before"),
    ],
)
def test_what_cannot_be_meant_is_refused(tool: Callable[[str], ModuleType], more: tuple[str, ...], told: str) -> None:
    options = tool("options")
    options.check(options.parser().parse_args([*map(str, HOW), "out"]))
    with pytest.raises(SystemExit, match=told):
        options.check(options.parser().parse_args([*map(str, HOW), "out", *more]))


def test_spaces_between_classes_are_none_of_their_names(tool: Tool) -> None:
    options = tool("options")
    asked = options.parser().parse_args([*map(str, FOLDER), "--out", "out", "--classes", "pit, dent"])
    assert options.shape_of(asked).classes == ("pit", "dent")


@pytest.mark.parametrize(
    ("where", "name"),
    [(".", "parts"), ("./", "parts"), ("..", "data"), ("Class1/", "Class1"), ("../a/b/..", "a"), ("link", "link")],
)
def test_papers_tell_the_name_of_a_folder_however_it_is_given(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, name: str
) -> None:
    parts = tmp_path / "data" / "parts"
    parts.mkdir(parents=True)
    (parts / "link").symlink_to(tmp_path)
    monkeypatch.chdir(parts)
    assert tool("options").told_of(f"folder:{where}") == f"folder:{name}"
    assert tool("options").told_of("generator:5") == "generator:5"


def once(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, refused from the second time on."""
    calls = iter([call])
    return lambda *words: next(calls)(*words)


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
    sampler = augment.Sampler(parts, augment.Augmentation(64, 64), (), 0)
    monkeypatch.setattr(sampler, "batch", once(sampler.batch))  # what is timed is the steps, not the drawing of examples
    assert train_py.speed_up(args, network, next(tool("batches").drawn(sampler, 2, 4, "cpu")), steps=2) > 0
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
        shape = options.shape_of(args)
        train_py.begin(args, shape, train_py.sampler_of(args, shape, examples.Split(large, large, "")), Console(quiet=True))
    assert [each.pairs[0][0].shape for each in seen] == [(64, 128), (256, 512)]  # a window is stretched by itself
