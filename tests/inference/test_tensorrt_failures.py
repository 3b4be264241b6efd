"""The TensorRT engine where GPU, driver, library or memory fail: what is told, what is freed, and what stays."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_gpu import Error, World, install
from fake_tensorrt import plan_of
from gpu_engine import COLS, ROWS, infer, leased, start

from edge_agent.errors import ConfigurationError, EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt import segmenter
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.settings import TensorRtEngine


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.SimpleQueue[BaseException | None]]:
    """What threads ended by."""
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda failure: ended.put(failure.exc_value))
    yield ended


def test_a_failing_gpu_fails_what_is_under_way_and_ends_the_thread(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None]
) -> None:
    engine = start(model)
    world.holds = True
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    for _ in range(2):
        slot = engine.lease()
        assert slot is not None
        engine.submit(slot, slot.tensor, done.put)
    world.broken = Error("cuEventQuery failed: an illegal memory access was encountered")
    for _ in range(2):
        slot = done.get(timeout=10)
        with pytest.raises(EngineError, match="illegal memory access"):
            require_believable(slot, 0)
    failure = ended.get(timeout=10)
    assert isinstance(failure, EngineLost)
    slot = engine.lease()
    assert slot is not None
    with pytest.raises(EngineError, match="the GPU is lost"):
        engine.submit(slot, slot.tensor, done.put)
    engine.close()
    stays(engine, world)


def stays(engine: TensorRtSegmenter, world: World) -> None:
    """In a broken context nothing is freed and nothing popped: the thread holds it all until the process ends."""
    assert engine.thread.is_alive()
    assert world.pushed == 1
    assert not [each for each in world.log if each in ("-execution", "-engine", "-device", "-context", "detach")]


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        ({"execute": True}, "the address of a tensor is not aligned"),
        ({"to_device": Error("cuMemcpyHtoDAsync failed: unspecified launch failure")}, "unspecified launch failure"),
    ],
)
def test_what_fails_in_launching_is_told_to_its_part(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None], failing: dict[str, object], why: str
) -> None:
    engine = start(model, TensorRtEngine(graph=False, keep_warm_ms=0))
    world.fail.update(failing)
    assert why in infer(engine).failure
    assert isinstance(ended.get(timeout=10), EngineLost)
    engine.close()


def test_an_error_nobody_foresaw_fails_what_is_under_way_too(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None]
) -> None:
    engine = start(model)
    world.holds = True
    slots = leased(engine)
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()

    def fail(slot: TensorSlot) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    for slot, told in zip(slots, (fail, fail, done.put), strict=True):
        engine.submit(slot, slot.tensor, told)
    world.holds = False
    assert done.get(timeout=10) is slots[2]
    assert isinstance(ended.get(timeout=10), ZeroDivisionError)
    engine.close()


@pytest.mark.parametrize("call", ["broken", "pop"])
def test_a_gpu_that_breaks_before_it_is_closed_is_lost(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None], call: str
) -> None:
    engine = start(model)
    engine.release(infer(engine))
    error = Error("cuCtxPopCurrent failed: an illegal memory access was encountered")
    if call == "pop":
        world.fail["pop"] = error
    else:
        world.broken = error
    engine.close()
    failure = ended.get(timeout=10)
    assert isinstance(failure, EngineLost)
    assert "illegal memory access" in str(failure)
    assert world.pushed == 1
    assert engine.thread.is_alive()


def test_a_gpu_that_breaks_while_it_is_opened_is_lost(world: World, model: Model) -> None:
    world.broken = Error("cuStreamSynchronize failed: an illegal memory access was encountered")
    with pytest.raises(EngineLost, match="illegal memory access"):
        start(model)
    assert world.pushed == 1
    assert not [each for each in world.log if each.startswith("-")]


@pytest.mark.parametrize(("call", "kind"), [("retain", EngineUnavailable), ("push", EngineUnavailable), ("to_device", EngineError)])
def test_a_call_that_fails_in_opening_leaves_nothing(world: World, model: Model, call: str, kind: type[EngineError]) -> None:
    world.fail[call] = Error("it failed: invalid value")
    with pytest.raises(EngineError, match="invalid value") as failure:
        start(model)
    assert type(failure.value) is kind
    left_nothing(world)


def test_a_gpu_that_hangs_is_lost(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "_HANG_S", 0.05)
    engine = start(model)
    world.holds = True
    assert "gave no answer" in infer(engine).failure
    assert isinstance(ended.get(timeout=10), EngineLost)
    engine.close()


def test_a_gpu_that_fails_while_warming_up_is_no_fault_of_the_models(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None]
) -> None:
    engine = start(model)
    world.broken = Error("cuEventQuery failed: uncorrectable ECC error")
    with pytest.raises(EngineLost, match="ECC"):
        engine.warm_up()
    assert isinstance(ended.get(timeout=10), EngineLost)
    engine.close()


def test_no_execution_context_is_told_with_its_remedy(world: World, model: Model) -> None:
    world.fail["context"] = True
    with pytest.raises(EngineUnavailable, match=r"Lower engine\.slots"):
        start(model)


def test_no_execution_context_is_told_with_the_librarys_own_reason(world: World, model: Model) -> None:
    world.fail["context"] = "CUDA driver version is insufficient for CUDA runtime version"
    with pytest.raises(EngineUnavailable, match=r"driver is too old .*Update the driver"):
        start(model)
    left_nothing(world)


def test_too_little_memory_for_the_first_inference_is_told_and_given_back(world: World, model: Model) -> None:
    """Its kernels are loaded only then."""
    world.fail |= {"execute": True, "why": "Cuda Runtime (out of memory)"}
    with pytest.raises(EngineUnavailable, match=r"out of memory.*lower engine\.slots"):
        start(model)
    left_nothing(world)


SLOT = 1000 + 2 * ROWS * COLS + 2 * (ROWS * COLS + 4)  # bytes: of the network, the picture and the answer, on both sides


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("limit", [0, 999, 1000, 6000, 10_000, SLOT, 2 * SLOT + 1000, 3 * SLOT - 1])
def test_too_little_memory_is_told_and_given_back(world: World, model: Model, limit: int, integrated: bool) -> None:
    world.memory_limit, world.integrated = limit, integrated
    with pytest.raises(EngineUnavailable, match=r"too little free memory.*lower engine\.slots"):
        start(model, TensorRtEngine(slots=3, keep_warm_ms=0, memory="copied" if limit >= SLOT else "auto"))
    left_nothing(world)


def left_nothing(world: World) -> None:
    """Everything is freed, in order, and the context given back."""
    assert (world.used, world.pushed, world.retained, world.graphs) == (0, 0, 0, {})
    for what in ("stream", "event", "device", "pinned", "execution", "context"):
        assert world.log.count(f"+{what}") == world.log.count(f"-{what}"), what
    if "-engine" in world.log:
        assert "-execution" not in world.log[world.log.index("-engine") :]
        assert world.log[-2:] == ["-context", "detach"]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (("warning", "CUDA initialization failure with error: 35. Please check your CUDA installation"), "Update the driver"),
        (("error", "createInferRuntime: Error Code 6: CUDA initialization failure with error: 2"), "too little free memory"),
        (("error", "CUDA initialization failure with error: 100"), "Look at `nvidia-smi`"),
        (("error", "CUDA initialization failure with error: 803"), "Restart the machine"),
        (("error", "Cuda Runtime (no CUDA-capable device is detected)"), "Look at `nvidia-smi`"),
        (("error", "Target GPU SM 61 is not supported by this TensorRT release."), "Install one that supports it"),
        (("info", "nothing of note"), "factory function returned nullptr"),
    ],
)
def test_a_library_that_cannot_begin_is_told_with_its_remedy(
    world: World, model: Model, said: tuple[str, str], remedy: str
) -> None:
    world.fail["Runtime"] = said
    with pytest.raises(EngineUnavailable, match=remedy):
        start(model)
    left_nothing(world)


def test_a_plan_of_another_version_is_refused(world: World, model: Model) -> None:
    with pytest.raises(EngineError, match="built by another version"):
        start(model, plan=b"something else")
    world.fail["why"] = "CUDA out of memory"
    with pytest.raises(EngineUnavailable, match="workspace_mb"):
        start(model, plan=b"something else")


def test_an_engine_of_another_shape_is_refused(world: World, model: Model) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        start(model, plan=plan_of(2, ROWS, COLS))


@pytest.mark.parametrize(
    ("fail", "remedy"),
    [
        ({"init": Error("cuInit failed: no CUDA-capable device is detected")}, "nvidia-smi"),
        ({"init": Error("cuInit failed: CUDA driver version is insufficient for CUDA runtime version")}, "Update the driver"),
        (
            {"init": Error("cuInit failed: system has unsupported display driver / cuda driver combination")},
            "Restart the machine; if that does not help, install the driver again",
        ),
        ({"devices": 0}, "this machine has 0 NVIDIA GPUs"),
    ],
)
def test_no_gpu_is_told_with_its_remedy(world: World, fail: dict[str, object], remedy: str) -> None:
    world.fail.update(fail)
    with pytest.raises(EngineUnavailable, match=remedy):
        Gpu(0)


def test_no_pycuda_and_no_tensorrt_are_told_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'edge-agent\[gpu\]'"):
        Gpu(0)
    with pytest.raises(EngineUnavailable, match="system-site-packages, elsewhere pip install tensorrt-cu12"):
        load_library()


def test_a_folder_that_an_uninstallation_left_is_no_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()  # Python imports it all the same, as a namespace
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineUnavailable, match=r"no TensorRT can be imported \(tensorrt: .*__version__"):
        load_library()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)


def test_a_pycuda_of_another_cuda_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pycuda"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "driver.py").write_text("raise ImportError('_driver.so: undefined symbol: cuCtxCreate_v4')")
    monkeypatch.delitem(sys.modules, "pycuda", raising=False)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineUnavailable, match="Build it again on this machine"):
        Gpu(0)
    monkeypatch.delitem(sys.modules, "pycuda", raising=False)


def test_a_tensorrt_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "8.4.3")
    with pytest.raises(EngineUnavailable, match=r"8\.5 is the oldest"):
        load_library()
