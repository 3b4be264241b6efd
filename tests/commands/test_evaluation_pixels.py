"""Agreement with the masks by class, kind and size of the defect, through the program: squares whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from bright import gray
from stations import RECIPE, Program
from two_classes import write_two_class_model

LIGHT, DARK, LABELLED_PX = 250, 10, 64 * 64


def write_parts(folder: Path, parts: list[tuple[str, int, int, int]]) -> None:
    """Parts with a square, each of (kind, gray of it, its side, side of the labelled square)."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, (_, level, side, labelled) in enumerate(parts):
        frame, mask = gray(64, 64, 100), np.zeros((64, 64), np.uint8)
        frame[8 : 8 + side, 8 : 8 + side] = level
        mask[8 : 8 + labelled, 8 : 8 + labelled] = 255
        cv2.imwrite(str(folder / "images" / f"{number}.png"), frame)
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
    rows = [f"{number}.png,{number}.png,{kind}" for number, (kind, *_) in enumerate(parts)]
    (folder / "index.csv").write_text("\n".join(["image,mask,class", *rows]))


def test_scores_by_class_kind_and_size(tmp_path: Path, edge_agent: Program) -> None:
    small = [("light", LIGHT, 4, 4)] * 2 + [("dark", DARK, 4, 4)] * 2  # found to the pixel
    large = [("light", LIGHT, 10, 20)] * 2 + [("dark", LIGHT, 20, 20)] * 2  # a quarter found; called by the other name
    write_parts(tmp_path / "parts", [*small, *large, ("good", LIGHT, 0, 0)])
    (tmp_path / "part.yaml").write_text(yaml.safe_dump({**RECIPE, "model": {"name": "two"}}))
    model = write_two_class_model(tmp_path / "two")
    words = ("--model", model, "--recipe", tmp_path / "part.yaml", "--data", tmp_path / "parts", "--out", tmp_path / "out")
    done = edge_agent("--log-level", "error", "evaluate", *words)
    assert done.returncode == 0, done.stderr
    pixels = json.loads((tmp_path / "out" / "evaluation.json").read_text())["pixels"]

    dark = pixels["classes"]["dark"]
    assert (dark["dice"], dark["found"]) == pytest.approx((2 * 32 / (832 + 32), 32 / 832))
    assert dark["accuracy"] == pytest.approx(1 - 800 / (9 * LABELLED_PX))
    assert dark["mean_accuracy"] == pytest.approx((32 / 832 + 1) / 2)

    assert [(each["kind"], each["images"]) for each in pixels["kinds"]] == [("dark", 4), ("light", 4)]
    assert pixels["kinds"][0]["any_defect"]["iou"] == 1.0, "found, by whatever name"
    assert pixels["kinds"][1]["any_defect"]["iou"] == pytest.approx((2 * 16 + 2 * 100) / (2 * 16 + 2 * 400))

    of_small, of_large = pixels["sizes"]
    assert (of_small["from_px"], of_small["images"], of_large["to_px"], of_large["images"]) == (16, 4, None, 4)
    assert of_small["to_px"] <= of_large["from_px"] == 400
    assert (of_small["any_defect"]["dice"], of_small["any_defect"]["mean_accuracy"]) == (1.0, 1.0)
    assert of_large["any_defect"]["iou"] == pytest.approx((2 * 100 + 2 * 400) / (4 * 400))
    assert of_large["any_defect"]["accuracy"] == pytest.approx(1 - 2 * 300 / (4 * LABELLED_PX))
    assert (of_large["classes"]["light"]["found"], of_large["classes"]["dark"]["found"]) == (200 / 800, 0.0)

    assert [of_small["classes"][name]["images"] for name in ("light", "dark")] == [2, 2]

    for told in (done.stdout, (tmp_path / "out" / "report.md").read_text()):
        assert "Against the masks, by size of the defect" in told
        assert "mean pixel accuracy" in told
        assert "kind dark" in told


def test_a_mask_of_another_size_ends_with_a_line_and_no_traceback(tmp_path: Path, edge_agent: Program) -> None:
    write_parts(tmp_path / "parts", [("light", LIGHT, 4, 4)])
    cv2.imwrite(str(tmp_path / "parts" / "masks" / "0.png"), gray(32, 64, 255))
    (tmp_path / "part.yaml").write_text(yaml.safe_dump({**RECIPE, "model": {"name": "two"}}))
    model = write_two_class_model(tmp_path / "two")
    done = edge_agent(
        "evaluate", "--model", model, "--recipe", tmp_path / "part.yaml", "--data", tmp_path / "parts", "--out", tmp_path / "out"
    )
    assert done.returncode == 78
    assert "masks/0.png: has 64x32 pixels, its image 0.png 64x64. Remedy: give one of the same size" in done.stderr
    assert not (tmp_path / "out").exists(), "it is told before a part is judged"
    assert "Traceback" not in done.stderr and "report the traceback" not in done.stderr
