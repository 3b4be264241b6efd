"""The TensorRT engine on a GPU faked at the lowest call: slots, streams, graphs, freeing, steady state."""

from __future__ import annotations

import queue
import statistics
import threading
from typing import Any

import numpy as np
import pytest
from fake_gpu import World, install
from gpu_engine import COLS, QUIET, ROWS, expected, infer, leased, start

from edge_agent.errors import EngineError, UnbelievableMap
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.model import Model
from edge_agent.inference.probe import probe
from edge_agent.inference.tensorrt import cugraph, segmenter
from edge_agent.ring import Ring
from edge_agent.settings import TensorRtEngine


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


def test_a_map_that_never_came_is_not_believed_beside_a_peak_that_did(world: World, model: Model) -> None:
    engine = start(model)
    engine.release(infer(engine, level=180))
    world.loses_maps = True
    slot = infer(engine, level=180)
    with pytest.raises(UnbelievableMap, match="highest level is 255"):
        require_believable(slot, int(slot.maps.max()))
    engine.close()


@pytest.mark.parametrize("oversleep_s", [60e-6, 1e-3])
@pytest.mark.parametrize("lasts_s", [0.3e-3, 2e-3, 20e-3])
@pytest.mark.parametrize("began_s", [0.0, 0.1])
def test_waiting_settles_at_the_time_that_an_inference_takes(lasts_s: float, oversleep_s: float, began_s: float) -> None:
    """By a clock of its own: a thread looks at 0.95 of what it expects and then tick by tick, each time somewhat too late."""
    usual_s, seen = began_s, []
    for _ in range(400):
        under_way_s, now_s = 0.0, max(segmenter._TICK_S, segmenter._EARLY * usual_s) + oversleep_s
        while now_s < lasts_s:
            under_way_s, now_s = now_s, now_s + segmenter._TICK_S + oversleep_s
        usual_s = segmenter.next_usual_s(usual_s, under_way_s, now_s)
        seen.append(now_s - lasts_s)
    assert statistics.median(seen[200:]) <= segmenter._TICK_S + oversleep_s
    assert max(seen[200:]) <= 2 * (segmenter._TICK_S + oversleep_s)


def test_an_engine_that_closes_waits_for_the_capture_of_another(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a context, and to wait for that spoils a capture."""
    one = start(model)
    capturing, go_on, capture = threading.Event(), threading.Event(), cugraph.capture

    def held(*words: Any) -> Any:
        capturing.set()
        assert go_on.wait(10)
        return capture(*words)

    monkeypatch.setattr(cugraph, "capture", held)
    opening = threading.Thread(target=lambda: start(model).close())
    opening.start()
    assert capturing.wait(10)
    closing = threading.Thread(target=one.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(10)
    opening.join(10)
    assert not closing.is_alive()
    assert not opening.is_alive()
    assert world.used == 0
