"""A station in a folder: the bright network, a recipe, images, sockets of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from bright import gray, with_defect, write_bright_model

ROOT = Path(__file__).parents[1]
Program = Callable[..., "subprocess.CompletedProcess[str]"]  # what the fixture `edge_agent` gives

RECIPE: dict[str, Any] = {
    "name": "part",
    "model": {"name": "bright"},
    "deadline_ms": 5000,
    "regions": [{"name": "whole", "prepare": "native"}],
    "rules": [{"rule": "blob_count", "max": 0}, {"rule": "peak_score", "max": 0.9}],
    "presence": {"gray_above": 40, "min_share": 0.5},
}


class StationFolder:
    """Files of a station under one folder; `write` makes the settings and returns their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.recipe: dict[str, Any] = {**RECIPE}
        self.settings: dict[str, Any] = {
            "station": "test",
            "state": "state",
            "recipes": "recipes",
            "models": "models",
            "cameras": [{"name": "camera", "kind": "folder", "path": "images"}],
            "lines": [{"name": "line", "camera": "camera", "recipe": "part", "frames": 4}],
            "engine": {"kind": "cpu", "hint": "latency", "requests": 1, "threads": 1},
            "plc": {"verdicts": f"ipc://{folder}/v", "control": f"ipc://{folder}/c", "expect_subscriber": False},
            "drain_s": 5,
        }
        write_bright_model(folder / "models" / "bright")

    def add_images(self, frames: list[np.ndarray]) -> None:
        self.images.mkdir(exist_ok=True)
        for index, frame in enumerate(frames):
            cv2.imwrite(str(self.images / f"{index:04d}.png"), frame)

    def write(self) -> Path:
        (self.folder / "recipes").mkdir(exist_ok=True)
        (self.folder / "recipes" / f"{self.recipe['name']}.yaml").write_text(yaml.safe_dump(self.recipe))
        file = self.folder / "station.yaml"
        file.write_text(yaml.safe_dump(self.settings))
        return file


@pytest.fixture
def station(tmp_path: Path) -> StationFolder:
    return StationFolder(tmp_path)


@pytest.fixture
def images() -> Callable[[int], list[np.ndarray]]:
    """n frames, every third with a defect."""

    def make(n: int) -> list[np.ndarray]:
        return [with_defect(gray(), 10, 20, 8, 6) if i % 3 == 2 else gray() for i in range(n)]

    return make


@pytest.fixture
def edge_agent(tmp_path: Path) -> Program:
    """`edge_agent(*words)` runs the program in a scratch folder and returns its output and exit code."""

    def start(*words: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_agent", *map(str, words)]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    return start
