"""A GPU faked at the lowest call, and a model that answers by brightness."""

from __future__ import annotations

from pathlib import Path

import pytest
from bright import write_bright_model
from fake_gpu import World, install

from edge_agent.inference.model import Model, load_model


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return install(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(write_bright_model(tmp_path / "bright"))
