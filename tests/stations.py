"""A station in a folder, and the program as its users start it: what tests of the whole daemon stand on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from bright import write_bright_model

ROOT = Path(__file__).parents[1]
Program = Callable[..., "subprocess.CompletedProcess[str]"]  # what the fixture `edge_agent` gives

_NOBODY = 65534

RECIPE: dict[str, Any] = {
    "name": "part",
    "model": {"name": "bright"},
    "deadline_ms": 5000,
    "regions": [{"name": "whole", "prepare": "native"}],
    "rules": [{"rule": "blob_count", "max": 0}, {"rule": "peak_score", "max": 0.9}],
    "presence": {"gray_above": 40, "min_share": 0.5},
    "quality": {"frozen": False},  # these pictures are few
}


def open_folder() -> Path:
    """A new folder that every account of this machine may look into; the caller deletes it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Within it root is nobody; anybody else is nobody special already."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


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
            "lines": [{"name": "line", "camera": "camera", "recipe": "part", "frames": 64}],
            "engine": {"kind": "cpu", "hint": "latency", "requests": 1, "threads": 1},
            "plc": {"verdicts": f"ipc://{folder}/v", "control": f"ipc://{folder}/c", "expect_subscriber": False},
            "metrics": None,
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
