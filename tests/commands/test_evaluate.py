"""`edge-agent evaluate` through the program: every figure follows from parts whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from bright import gray, write_bright_model
from stations import RECIPE, ROOT, Program
from two_classes import write_two_class_model

from edge_agent.camera.texture import draw_part, label_of
from edge_agent.commands.evaluation.gallery import title_of
from edge_agent.recipe import load_recipe

SQUARE = (slice(20, 28), slice(10, 18))  # 64 pixels
LEVELS = {0.1: 178, 0.3: 192, 0.5: 200, 0.7: 208, 0.9: 222}  # gray of which the bright model thinks so


class Bench:
    """A dataset with index.csv, a model and a recipe, and the program to judge them with."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder, self._program = folder, program
        self.data, self.out = folder / "parts", folder / "out"
        self.model = write_bright_model(folder / "models" / "bright")
        self.recipe: dict[str, Any] = {**RECIPE, "rules": [{"rule": "blob_count", "max": 0}]}
        self._rows: list[str] = []

    def add(self, level: int, kind: str, group: str = "", size: tuple[int, int] = (64, 64), background: int = 100) -> None:
        """A part with a square of this gray, labelled a defect there unless it is good."""
        frame, mask = gray(*size, background), np.zeros(size, np.uint8)
        frame[SQUARE] = level
        if kind != "good":
            mask[SQUARE] = 255
        name = f"{len(self._rows):03d}.png"
        for folder, picture in (("images", frame), ("masks", mask)):
            (self.data / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self.data / folder / name), picture)
        self._rows.append(f"{name},{name},{kind},{group or len(self._rows)}")

    def judge(self, *words: object, code: int = 0) -> str:
        (self.data / "index.csv").write_text("\n".join(["image,mask,class,group", *self._rows]) + "\n")
        (self.folder / "part.yaml").write_text(yaml.safe_dump(self.recipe))
        named = ("--model", self.model, "--recipe", self.folder / "part.yaml", "--data", self.data, "--out", self.out)
        done = self._program("--log-level", "error", "evaluate", *named, *words)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "evaluation.json").read_text())
        return found

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path, within: Program) -> Bench:
    return Bench(tmp_path, within)


def fill(bench: Bench) -> None:
    """Good parts at 0.1, 0.3, 0.7 and defective ones at 0.3, 0.7, 0.9 and 0.9."""
    for level in (LEVELS[0.1], LEVELS[0.3], LEVELS[0.7]):
        bench.add(level + 1, "good")
    for level in (LEVELS[0.3], LEVELS[0.7], LEVELS[0.9], LEVELS[0.9]):
        bench.add(level + 1, "spot")


def test_every_figure_of_parts_whose_answer_is_known(bench: Bench) -> None:
    fill(bench)
    told = bench.judge()
    result = bench.result()
    table = {each["threshold"]: tuple(each[key] for key in ("tp", "tn", "fp", "fn")) for each in result["thresholds"]}
    assert table[0.1] == (4, 0, 3, 0)
    assert table[0.2] == table[0.3] == (4, 1, 2, 0)
    assert table[0.5] == table[0.7] == (3, 2, 1, 1)
    assert table[0.8] == table[0.9] == (2, 3, 0, 2)
    assert result["auc"] == pytest.approx((1.5 + 2.5 + 3 + 3) / 12)
    stands = result["as_it_stands"]
    assert (stands["slip"]["count"], stands["slip"]["of"], stands["false_reject"]["count"]) == (1, 4, 1)
    assert (stands["slip"]["low"], stands["slip"]["high"]) == pytest.approx((0.00631, 0.80588), abs=1e-5)
    assert "1 of 4" in told and "slips, of defective images" in told
    rows = bench.rows()
    assert [row["outcome"] for row in rows] == ["PASS", "PASS", "NG", "PASS", "NG", "NG", "NG"]
    assert [row["error"] for row in rows] == [None, None, "false_reject", "slip", None, None, None]
    assert (rows[4]["kind"], rows[4]["area_px"], rows[4]["truth_area_px"], rows[4]["dice"]) == ("spot", 64, 64, 1.0)
    pixels = result["pixels"]
    assert pixels["classes"]["defect"]["truth_px"] == 4 * 64
    assert pixels["any_defect"]["iou"] == pytest.approx(3 / 5), "three squares found, one slipped, one on a good part"
    assert pixels["accuracy"] == pytest.approx(1 - 2 * 64 / (7 * 64 * 64))
    assert result["sizes"] == [{"from_px": 64.0, "to_px": None, "slip": stands["slip"]}]
    for name in ("threshold.png", "precision_recall.png", "scores.png", "worst.png"):
        picture = cv2.imread(str(bench.out / name))
        assert picture is not None and picture.std() > 5, name
        assert f"({name})" in (bench.out / "report.md").read_text()


