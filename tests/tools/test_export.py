"""The card tells bounds and what judged what; an export that is refused leaves nothing."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from stations import Program

from edge_agent.inference.model import load_model

Tool = Callable[[str], ModuleType]
TOOLS = Path(__file__).parents[2] / "tools"
SIDE = 64


@pytest.fixture
def data(within: Program, tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    drawn = within("draw-parts", "--out", folder, "--classes", 1, "--count", 12, "--defect-share", 0.5, "--seed", 2)
    assert drawn.returncode == 0, drawn.stderr
    return folder / "Class1"


def leave(tool: Tool, folder: Path, training: dict[str, Any], **shape: Any) -> None:
    """A checkpoint of noise, and a last check that calls everything good."""
    import torch

    torch.manual_seed(0)
    network = tool("networks").network_of(tool("unet").Shape(4, 2, fine=False, **shape))
    folder.mkdir()
    kept = {"weights": network.state_dict(), "shape": network.shape.as_dict(), "rows": SIDE, "cols": SIDE}
    told = {"data": "folder:Class1", "terms": "", "split": "", "seconds": 1, **training}
    torch.save({**kept, "training": told, "scores": {"frames": 0}}, folder / "checkpoint.pt")
    torch.nn.init.constant_(network.head.weight, 0)
    torch.nn.init.constant_(network.head.bias, -9)
    torch.save({"mean": network.state_dict(), "at": {"step": 6, "seconds": 1.0}}, folder / "last.pt")


def export(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOLS / "export.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


def command(folds: str) -> str:
    return f"python tools/train.py --data folder:Class1 --steps 6 {folds} --out out/x"


def every_group(data: Path) -> list[str]:
    return [f"{half}/{file.name}" for half in ("Train", "Test") for file in sorted((data / half).glob("*.PNG"))]


def test_a_fold_is_judged_by_its_last_check_and_told_with_bounds(tool: Tool, data: Path, tmp_path: Path) -> None:
    groups = every_group(data)
    leave(tool, tmp_path / "model", {"held_out": [], "trained_on": groups, "command": command("")})
    leave(tool, tmp_path / "fold", {"held_out": groups, "command": command("--folds=3 --fold=1 --rate 0.1")})
    done = export(tmp_path / "model", "--folds", tmp_path / "fold", "--data", f"folder:{data}", "--note", "Chosen on these.")
    assert done.returncode == 0, done.stderr
    assert "OpenVINO against torch: 0 of 32768 pixels differ by more than one gray level, none by more than " in done.stdout
    assert f"{tmp_path / 'model'}: model.onnx, model.yaml and README.md are written\n" in done.stdout
    scores = yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())["scores"]["held out"]
    assert (scores["folds"], scores["of"], scores["differing"]) == ([1], 3, ["--rate"])
    assert all(at["tp"] == at["fp"] == 0 for at in scores["at"])  # the last check, not the weights kept
    card = (tmp_path / "model" / "README.md").read_text()
    bad, good = scores["at"][0]["fn"], scores["at"][0]["tn"]
    assert f"| 0.5 | 0 | 0 | {bad} | {good} | 100.0% (" in card
    assert "Of networks trained as this one but for --rate, only fold 1 of 3" in card
    assert "Cross-validation" not in card
    assert "Chosen on these." in card
    assert "--data folder:Class1" in card
    assert str(tmp_path.parent) not in card.partition("## Speed")[0]


def test_a_fold_may_hold_out_no_image_of_some_class(tool: Tool, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "parts" / folder).mkdir(parents=True)
    rows = ["image,mask,class,group"]
    for number, kind in enumerate(("Pit", "Dent", "ok", "ok")):
        for folder, level in (("images", 90 + number), ("masks", 255)):
            cv2.imwrite(str(tmp_path / "parts" / folder / f"{number}.png"), np.full((SIDE, SIDE), level, np.uint8))
        rows.append(f"{number}.png,{'' if kind == 'ok' else f'{number}.png'},{kind},{number}")
    (tmp_path / "parts" / "index.csv").write_text("\n".join(rows))
    classes = {"classes": ("Pit", "Dent"), "head": "softmax"}
    told = {"data": "folder:parts"}
    leave(tool, tmp_path / "model", {**told, "held_out": [], "trained_on": list("0123"), "command": command("")}, **classes)
    leave(tool, tmp_path / "fold", {**told, "held_out": ["0", "2"], "command": command("--folds 2 --fold 0")}, **classes)
    done = export(tmp_path / "model", "--folds", tmp_path / "fold", "--data", f"folder:{tmp_path / 'parts'}")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())["scores"]["held out"]["frames"] == 2


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("{data}", "say generator:SEED, a whole number, or folder:DIR"),
        ("generator:abc", "--check generator:abc: say generator:SEED"),
        ("folder:/nowhere", "/nowhere"),
        ("folder:{data}", "24 of its 24 groups were trained on"),
        ("generator:7 --defect-share 0 --count 4", "--check generator:7: its 4 frames are all good: they judge nothing. Draw more"),
        ("generator:7 --lower-odds nan", "--lower-odds nan: take -100 to 100"),
        ("generator:7 --count 0", "--count 0: take 1 or more"),
        ("generator:7 --threads 0", "--threads 0: take 1 or more"),
        ("generator:7 --defect-share 7", "--defect-share 7.0: take 0 to 1"),
    ],
)
def test_a_check_of_nothing_or_of_what_was_trained_on_is_refused_and_writes_nothing(
    tool: Tool, data: Path, tmp_path: Path, check: str, told: str
) -> None:
    names = sorted({file.name for file in data.rglob("*.PNG")})
    leave(tool, tmp_path / "model", {"held_out": [], "trained_on": [f"elsewhere/{name}" for name in names], "command": command("")})
    done = export(tmp_path / "model", "--check", *check.format(data=data).split())
    assert done.returncode == 1
    assert told in done.stderr
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["checkpoint.pt", "last.pt"]


def hashes_of(folder: Path) -> list[str]:
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in folder.glob("*.PNG"))


def test_a_check_of_copies_under_other_names_is_refused(tool: Tool, data: Path, tmp_path: Path) -> None:
    known = hashes_of(data / "Train")[:3]
    training = {"held_out": [], "trained_on": ["Train/9001.PNG"], "trained_on_sha256": known, "command": command("")}
    leave(tool, tmp_path / "model", training)
    done = export(tmp_path / "model", "--check", f"folder:{data.rename(tmp_path / 'others')}")
    assert done.returncode == 1
    assert "3 of its 24 pictures were trained on, such as Train/" in done.stderr
    assert not (tmp_path / "model" / "model.onnx").exists()


def test_other_pictures_of_the_same_names_are_judged_and_doubted(tool: Tool, data: Path, tmp_path: Path) -> None:
    names = sorted({f"Train/{file.name}" for file in (data / "Train").glob("*.PNG")})
    training = {"held_out": [], "trained_on": names, "trained_on_sha256": ["0123456789ab"], "command": command("")}
    leave(tool, tmp_path / "model", training)
    done = export(tmp_path / "model", "--check", f"folder:{data}")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "model" / "README.md").read_text()
    assert load_model(tmp_path / "model").papers.scores["unseen"]["frames"] == 24
    assert "**No picture of it was trained on, but 12 of its parts have names that this model was trained on" in card


def test_other_pictures_of_parts_trained_on_are_refused(tool: Tool) -> None:
    export_py, examples = tool("export"), tool("examples")
    few = examples.draw_examples(5, 0, 4, SIDE, SIDE)
    several = replace(few, groups=("7", "7", "8", "8"), hashes=("a", "b", "c", "d"))
    training = {"data": "folder:tiles", "trained_on": ["8", "9"], "trained_on_sha256": ["e", "f"]}
    with pytest.raises(SystemExit, match="1 of its 2 groups were trained on, such as 8"):
        export_py.require_unseen("folder:/else/tiles", several, training)
    export_py.require_unseen("folder:others", several, training)
    export_py.require_unseen("folder:/else/tiles", replace(several, groups=("7", "8", "9", "10")), training)


def test_the_models_papers_tell_of_the_training_what_its_checkpoint_does(tool: Tool, tmp_path: Path) -> None:
    import torch

    training = {"held_out": ["2"], "trained_on": ["1"], "trained_on_sha256": ["0123456789ab"], "command": command("--folds 3")}
    leave(tool, tmp_path / "model", {**training, "kept": "the last check", "seed": 3, "steps": 6, "cpu_seconds": 2})
    done = export(tmp_path / "model", "--lower-odds", 2)
    assert done.returncode == 0, done.stderr
    papers = yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())["training"]
    assert papers.pop("log_odds_lowered_by") == 2
    assert papers == torch.load(tmp_path / "model" / "checkpoint.pt")["training"]


def test_papers_and_card_tell_that_frames_are_judged_as_turned(tool: Tool, tmp_path: Path) -> None:
    leave(tool, tmp_path / "model", {"held_out": [], "trained_on": ["1"], "command": command("")}, encoder="lite0")
    done = export(tmp_path / "model", "--turned")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())["training"]["judged_as_turned"] == "by half"
    assert "judged as if it were turned by half" in (tmp_path / "model" / "README.md").read_text()


def test_folds_are_judged_as_turned_too(tool: Tool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_py = tool("export")
    leave(tool, tmp_path / "fold", {"held_out": every_group(data), "command": command("--folds 3")}, encoder="lite0")
    judged: list[Any] = []
    monkeypatch.setattr(export_py, "graph_of", lambda network, _: judged.append(network.stem.before))
    monkeypatch.setattr(export_py, "compiled", lambda *_: None)
    monkeypatch.setattr(
        export_py, "scores_of", lambda *_: export_py.score(np.zeros(2), np.array([True, False]), np.array(["", ""]))
    )
    args = argparse.Namespace(data=f"folder:{data}", folds=[tmp_path / "fold"], lower_odds=0.0, threads=1)
    for args.turned in (False, True):
        export_py.judge_folds(args, {"data": "folder:Class1", "command": command("")})
    assert judged == [0, 1]


def test_a_fold_that_nothing_judges_is_refused(tool: Tool, data: Path, tmp_path: Path) -> None:
    leave(tool, tmp_path / "fold", {"held_out": [], "command": command("")})
    args = argparse.Namespace(data=f"folder:{data}", folds=[tmp_path / "fold"], lower_odds=0.0, threads=1, turned=False)
    with pytest.raises(SystemExit, match="fold held out no group of a folder, so that it is no fold"):
        tool("export").judge_folds(args, {"data": "folder:Class1", "command": command("")})


def test_folds_are_read_as_train_py_reads_them(tool: Tool) -> None:
    told = {"held_out": ["1"], "command": command("--fold=1 --fold 2 --terms '--folds 9' --folds=4")}
    fold = tool("folds").fold_of(Path("out"), told)
    assert (fold.number, fold.of) == (2, 4)


@pytest.mark.parametrize(
    ("folds", "told"),
    [
        ((("a", 0, 3, "1"), ("b", 1, 4, "2")), "a is a fold of --folds 3, b of --folds 4: give folds of one split"),
        (
            (("a", 0, 3, "1"), ("b", 1, 3, "2"), ("a", 0, 3, "1")),
            "a and a both held out 1, one of 1 such groups: they would count twice",
        ),
        ((("a", 0, 3, "12"), ("b", 1, 3, "23")), "a and b both held out 2, one of 1 such groups"),
    ],
)
def test_folds_of_several_splits_and_one_given_twice_are_refused(
    tool: Tool, folds: tuple[tuple[str, int, int, str], ...], told: str
) -> None:
    given = [tool("folds").Fold(Path(name), number, of, frozenset(groups)) for name, number, of, groups in folds]
    with pytest.raises(SystemExit, match=told):
        tool("folds").require_one_split(given)
    tool("folds").require_one_split(given[:1])


def test_peaks_that_are_no_numbers_are_refused(tool: Tool, tmp_path: Path) -> None:
    export_py = tool("export")
    leave(tool, tmp_path / "model", {})
    network, _ = tool("checkpoints").load_network(tmp_path / "model" / "checkpoint.pt")
    export_py.lower_odds(network, float("nan"))
    runner = export_py.Runner(export_py.graph_of(network, "broken"), SIDE, SIDE, 1)
    with pytest.raises(SystemExit, match=r"the peak of a frame is (inf|nan), which is not finite: the weights are broken"):
        export_py.compare(network, runner, np.zeros((2, SIDE, SIDE), np.uint8))


def test_papers_that_the_station_refuses_are_not_written(tool: Tool, tmp_path: Path) -> None:
    training = {"held_out": [], "trained_on": ["1"], "command": command("")}
    leave(tool, tmp_path / "model", training, classes=("deep scratch",))
    done = export(tmp_path / "model")
    assert done.returncode == 1
    assert "classes" in done.stderr and "Traceback" not in done.stderr
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["checkpoint.pt", "last.pt"]


def test_the_folder_s_name_is_the_model_s_and_one_that_cannot_be_is_refused_before_the_work(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "no name").mkdir()
    refused = export(tmp_path / "no name")
    assert refused.stderr.startswith(f"{tmp_path / 'no name'}: no model may be called 'no name'. Name its folder with")
    leave(tool, tmp_path / "cap", {"held_out": [], "trained_on": ["1"], "command": command("")})
    done = export(".", cwd=tmp_path / "cap")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "cap" / "model.yaml").read_text())["name"] == "cap"


def test_a_network_without_ends_of_its_own_is_not_turned(tool: Tool, tmp_path: Path) -> None:
    leave(tool, tmp_path / "model", {"held_out": [], "trained_on": ["1"], "command": command("")})
    done = export(tmp_path / "model", "--turned")
    assert done.returncode == 1
    assert "--turned: an encoder that is plain sees all ends of a frame alike" in done.stderr
    assert not (tmp_path / "model" / "model.onnx").exists()


def test_a_check_whose_names_were_trained_on_in_another_folder_is_doubted_on_the_card(
    tool: Tool, data: Path, tmp_path: Path
) -> None:
    names = sorted({f"Train/{file.name}" for file in (data / "Train").glob("*.PNG")})
    leave(tool, tmp_path / "model", {"held_out": [], "trained_on": names[:5], "command": command("")})
    done = export(tmp_path / "model", "--check", f"folder:{data / 'Train'}")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "model" / "README.md").read_text()
    assert "**5 of its parts have names that this model was trained on: they may be the same parts.**" in card
    assert "--check folder:Train" in card


def test_all_folds_are_cross_validation_and_one_of_several_is_held_out(tool: Tool) -> None:
    counts = {"threshold": 0.5, "tp": 36, "fp": 0, "fn": 0, "tn": 252, "slip_groups": [2, 8], "reject_groups": [0, 18]}
    scores = {"frames": 288, "auc": 1.0, "at": [counts], "kinds": [], "of": 3, "differing": []}
    papers = {
        "name": "cap",
        "version": 1,
        "input": {"rows": SIDE, "cols": SIDE},
        "training": {
            "data": "folder:x",
            "terms": "",
            "split": "",
            "command": "",
            "seconds": 1,
            "held_out": ["1"],
            "kept": "the last check",
        },
        "scores": {"held out": {**scores, "folds": [0]}, "openvino": dict.fromkeys(OPENVINO, 0)},
    }
    card = tool("card").card_of(papers, tool("unet").Shape(), "python tools/export.py")
    assert "only fold 0 of 3" in card
    assert "| 0.5 | 36 | 0 | 0 | 252 | 0.0% (0.0% to 9.7%) | 0.0% (0.0% to 1.5%) | 2 of 8: 25.0% (3.2% to 65.1%) |" in card
    assert "what was held out chose nothing" in card
    papers["scores"] = {"cross-validation": {**scores, "folds": [0, 1, 2]}, "openvino": dict.fromkeys(OPENVINO, 0)}
    assert "the sum of all folds" in tool("card").card_of(papers, tool("unet").Shape(), "")


OPENVINO = ("threads", "median_ms", "pixels_off_by_more_than_1", "pixels", "largest_difference")
