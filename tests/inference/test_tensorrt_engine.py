"""The TensorRT engine on a GPU faked at the lowest call: slots, streams, graphs, freeing, failures, steady state."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bright import CENTRE, SLOPE, write_bright_model
from fake_gpu import Error, World, install
from fake_tensorrt import plan_of

from edge_agent.errors import ConfigurationError, EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.probe import probe
from edge_agent.inference.tensorrt import segmenter
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.ring import Ring
from edge_agent.settings import TensorRtEngine

ROWS = COLS = 64
QUIET = TensorRtEngine(slots=3, keep_warm_ms=0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return install(monkeypatch)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.SimpleQueue[BaseException | None]]:
    """What threads ended by."""
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda failure: ended.put(failure.exc_value))
    yield ended


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(write_bright_model(tmp_path / "bright"))


def start(model: Model, settings: TensorRtEngine = QUIET, plan: bytes = plan_of(1, ROWS, COLS)) -> TensorRtSegmenter:
    return TensorRtSegmenter(Gpu(settings.device), load_library(settings.library), plan, model, settings, "test")


def infer(engine: TensorRtSegmenter, source: np.ndarray | None = None, level: int = 0) -> TensorSlot:
    """One inference of `source`, or of the slot's own tensor filled with `level`; the slot is still leased."""
    slot = engine.lease()
    assert slot is not None
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    if source is None:
        slot.tensor[:] = level
    engine.submit(slot, slot.tensor if source is None else source, done.put)
    assert done.get(timeout=10) is slot
    return slot


def expected(level: int) -> int:
    return round(255 / (1 + np.exp(-(level - CENTRE) * SLOPE)))


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
@pytest.mark.parametrize("settings", [QUIET, TensorRtEngine(graph=False), TensorRtEngine(memory="mapped", slots=2)], ids=str)
def test_every_slot_answers_of_its_own_picture(
    model: Model, settings: TensorRtEngine, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, version)
    engine = start(model, settings)
    slots = [infer(engine, level=150 + 20 * number) for number in range(settings.slots)]
    assert engine.lease() is None
    for number, slot in enumerate(slots):
        assert np.unique(slot.maps).tolist() == [expected(150 + 20 * number)]
        require_believable(slot, int(slot.maps.max()))
    for slot in slots:
        engine.release(slot)
    engine.close()


def test_the_graph_is_copy_poison_network_copy(world: World, model: Model) -> None:
    engine = start(model)
    assert engine.graph_nodes == 4
    world.launched.clear()
    infer(engine, level=9)
    assert world.launched == [4]
    engine.close()


def test_an_answer_that_never_came_is_not_believed(world: World, model: Model) -> None:
    """The answer of the inference before still lies in device memory; its peak is poisoned there too."""
    engine = start(model)
    engine.release(infer(engine, level=230))
    for work in world.graphs.values():
        work[:] = [each for each in work if "_compute" not in each.__qualname__]
    slot = infer(engine, level=230)
    with pytest.raises(EngineError, match="nan"):
        require_believable(slot, int(slot.maps.max()))
    engine.close()


