"""What a candidate's own arithmetic changes: nothing that is seen where it is right, each good image where it alarms always."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bright import gray, with_defect
from small_unet import SIZE, write_small_unet
from stations import Program, StationFolder

from edge_agent.inference.model import CALIBRATED_PORTS

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def test_flips_are_counted_by_the_graph(
    station: StationFolder,
    within: Program,
    tool: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    model, out = write_small_unet(station.folder / "models" / "unet"), station.folder / "out"
    station.write()
    station.add_images([with_defect(gray(SIZE, SIZE), 4, 6, 9, 5) if i % 3 == 2 else gray(SIZE, SIZE, 90 + i) for i in range(9)])
    words = ["--model", str(model), "--recipe", str(station.folder / "recipes" / "part.yaml")]
    made = within("calibrate", *words, "--images", station.images, "--out", out, "--graphs-only")
    assert made.returncode == 0, made.stderr
    true = hashlib.sha256((out / "int8.onnx").read_bytes()).hexdigest()
    see_defects_everywhere(out / "int8.onnx")
    manifest, spoilt = out / "manifest.json", hashlib.sha256((out / "int8.onnx").read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(true, spoilt))

    (station.images / "torn.png").write_bytes(b"no picture")

    words += ["--candidates", str(out), "--data", str(station.images)]
    monkeypatch.setattr(sys, "argv", ["graph_flips.py", *words])
    tool("graph_flips").main()
    told, left_out = capsys.readouterr()
    assert "int8: 6 of 9 images flip by the graph itself, 6 of them to defective" in told
    assert "int8_level0_fp16: 0 of 9 images flip by the graph itself, 0 of them to defective" in told
    assert "left out: torn.png (" in left_out


def see_defects_everywhere(file: Path) -> None:
    """Makes every level of the map the highest, and the peak one that fits it."""
    import onnx

    network, (_, levels, peak) = onnx.load(file), CALIBRATED_PORTS
    for node in network.graph.node:
        node.output[:] = [f"true.{name}" if name in (levels, peak) else name for name in node.output]
    for name, least in (("full", np.array(255, np.uint8)), ("sure", np.array(14, np.float32))):
        network.graph.initializer.append(onnx.numpy_helper.from_array(least, name))
    network.graph.node.append(onnx.helper.make_node("Max", [f"true.{levels}", "full"], [levels]))
    network.graph.node.append(onnx.helper.make_node("Max", [f"true.{peak}", "sure"], [peak]))
    onnx.save(network, file)
