"""Engines from the folder or built now: once, whole, for this machine, and never without having been checked."""

from __future__ import annotations

import errno
import queue
import threading
from pathlib import Path

import pytest
from fake_gpu import Error, World, built

from edge_agent.errors import EngineError, EngineLost, EngineUnavailable
from edge_agent.inference import tensorrt
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt import parity, segmenter
from edge_agent.settings import TensorRtEngine

QUIET = TensorRtEngine(slots=3, keep_warm_ms=0)


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


def test_an_engine_that_the_memory_does_not_suffice_for_is_not_built_again(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = built(monkeypatch)
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    world.fail |= {"execute": True, "why": "Cuda Runtime (out of memory)"}
    with pytest.raises(EngineUnavailable, match="out of memory"):
        tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    assert len(builds) == 1


def test_a_gpu_that_is_taken_is_no_fault_of_the_engine(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another build would be another engine, which no gate has seen."""
    builds = built(monkeypatch)
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    world.fail["retain"] = Error("cuDevicePrimaryCtxRetain failed: all CUDA-capable devices are busy or unavailable")
    with pytest.raises(EngineUnavailable, match=r"cannot be opened: .*busy or unavailable\. Look at `nvidia-smi`"):
        tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    assert len(builds) == 1
    assert "engine.refused" not in "".join(capfd.readouterr())


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


def test_a_miscompiled_engine_is_built_again_on_demand_alone(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station tries again once a minute; a build takes minutes."""
    pytest.importorskip("openvino")
    builds = built(monkeypatch)
    world.is_miscompiled = True
    for _ in range(3):
        with pytest.raises(EngineError, match=r"differ from the CPU's by .* It is not used"):
            tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    assert len(builds) == 1
    world.is_miscompiled = False
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines", rebuild=True).close()
    assert len(builds) == 2
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    assert len(builds) == 2


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("room", [parity, tensorrt], ids=["the reference", "the engine"])
def test_a_full_disk_is_told_and_the_engine_is_used(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], room: object
) -> None:
    pytest.importorskip("openvino")
    built(monkeypatch)
    monkeypatch.setattr(room, "write_whole" if room is parity else "write_engine", no_space)
    tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines").close()
    said = "".join(capfd.readouterr())
    assert said.count("engine.not_stored") == 1
    assert "No space left on device" in said
    assert [file.suffix for file in (tmp_path / "engines").iterdir()] == [".engine" if room is parity else ".maps"]
    assert (world.used, world.pushed) == (0, 0)


def test_an_engine_that_does_not_answer_is_not_used(
    world: World, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    built(monkeypatch)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda failure: ended.put(failure.exc_value))
    monkeypatch.setattr(parity, "_WAIT_S", 0.05)
    monkeypatch.setattr(segmenter, "_HANG_S", 0.5)
    world.holds = True
    with pytest.raises(EngineError, match=r"gave no answer within 0\.05 s"):
        tensorrt.open_tensorrt(QUIET, model, tmp_path / "engines")
    assert isinstance(ended.get(timeout=10), EngineLost)
    assert not list((tmp_path / "engines").glob("*.engine"))
