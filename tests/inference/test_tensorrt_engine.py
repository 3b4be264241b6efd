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
    world.fail["cuMemHostRegister"] = 801
    ring = Ring(2, ROWS * COLS)
    engine = start(model)
    engine.adopt(ring.memory)
    assert infer(engine, ring.view(0).reshape(ROWS, COLS)).maps[0, 0, 0] == expected(0)
    engine.close()
    said = "".join(capfd.readouterr())
    assert "engine.slower" in said
    assert "locking the frame slots" in said


def test_a_ring_is_locked_once_however_many_engines_copy_from_it(
    world: World, model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when the recipe changes: the new engine meets the ring before the old one is closed, and may give it back."""
    ring = Ring(2, ROWS * COLS)
    frame = ring.view(1).reshape(ROWS, COLS)
    old, new = start(model), start(model)
    for engine in (old, new, old):
        engine.adopt(ring.memory)
        world.launched.clear()
        engine.release(infer(engine, frame))
        assert world.launched == [3]  # fetched from the ring
    old.close()
    assert world.locked
    world.launched.clear()
    new.release(infer(new, frame))
    assert world.launched == [3]
    new.close()
    assert not world.locked
    assert (world.log.count("+locked"), world.log.count("-locked")) == (1, 1)
    assert "engine.slower" not in "".join(capfd.readouterr())


def test_a_ring_that_others_have_locked_stays_theirs(world: World, model: Model) -> None:
    ring = Ring(2, ROWS * COLS)
    world.locked[ring.memory.ctypes.data] = ring.memory.nbytes
    engine = start(model)
    engine.adopt(ring.memory)
    world.launched.clear()
    infer(engine, ring.view(0).reshape(ROWS, COLS))
    assert world.launched == [3]
    engine.close()
    assert world.locked


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
    busy.clear()
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


@pytest.mark.parametrize("call", ["retain", "push", "to_device"])
def test_a_call_that_fails_in_opening_leaves_nothing(world: World, model: Model, call: str) -> None:
    world.fail[call] = Error("it failed: invalid value")
    with pytest.raises(EngineError, match="invalid value") as failure:
        start(model)
    assert type(failure.value) is EngineError
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
    with pytest.raises(EngineUnavailable, match="system-site-packages"):
        load_library()


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


def test_it_may_keep_itself_warm_before_its_maker_has_it(world: World, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that opens it may be kept from running for longer than `keep_warm_ms`."""

    class Late(segmenter.Future):  # type: ignore[type-arg]
        def result(self, timeout: float | None = None) -> object:
            found = super().result(timeout)
            for _ in range(5000):
                if world.launched:
                    break
                threading.Event().wait(0.001)
            return found

    monkeypatch.setattr(segmenter, "Future", Late)
    engine = start(model, TensorRtEngine(keep_warm_ms=1))
    assert world.launched
    engine.close()


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
