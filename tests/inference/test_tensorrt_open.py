"""Engines from the folder or built now: once, whole, for this machine, and never without having been checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from bright import write_bright_model
from fake_gpu import World, built, install

from edge_agent.errors import EngineError
from edge_agent.inference import tensorrt
from edge_agent.inference.model import Model, load_model
from edge_agent.settings import TensorRtEngine

QUIET = TensorRtEngine(slots=3, keep_warm_ms=0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return install(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(write_bright_model(tmp_path / "bright"))


def test_an_engine_is_built_once_and_loaded_after(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = built(monkeypatch)
    first = tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    first.close()
    second = tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    second.close()
    assert builds == ["tensorrt"]
    assert first.engine_id == second.engine_id
    assert "tensorrt-10.3.0/Fake T4/" in first.engine_id


def test_a_damaged_engine_is_built_again(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    builds = built(monkeypatch)
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    (file,) = (tmp_path / "engines").glob("*.engine")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    assert len(builds) == 2
    said = "".join(capfd.readouterr())
    assert "engine.refused" in said
    assert "checksum" in said


def test_a_miscompiled_engine_is_neither_used_nor_stored(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    built(monkeypatch)
    world.is_miscompiled = True
    with pytest.raises(EngineError, match=r"differ from the CPU's by .* It is not used"):
        tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    assert not list((tmp_path / "engines").glob("*.engine"))
    assert world.used == 0
