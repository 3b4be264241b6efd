"""A network that Keras trained and exported, run by its papers alone: the maps are Keras's own, and so are the verdicts."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from stations import ROOT, Program

from edge_agent.inference.base import TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.describe import first_papers
from edge_agent.inference.model import ModelPapers, load_model
from edge_agent.settings import CpuEngine
from edge_agent.strictyaml import convert, parse

FOLDER = ROOT / "tests" / "models" / "keras-small"
SURFACES = 6  # then come noise and a ramp


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / "reference.npz"))


def test_the_maps_are_those_of_keras(reference: dict[str, np.ndarray]) -> None:
    engine, doubts = open_cpu(CpuEngine(hint="latency", requests=1, threads=1), load_model(FOLDER))
    assert doubts == []
    finished: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    levels = np.round(reference["probabilities"].astype(np.float64) * 255).astype(int)
    assert len(np.unique(levels)) > 100, "the reference must have more in it than black and white"
    for frame, expected in zip(reference["frames"], levels, strict=True):
        slot = engine.lease()
        assert slot is not None
        engine.submit(slot, frame, finished.put)
        assert finished.get(timeout=10) is slot
        assert np.abs(slot.maps[0] - expected).max() <= 1
        require_believable(slot, int(slot.maps.max()))
        engine.release(slot)
    engine.close()


def test_a_whole_line_judges_with_it(reference: dict[str, np.ndarray], edge_agent: Program, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index, frame in enumerate(reference["frames"][:SURFACES]):
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), frame)
    recipe = {"name": "part", "model": {"name": "keras-small"}, "rules": [{"rule": "blob_count", "max": 0}]}
    (tmp_path / "part.yaml").write_text(yaml.safe_dump(recipe))
    words = ("--model", FOLDER, "--recipe", tmp_path / "part.yaml", "--images", tmp_path / "images", "--out", tmp_path / "out")
    result = edge_agent("replay", *words)
    assert result.returncode == 0, result.stderr
    judged = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [each["outcome"] for each in judged] == ["NG", "PASS"] * (SURFACES // 2)
    for each, probability in zip(judged[::2], reference["probabilities"][:SURFACES:2], strict=True):
        (blob,) = each["blobs"]
        assert blob["area_px"] == pytest.approx(np.count_nonzero(probability >= 0.5), abs=1)


def test_the_papers_written_for_it_are_those_it_has(within: Program) -> None:
    result = within("describe-model", FOLDER / "model.onnx")
    assert result.returncode == 0, result.stderr
    told, has = convert(parse(result.stdout, "described"), ModelPapers), load_model(FOLDER).papers
    assert (told.name, told.onnx, told.output, told.head, told.stride) == (has.name, has.onnx, has.output, has.head, has.stride)
    assert (told.input.layout, told.input.dtype, told.input.rows, told.input.cols) == ("NHWC", "float32", 64, 64)
    assert told.input.scale == pytest.approx(1 / 255)
    assert "scale is a GUESS" in result.stdout


@pytest.mark.parametrize("name", ["dagm-class1", "demo-texture", "magnetic-tile"])
def test_the_papers_written_for_a_shipped_model_are_those_it_has(name: str) -> None:
    folder = ROOT / "models" / name
    has = load_model(folder).papers
    told = convert(parse(first_papers(folder / "model.onnx", has.input.rows, has.input.cols), "described"), ModelPapers)
    assert (told.name, told.onnx, told.output, told.stride) == (has.name, has.onnx, has.output, has.stride)
    assert told.head == "sigmoid"  # a map and a peak do not tell their head, and nothing depends on it
    assert (told.input.rows, told.input.cols, told.input.dtype) == (has.input.rows, has.input.cols, has.input.dtype)
