"""One inference in flight: a stream, an execution context, its memory on both sides, and the graph of all it does.

Used on the GPU thread alone, but for `slot`, whose arrays are its holder's. Addresses are bound once; nothing is allocated after
`prepare`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.errors import EngineError
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.graph import FRAMES, MAP, PEAK
from edge_agent.inference.tensorrt.api import Library, enqueue, make_context
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.records import Pixels

_ALIGNED = 256  # bytes: what cudaMalloc gives, and TensorRT may rely on, for each tensor's address
_POISON = 255
_PREPARE = 2  # plain runs before a capture: the first loads kernels, which a capture must not
_KERNELS = 1  # the least that a network can be
COPIED, MAPPED = "copied", "mapped"


class Lane:
    """`memory` COPIED: page-locked host memory, copied each way. MAPPED: the GPU works in the host's, as on a Jetson."""

    def __init__(
        self, gpu: Gpu, library: Library, log: Any, engine: Any, index: int, shape: tuple[int, int, int], memory: str
    ) -> None:
        """`shape` is (classes, rows, cols). Raises pycuda's errors; what was made until then goes with the error's frames: see
        `cuda.let_go`."""
        classes, rows, cols = shape
        self._gpu, self._memory, self._log = gpu, memory, log
        self._peak_at = -(-classes * rows * cols // _ALIGNED) * _ALIGNED
        self.launched_s = self.seen_s = 0.0  # and when it was last seen under way
        self._graphs: list[Any] = []  # of everything; of everything but the copy of the picture
        self._device: list[Any] = []
        self.stream, self.event = gpu.stream(), gpu.event()
        self._context, size, attach = make_context(library, engine, log)
        attach(self._on_device(size))
        tensor, self._input = self._pair(rows * cols)
        self._outputs, self._output = self._pair(self._peak_at + 4)
        self._host = [tensor, self._outputs]
        self.tensor = tensor.reshape(rows, cols)
        self.slot = TensorSlot(
            index,
            self.tensor,
            self._outputs[: classes * rows * cols].reshape(shape),
            self._outputs[self._peak_at :].view(np.float32),
        )
        for name, address in ((FRAMES, self._input), (MAP, self._output), (PEAK, self._output + self._peak_at)):
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take an address for {name}")

    def _on_device(self, size: int) -> int:
        allocation = self._gpu.device_memory(size)
        self._device.append(allocation)
        return int(allocation)

    def _pair(self, size: int) -> tuple[Pixels, int]:
        """Host memory and the device's address of it, or of its copy."""
        if self._memory == MAPPED:
            return self._gpu.mapped(size)
        return self._gpu.pinned(size), self._on_device(size)

    # --- what one inference is ----------------------------------------------------------------------------------------
    def _run(self) -> None:
        """Poison, compute, bring the answer. The device's is poisoned, the map's end and the peak after it: its copy would bring a
        stale one over the host's."""
        self._gpu.poison(self._output + self._peak_at - _ALIGNED, _ALIGNED + 4, self.stream)
        enqueue(self._context, self.stream.handle, self._log)
        if self._memory == COPIED:
            self._gpu.to_host(self._outputs, self._output, self.stream)

    def _run_all(self) -> None:
        if self._memory == COPIED:
            self._gpu.to_device(self._input, self.tensor, self.stream)
        self._run()

    def prepare(self, wants_graph: bool) -> str:
        """Run twice, then capture graphs; return why there are none, or ''. Raises EngineError, pycuda's errors."""
        for _ in range(_PREPARE):
            self._run_all()
            self.stream.synchronize()
        if not wants_graph:
            return ""
        copies = 1 if self._memory == COPIED else 0
        try:
            self._graphs.append(self._gpu.capture(self.stream, self._run_all, 1 + _KERNELS + 2 * copies))
            if copies:
                self._graphs.append(self._gpu.capture(self.stream, self._run, 1 + _KERNELS + copies))
        except (EngineError, self._gpu.Error) as error:
            self._drop_graphs()
            self._run_all()  # a stream whose capture failed must work again, or the engine is of no use
            self.stream.synchronize()
            return str(error)
        return ""

    @property
    def nodes(self) -> int:
        """Of the graph of everything; 0 without one."""
        return self._graphs[0].nodes if self._graphs else 0

    def launch(self, source: Pixels, is_locked: bool, now_s: float) -> None:
        """Start an inference of `source`, read where it lies if its memory is page-locked. Raises EngineError, pycuda's errors."""
        slot = self.slot
        slot.failure = ""
        slot.peak[0] = np.nan
        slot.maps[:, 0] = _POISON
        if source is self.tensor or not is_locked or self._memory == MAPPED:
            if source is not self.tensor:
                np.copyto(self.tensor, source)
            self._start(0, self._run_all)
        else:
            self._gpu.to_device(self._input, source, self.stream)
            self._start(1, self._run)
        self.event.record(self.stream)
        self.launched_s = self.seen_s = now_s

    def _start(self, graph: int, plain: Any) -> None:
        if self._graphs:
            self._graphs[graph].launch()
        else:
            plain()

    def is_done(self) -> bool:
        """True when the answer is in host memory. Raises pycuda's errors for an inference that failed."""
        return bool(self.event.query())

    # --- the end, in order --------------------------------------------------------------------------------------------
    def close_execution(self) -> None:
        """Let go of graphs and execution context; the engine goes next."""
        self.stream.synchronize()
        self._drop_graphs()
        self._context = None

    def _drop_graphs(self) -> None:
        for graph in self._graphs:
            graph.close()
        self._graphs.clear()

    def close_memory(self) -> None:
        """Free memory, event and stream. Nobody holds the slot any more."""
        empty = np.empty(0, np.uint8)
        self.slot.tensor, self.slot.maps, self.slot.peak = empty.reshape(0, 0), empty, np.empty(0, np.float32)
        host, self._host, self.tensor, self._outputs = self._host, [], empty.reshape(0, 0), empty
        for array in host:
            self._gpu.free_host(array)
        for allocation in self._device:
            allocation.free()
        self._device.clear()
        self.event = self.stream = None