@pytest.mark.parametrize(
    ("failing", "why"),
    [("begin", "BeginCapture"), ("end", "EndCapture"), ("instantiate", "Instantiate"), ("empty", "0 nodes"), ("upload", "Upload")],
)
def test_without_a_graph_it_enqueues(world: World, model: Model, failing: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    world.fail[failing] = 1
    engine = start(model)
    assert engine.graph_nodes == 0
    assert infer(engine, level=210).maps[0, 0, 0] == expected(210)
    assert not world.launched
    engine.close()
    said = "".join(capfd.readouterr())
    assert said.count("engine.slower") == 1
    assert why in said


def test_a_frame_in_the_ring_is_fetched_from_where_it_lies(world: World, model: Model) -> None:
    ring = Ring(2, ROWS * COLS)
    engine = start(model)
    engine.adopt(ring.memory)
    frame = ring.view(1).reshape(ROWS, COLS)
    frame[:] = 222
    world.launched.clear()
    slot = infer(engine, frame)
    assert world.launched == [3]  # the graph without the copy of the slot's own tensor
    assert slot.tensor.max() != 222
    assert slot.maps[0, 0, 0] == expected(222)
    engine.close()
    assert world.log.index("-locked") < world.log.index("-context")


def test_a_frame_elsewhere_is_copied_first(world: World, model: Model) -> None:
    engine = start(model)
    slot = infer(engine, np.full((ROWS, COLS), 201, np.uint8))
    assert slot.tensor[0, 0] == 201
    assert slot.maps[0, 0, 0] == expected(201)
    engine.close()


def test_memory_that_cannot_be_locked_is_copied(world: World, model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    world.fail["register"] = Error("cuMemHostRegister failed: operation not supported")
    ring = Ring(2, ROWS * COLS)
    engine = start(model)
    engine.adopt(ring.memory)
    assert infer(engine, ring.view(0).reshape(ROWS, COLS)).maps[0, 0, 0] == expected(0)
    engine.close()
    assert "engine.slower" in "".join(capfd.readouterr())


def test_lanes_are_under_way_together(world: World, model: Model) -> None:
    """While one answer is still out, the next inference is put into another stream; the later may come first."""
    engine = start(model)
    world.holds = True
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    slots = []
    for level in (205, 215):
        slot = engine.lease()
        assert slot is not None
        slot.tensor[:] = level
        engine.submit(slot, slot.tensor, done.put)
        slots.append(slot)
    busy = [stream for stream in world.streams.values() if wait_for_work(stream)]
    assert len(busy) == 2
    busy[1].run()
    assert done.get(timeout=10) is slots[1]
    busy[0].run()
    assert done.get(timeout=10) is slots[0]
    assert [slot.maps[0, 0, 0] for slot in slots] == [expected(205), expected(215)]
    engine.close()


def wait_for_work(stream: object) -> bool:
    """True as soon as the stream has work; False for one that got none while the others did."""
    for _ in range(2000):
        if stream.waiting:  # type: ignore[attr-defined]
            return True
        threading.Event().wait(0.0002)
    return False


def test_nothing_is_allocated_once_it_runs(world: World, model: Model) -> None:
    ring = Ring(4, ROWS * COLS)
    engine = start(model)
    engine.adopt(ring.memory)
    engine.warm_up()
    before, addresses = world.allocations, {slot.maps.ctypes.data for slot in leased(engine)}
    for number in range(300):
        frame = ring.view(number % 4).reshape(ROWS, COLS)
        engine.release(infer(engine, frame if number % 2 else None, level=number % 256))
    assert world.allocations == before
    assert {slot.maps.ctypes.data for slot in leased(engine)} == addresses
    engine.close()


def leased(engine: TensorRtSegmenter) -> list[TensorSlot]:
    slots = []
    while (slot := engine.lease()) is not None:
        slots.append(slot)
    for slot in slots:
        engine.release(slot)
    return slots


def test_everything_is_freed_in_order_and_once(world: World, model: Model) -> None:
    engine = start(model)
    engine.release(infer(engine))
    engine.close()
    log = world.log
    order = [
        max(i for i, each in enumerate(log) if each == what) for what in ("-graph", "-execution", "-engine", "-runtime", "-device")
    ]
    assert order == sorted(order)
    assert log.index("-device") > max(i for i, each in enumerate(log) if each == "-runtime")
    assert log[-2:] == ["-context", "detach"]
    for what in ("stream", "event", "device", "pinned", "graph", "execution"):
        assert log.count(f"+{what}") == log.count(f"-{what}") > 0, what
    assert (world.used, world.pushed, world.graphs) == (0, 0, {})


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
    assert "-context" not in world.log  # a broken context ends with the process


@pytest.mark.parametrize(
    "failing", [{"execute": True}, {"to_device": Error("cuMemcpyHtoDAsync failed: unspecified launch failure")}]
)
def test_what_fails_in_launching_is_told_to_its_part(
    world: World, model: Model, ended: queue.SimpleQueue[BaseException | None], failing: dict[str, object]
) -> None:
    engine = start(model, TensorRtEngine(graph=False, keep_warm_ms=0))
    world.fail.update(failing)
    assert infer(engine).failure
    assert isinstance(ended.get(timeout=10), EngineLost)
    engine.close()


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


def test_too_little_memory_is_told_and_given_back(world: World, model: Model) -> None:
    world.memory_limit = 3000
    with pytest.raises(EngineUnavailable, match=r"too little free memory.*lower engine\.slots"):
        start(model)
    assert world.pushed == 0


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
    with pytest.raises(EngineUnavailable, match="system-site-packages"):
        load_library()


def test_a_tensorrt_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "8.4.3")
    with pytest.raises(EngineUnavailable, match=r"8\.5 is the oldest"):
        load_library()


def test_an_idle_engine_keeps_itself_warm(world: World, model: Model) -> None:
    engine = start(model, TensorRtEngine(keep_warm_ms=1))
    world.launched.clear()
    for _ in range(5000):
        if len(world.launched) >= 3:
            break
        threading.Event().wait(0.001)
    assert len(world.launched) >= 3
    engine.close()
    assert world.used == 0


def test_a_gpu_that_shares_memory_takes_what_is_faster(world: World, model: Model) -> None:
    world.integrated = True
    engine = start(model)
    assert engine.memory in ("copied", "mapped")
    tried = {what for what in world.log if what in ("+pinned", "+mapped")}
    assert tried == {"+pinned", "+mapped"}
    assert infer(engine, level=240).maps[0, 0, 0] == expected(240)
    engine.close()
    assert world.used == 0


def test_the_probe_takes_its_answers(world: World, model: Model) -> None:
    engine = start(model)
    assert probe(engine, model, lambda _: "") == []
    engine.close()
