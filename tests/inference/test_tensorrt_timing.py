"""Measuring a plan on the faked GPU where it fails: what is told, that nothing is left, that a broken context ends no thread."""

from __future__ import annotations

import threading

import pytest
from fake_gpu import Error, World
from fake_tensorrt import plan_of
from running import wait_until

from edge_agent.errors import EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.timing import Timed, copied_bytes_per_s, measure_plan

ROWS = COLS = 64
BATCH = 1000 + 2 * (2 * ROWS * COLS + 4)  # bytes


def measure(gpu: Gpu) -> Timed:
    return measure_plan(gpu, load_library(), plan_of(1, ROWS, COLS), 1, 0.01, lambda: None)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpu"]


@pytest.mark.parametrize("limit", [0, 999, 1000, 6000, 12_000, BATCH, 2 * BATCH - 1])
def test_too_little_memory_is_told_and_given_back(world: World, limit: int) -> None:
    gpu = Gpu()
    world.memory_limit = limit
    with pytest.raises(EngineUnavailable, match="too little free memory"):
        measure(gpu)
    assert (world.used, world.pushed, world.retained, world.graphs) == (0, 0, 0, {})
    world.memory_limit = 2 * BATCH
    assert measure(gpu).images_per_s > 0
    assert (world.used, world.pushed, world.retained, world.graphs) == (0, 0, 0, {})


def test_the_librarys_reason_is_told(world: World) -> None:
    world.fail["execute"] = True
    with pytest.raises(EngineError, match=r"refused to enqueue an inference: .*the address of a tensor is not aligned"):
        measure(Gpu())
    assert (world.used, world.pushed, world.retained) == (0, 0, 0)


def test_a_gpu_that_breaks_is_lost_and_its_thread_stays(world: World) -> None:
    before = threads()
    world.broken = Error("cuStreamSynchronize failed: an illegal memory access was encountered")
    for measured in (measure, copied_bytes_per_s):
        with pytest.raises(EngineLost, match="illegal memory access"):
            measured(Gpu())
    assert world.pushed == len(threads()) - len(before) == 2


def test_the_gpu_is_at_work_while_its_clocks_are_asked_for(world: World) -> None:
    """Asking takes longer than what is under way: an idle GPU's power says nothing."""
    began: list[int] = []

    def look() -> None:
        began.append(len(world.launched))
        wait_until(lambda: len(world.launched) > began[0] + 20)

    measure_plan(Gpu(), load_library(), plan_of(1, ROWS, COLS), 1, 0.01, look)
    assert len(began) == 1


def test_the_copy_gives_everything_back(world: World) -> None:
    before = threads()
    assert copied_bytes_per_s(Gpu()) == pytest.approx(3e11)
    assert (world.used, world.pushed, world.retained) == (0, 0, 0)
    assert threads() == before
