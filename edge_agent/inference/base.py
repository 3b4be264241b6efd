"""The Segmenter promise: tensors in, probability maps out, asynchronously, from slots made once."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.errors import EngineError
from edge_agent.records import Pixels


@dataclass(slots=True)
class TensorSlot:
    """One inference in flight. Owned by whoever leased it, until it is released.

    `tensor` (rows, cols) uint8 is the engine's own input memory; `maps` (classes, rows, cols) uint8 its output;
    `peak` the engine's float maximum, checked by `require_believable`. `ticket` is the caller's to use.
    """

    index: int
    tensor: Pixels
    maps: Pixels
    peak: npt.NDArray[np.float32]
    failure: str = ""
    done_ns: int = 0  # monotonic time at which the output was complete
    ticket: Any = None


Done = Callable[[TensorSlot], None]


class Network(Protocol):
    """What a layout must know of an engine."""

    @property
    def rows(self) -> int: ...

    @property
    def cols(self) -> int: ...

    @property
    def classes(self) -> tuple[str, ...]: ...


class Segmenter(Protocol):
    """An engine with a fixed number of tensor slots. `done` is called on the engine's own thread and must be short."""

    rows: int
    cols: int
    classes: tuple[str, ...]
    engine_id: str
    model_hash: str
    slots: int

    def lease(self, wake: Callable[[], None] | None = None) -> TensorSlot | None:
        """Return a free slot, or None. Never blocks. See `slots.SlotPool`, which keeps lines' turns."""

    def release(self, slot: TensorSlot, by: Callable[[], None] | None = None) -> None: ...

    def forgo(self, wake: Callable[[], None]) -> None: ...

    def submit(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        """Start inference on `source`: the slot's own `tensor`, or any C-contiguous (rows, cols) uint8 array that stays
        unchanged until `done`."""

    def adopt(self, memory: Pixels) -> None:
        """Be told of memory that pictures will be submitted from as they are; it outlives the engine. From any other they are
        copied. May do nothing."""

    def warm_up(self) -> float:
        """Run every slot once; return the median latency in ms."""

    def close(self) -> None: ...


def median_ms(segmenter: Segmenter, runs: int, failure: type[EngineError] = EngineError) -> float:
    """Run every slot `runs` times, one inference after another; return the median latency in ms. Raises `failure`."""
    times = []
    for _ in range(runs * segmenter.slots):
        slot = segmenter.lease()
        assert slot is not None, "an engine warms up before anybody uses it"
        finished: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
        began = time.perf_counter()
        segmenter.submit(slot, slot.tensor, finished.put)
        finished.get()
        times.append((time.perf_counter() - began) * 1e3)
        segmenter.release(slot)
        if slot.failure:
            raise failure(slot.failure)
    return statistics.median(times)


def infer(segmenter: Segmenter, picture: Pixels, timeout_s: float) -> TensorSlot:
    """One inference of a picture (rows, cols) uint8 by an engine that nobody else uses yet; the slot is still leased.

    Raises queue.Empty where no answer comes in time."""
    slot = segmenter.lease()
    assert slot is not None, "an engine is tried before anybody uses it"
    finished: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    np.copyto(slot.tensor, picture)
    segmenter.submit(slot, slot.tensor, finished.put)
    return finished.get(timeout=timeout_s)