def test_one_high_score_is_seen_beside_many_low_ones(bench: Bench) -> None:
    for level in [LEVELS[0.1]] * 150 + [LEVELS[0.9]]:
        bench.add(level + 1, "good")
    bench.judge()
    plot = cv2.imread(str(bench.out / "scores.png")).astype(int)
    blue, green, red = np.moveaxis(plot[:, plot.shape[1] * 3 // 4 :], 2, 0)
    assert ((green - red > 50) & (green - blue > 50)).sum() > 200, "the bar of a single false reject"


def test_the_worst_images_are_named_with_their_folders() -> None:
    assert title_of("Class6/Train/0020.PNG") == "Class6/Train/0020.PNG", "every class has a 0020.PNG"
    long = title_of(f"{'tray/' * 20}0020.PNG")
    assert long.startswith("...") and long.endswith("tray/0020.PNG") and len(long) == 47


def test_the_recipe_is_judged_with_all_its_rules(bench: Bench) -> None:
    fill(bench)
    bench.recipe["classes"] = {"defect": {"threshold": 0.5, "min_area_px": 65}}  # the squares are smaller
    bench.judge()
    result = bench.result()
    assert result["as_it_stands"]["slip"]["count"] == 4
    assert {each["threshold"]: each["tp"] for each in result["thresholds"]}[0.5] == 3, "the table looks at pixels only"
    assert all(each["tp"] == 0 for each in result["recipe_at"])


def test_the_line_and_the_recipe_tried_again_at_its_own_threshold_agree(bench: Bench) -> None:
    fill(bench)
    bench.recipe["rules"] = [{"rule": "blob_area", "max_px": 70}, {"rule": "peak_score", "max": 0.65}]
    bench.judge()
    result = bench.result()
    (own,) = [each for each in result["recipe_at"] if each["threshold"] == 0.5]
    assert {(each["tp"], each["fp"]) for each in result["recipe_at"]} == {(3, 1)}, (
        "peaks count where no pixel reaches the threshold"
    )
    stands = result["as_it_stands"]
    assert {key: own[key] for key in ("tp", "tn", "fp", "fn")} == {key: stands[key] for key in ("tp", "tn", "fp", "fn")}
    assert (stands["tp"], stands["fp"]) == (3, 1)


def test_a_threshold_is_picked_and_the_recipe_written_is_as_good_as_was_said(bench: Bench) -> None:
    fill(bench)
    bench.judge("--pick", "false_reject<=0")
    picked = bench.result()["pick"]
    written = load_recipe(bench.out / "part.yaml")
    assert written.classes["defect"].threshold == picked["thresholds"]["defect"]
    assert 0.72 < picked["thresholds"]["defect"] <= 0.9
    bench.recipe = yaml.safe_load((bench.out / "part.yaml").read_text())
    bench.out = bench.folder / "again"
    bench.judge()
    stands = bench.result()["as_it_stands"]
    assert (stands["slip"], stands["false_reject"]) == (picked["slip"], picked["false_reject"])
    assert (stands["slip"]["count"], stands["false_reject"]["count"]) == (2, 0)


def test_a_target_out_of_reach_is_exit_1_with_the_best_and_the_report_stands(bench: Bench) -> None:
    bench.add(LEVELS[0.9], "good")
    bench.add(LEVELS[0.7], "spot")
    said = bench.judge("--pick", "precision>=0.9", code=1)
    assert "reaches precision >= 0.9. The best that can be had is precision 0.5000" in said
    assert "error" in bench.result()["pick"]
    assert not (bench.out / "part.yaml").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--pick", "accuracy>=1"), 2, "is no condition"),
        (("--groups", "nobody"), 2, "has no group nobody"),
        (("--groups", "1", "--exclude-groups", "1"), 2, "is left to judge"),
        (("--groups-file", "nowhere.txt"), 2, "cannot be read"),
        (("--held-out",), 2, "training.held_out"),
        (("--model", "nothing"), 78, "--model nothing: neither model.yaml nor a network in nothing, models/nothing, "),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(bench: Bench, words: tuple[str, ...], code: int, said: str) -> None:
    bench.add(250, "spot", "1")
    assert said in bench.judge(*words, code=code)
    assert not bench.out.exists()


def test_a_report_does_not_become_part_of_the_data(bench: Bench) -> None:
    bench.add(250, "spot")
    bench.out = bench.data / "report"
    assert "lies in the dataset" in bench.judge(code=2)


def test_groups_count_once_and_training_data_is_told_loudly(bench: Bench) -> None:
    for group, levels in {"seen": (230, 230), "kept": (230, 100, 230), "clean": (230, 100)}.items():
        for level in levels:
            bench.add(level, "good" if group == "clean" else "spot", group)
    papers = yaml.safe_load((bench.model / "model.yaml").read_text())
    training = {"data": "folder:parts", "held_out": ["kept", "clean"], "trained_on": ["seen"]}
    (bench.model / "model.yaml").write_text(yaml.safe_dump({**papers, "training": training}))
    shown = json.loads(bench.judge("--json"))
    assert shown == bench.result()
    assert "was TRAINED on 2 of these 7 images (1 group: seen)" in shown["warnings"][0]
    bench.judge("--held-out")
    result = bench.result()
    assert (result["images"], result["groups"], result["warnings"]) == (5, 2, [])
    stands = result["as_it_stands"]
    assert (stands["slip"]["count"], stands["slip"]["of"]) == (1, 3)
    assert (stands["slip_by_group"]["count"], stands["slip_by_group"]["of"]) == (1, 1)
    assert (stands["false_reject_by_group"]["count"], stands["false_reject_by_group"]["of"]) == (1, 1)
    (bench.folder / "groups.txt").write_text("\ufeffseen\n\nkept\n", encoding="utf-8")
    bench.judge("--groups-file", bench.folder / "groups.txt", "--exclude-groups", "kept")
    assert {row["group"] for row in bench.rows()} == {"seen"}


def test_what_is_no_fit_picture_is_counted_apart(bench: Bench) -> None:
    bench.add(250, "spot")
    bench.add(100, "good")
    bench.add(0, "good", background=0)  # the lamp is out: FAULT dark
    told = bench.judge()
    result = bench.result()
    assert result["not_judged"] == {"images": 1, "defective": 0, "reasons": {"dark": 1}}
    assert (result["as_it_stands"]["tp"], result["as_it_stands"]["tn"]) == (1, 1)
    assert "NOT JUDGED" in told
    assert bench.rows()[2]["peak"] is None


def test_masks_go_the_way_of_the_frames(bench: Bench) -> None:
    """Frames of twice the network's width, scaled by the recipe: the mask is found where the defect is."""
    bench.recipe["regions"] = [{"name": "whole", "prepare": "resize"}]
    bench.add(250, "spot", size=(64, 128))
    bench.add(250, "spot", size=(128, 64))
    bench.judge()
    assert bench.result()["pixels"]["any_defect"]["iou"] == 1.0
    bench.recipe["regions"] = [{"name": "tiled", "prepare": "tile", "overlap_px": 16}]
    bench.judge()
    assert bench.result()["pixels"]["any_defect"]["iou"] == 1.0


def test_several_classes_have_their_own_thresholds_and_a_table(bench: Bench) -> None:
    bench.model = write_two_class_model(bench.folder / "models" / "two")
    bench.recipe |= {"model": {"name": "two"}, "classes": {"light": {"threshold": 0.6}, "dark": {"threshold": 0.4}}}
    for level, kind in ((250, "Light"), (215, "Light"), (20, "Dark"), (250, "Dark"), (100, "Dark"), (100, "good"), (35, "odd")):
        bench.add(level, kind)
    told = bench.judge("--pick", "false_reject<=0")
    result = bench.result()
    assert result["confusion"] == {
        "Dark": {"light": 1, "dark": 1, "PASS": 1, "FAULT": 0},
        "Light": {"light": 2, "dark": 0, "PASS": 0, "FAULT": 0},
        "odd": {"light": 0, "dark": 1, "PASS": 0, "FAULT": 0},
        "good": {"light": 0, "dark": 0, "PASS": 1, "FAULT": 0},
    }
    assert "no class odd" in result["warnings"][0]
    assert [each["kind"] for each in result["kinds"]] == ["Dark", "Light", "odd", "good"]
    picked = result["pick"]
    assert picked["by_class"]["rules_of_several"] == []
    assert picked["by_class"]["together"]["fn"] >= picked["fn"]
    assert f"Written: {bench.out / 'part.yaml'}." in " ".join(told.split())
    assert result["pixels"]["classes"]["light"]["dice"] == pytest.approx(2 * 128 / (128 + 192))
    assert result["pixels"]["classes"]["dark"]["found"] == pytest.approx(1 / 3)
    written = load_recipe(bench.out / "part.yaml").classes
    assert written["light"].threshold > written["dark"].threshold


def test_the_shipped_model_on_drawn_parts_in_dagms_layout(edge_agent: Program, tmp_path: Path) -> None:
    labels = tmp_path / "drawn" / "Test" / "Label"
    labels.mkdir(parents=True)
    lines = ["1"]
    for index in range(16):
        part = draw_part(5, index, defect_share=0.5, empty_share=0)
        name, mask = f"{index:04d}.PNG", label_of(part.truth, 512, 512)
        cv2.imwrite(str(labels.parent / name), part.pixels)
        cv2.imwrite(str(labels / f"{index:04d}_label.PNG"), mask.astype(np.uint8) * 255)
        lines.append(f"{index:04d}\t{int(mask.any())}\t{name}\t0\t" + (f"{index:04d}_label.PNG" if mask.any() else "0\t"))
    (labels / "Labels.txt").write_text("\r\n".join(lines), newline="")
    recipe = ROOT / "config" / "recipes" / "demo-texture.yaml"
    words = ("--model", "demo-texture", "--recipe", recipe, "--data", tmp_path / "drawn", "--out", tmp_path / "out", "--json")
    done = edge_agent("--log-level", "error", "evaluate", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["images"], result["defective"]) == (16, sum("label" in line for line in lines))
    assert result["auc"] >= 0.9
    assert result["pixels"]["any_defect"]["dice"] > 0.5
    assert result["as_it_stands"]["slip"]["count"] <= 2
