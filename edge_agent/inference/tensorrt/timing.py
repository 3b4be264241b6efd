"""How fast a plan of any batch is, for measuring alone: copies and computing by the GPU's own clock, answers by the host's.

Each measurement has the GPU's context on a thread of its own, which its caller waits for. A batch is captured as one graph where
that can be, as in `lane`.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.errors import EngineError
from edge_agent.inference.tensorrt.api import Library, enqueue, load_engine, make_context, make_log, ports_of
from edge_agent.inference.tensorrt.cuda import Gpu, alone

IN_FLIGHT = 2  # batches, each on a stream of its own: copies of one beside the computing of the other
_SIZES = {"UINT8": 1, "FLOAT": 4}
_LEAST_RUNS, _WARM_UPS = 5, 3
_COPIED = 256 << 20  # bytes, more than any cache
_COPIES = 8


@dataclass(frozen=True, slots=True)
class Timed:
    """`images_per_s` flat out with IN_FLIGHT batches; of one batch alone the rest, in ms: `latency_ms` every one that was taken,
    from the picture in page-locked memory to the map there; copies and computing as medians by CUDA events."""

    images_per_s: float
    latency_ms: list[float]
    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    graph_nodes: int


class _Batch:
    """One batch in flight: stream, execution context, memory and events."""

    def __init__(self, gpu: Gpu, library: Library, log: Any, engine: Any) -> None:
        self._gpu, self._log, self._device = gpu, log, list[Any]()
        self.stream = gpu.stream()
        self._events = [gpu.timed_event() for _ in range(4)]
        self._context, size, attach = make_context(library, engine, log)
        attach(self._on_device(size))
        self._inputs, self._outputs = list[tuple[Any, int]](), list[tuple[Any, int]]()
        rng = np.random.default_rng(0)
        for name, (is_input, shape, dtype) in ports_of(library, engine).items():
            host = gpu.pinned(math.prod(shape) * _SIZES[dtype])
            host[:] = rng.integers(0, 256, host.size, dtype=np.uint8)
            address = self._on_device(host.size)
            (self._inputs if is_input else self._outputs).append((host, address))
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take an address for {name}")
        self._graph: Any = None

    def _on_device(self, size: int) -> int:
        self._device.append(self._gpu.device_memory(size))
        return int(self._device[-1])

    def _bring(self) -> None:
        for host, address in self._inputs:
            self._gpu.to_device(address, host, self.stream)

    def _compute(self) -> None:
        enqueue(self._context, self.stream.handle, self._log)

    def _fetch(self) -> None:
        for host, address in self._outputs:
            self._gpu.to_host(host, address, self.stream)

    def _all(self) -> None:
        self._bring()
        self._compute()
        self._fetch()

    def prepare(self) -> None:
        """Run it until kernels are loaded, then capture it, where that can be."""
        for _ in range(_WARM_UPS):
            self._all()
            self.stream.synchronize()
        with contextlib.suppress(EngineError, self._gpu.Error):
            self._graph = self._gpu.capture(self.stream, self._all, len(self._inputs) + len(self._outputs) + 1)

    @property
    def nodes(self) -> int:
        return self._graph.nodes if self._graph is not None else 0

    def launch(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        else:
            self._all()

    def stages_ms(self) -> tuple[float, float, float]:
        """Picture to the GPU, computing, map back: of one batch, enqueued piece by piece."""
        first, brought, computed, fetched = self._events
        for event, work in ((first, self._bring), (brought, self._compute), (computed, self._fetch)):
            event.record(self.stream)
            work()
        fetched.record(self.stream)
        self.stream.synchronize()
        pairs = ((first, brought), (brought, computed), (computed, fetched))
        h2d, compute, d2h = (float(late.time_since(early)) for early, late in pairs)
        return h2d, compute, d2h

    def close(self) -> None:
        self.stream.synchronize()
        if self._graph is not None:
            self._graph.close()
        self._graph = self._context = None
        for host, _ in [*self._inputs, *self._outputs]:
            self._gpu.free_host(host)
        for allocation in self._device:
            allocation.free()
        self._events.clear()
        self.stream = None


def measure_plan(gpu: Gpu, library: Library, plan: bytes, batch: int, seconds: float, look: Callable[[], None]) -> Timed:
    """Run the plan for `seconds` alone and `seconds` flat out. `look` is called once while it is flat out, on another thread, to
    ask for clocks.

    Raises EngineError, EngineUnavailable, EngineLost."""

    def measure() -> Timed:
        log = make_log(library)
        runtime, engine = load_engine(library, log, plan)
        batches: list[_Batch] = []
        try:
            for _ in range(IN_FLIGHT):
                batches.append(_Batch(gpu, library, log, engine))
                batches[-1].prepare()
            latency_ms = _alone_ms(batches[0], seconds / 2)
            stages = [batches[0].stages_ms() for _ in range(max(_LEAST_RUNS, min(50, len(latency_ms))))]
            h2d, compute, d2h = (float(np.median(each)) for each in zip(*stages, strict=True))
            rate = batch * _batches_per_s(batches, seconds / 2, look)
            return Timed(rate, latency_ms, h2d, compute, d2h, batches[0].nodes)
        finally:
            for each in batches:
                each.close()
            del engine, runtime

    return alone(gpu, "measuring", measure)


def _alone_ms(batch: _Batch, seconds: float) -> list[float]:
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < _LEAST_RUNS or time.perf_counter() < until:
        began = time.perf_counter()
        batch.launch()
        batch.stream.synchronize()
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def _batches_per_s(batches: list[_Batch], seconds: float, look: Callable[[], None]) -> float:
    """All in flight, the oldest awaited and started again; in the middle, off the clock, that goes on while `look` lasts."""
    rates = [_rate(batches, lambda spent_s: spent_s < seconds / 2)]
    looking = threading.Thread(target=look, name="look")
    looking.start()
    _rate(batches, lambda _: looking.is_alive())
    rates.append(_rate(batches, lambda spent_s: spent_s < seconds / 2))
    return sum(rates) / len(rates)


def _rate(batches: list[_Batch], goes_on: Callable[[float], bool]) -> float:
    """Batches per second, with all of them in flight, while it `goes_on`: told the seconds spent."""
    began, done = time.perf_counter(), 0
    for batch in batches:
        batch.launch()
    while done < _LEAST_RUNS or goes_on(time.perf_counter() - began):
        batch = batches[done % len(batches)]
        batch.stream.synchronize()
        batch.launch()
        done += 1
    rate = done / (time.perf_counter() - began)
    for batch in batches:
        batch.stream.synchronize()
    return rate


def copied_bytes_per_s(gpu: Gpu) -> float:
    """What the device's memory gives and takes together, by copies of 256 MiB on the device and CUDA events.

    Raises EngineError, EngineUnavailable, EngineLost."""

    def copy() -> float:
        memory = [gpu.device_memory(_COPIED) for _ in range(2)]
        stream, first, last = gpu.stream(), gpu.timed_event(), gpu.timed_event()
        gpu.on_device(int(memory[1]), int(memory[0]), _COPIED, stream)
        first.record(stream)
        for _ in range(_COPIES):
            gpu.on_device(int(memory[1]), int(memory[0]), _COPIED, stream)
        last.record(stream)
        stream.synchronize()
        taken_ms = float(last.time_since(first))
        for each in memory:
            each.free()
        return 2 * _COPIED * _COPIES / (taken_ms / 1e3)

    return alone(gpu, "copying on the device", copy)
