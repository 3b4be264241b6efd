"""With this folder's on PYTHONPATH a machine has a GPU: pycuda over `fake_gpu.py`, and libcuda, whose kernels `ptx.py` computes.

PYTHONPATH holds tests/ and tools/ as well.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import kernels
import ptx
from fake_gpu import Error, LibCuda, World, make_driver

from edge_agent.inference.tensorrt import cugraph

_KERNEL_MS = 0.5
WORLD = World()


class LibCudaWithKernels(LibCuda):
    """And modules, functions and launches. `turns` is 1: a kernel that looks again sees the same."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self._things: dict[int, Any] = {}

    def _keep(self, reference: Any, thing: Any) -> int:
        reference._obj.value = number = next(self.world.numbers)
        self._things[number] = thing
        return 0

    def cuModuleLoadData(self, module: Any, text: bytes) -> int:
        assert self.world.pushed, "a module is loaded without a context"
        return self._keep(module, ptx.Module(text.rstrip(b"\0").decode()))

    def cuModuleUnload(self, module: Any) -> int:
        del self._things[module.value]
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        return self._keep(function, (self._things[module.value], name.decode()))

    def cuMemsetD32Async(self, address: int, value: int, words: int, stream: Any) -> int:
        self.world.streams[stream.value].put(lambda: ctypes.memset(address, value, 4 * words) and None)
        return 0

    def cuLaunchKernel(self, function: Any, *words: Any) -> int:
        across, down, deep, threads, rows, layers, shared, stream, values, extra = words
        assert (deep, rows, layers, shared, extra) == (1, 1, 1, 0, None)
        module, name = self._things[function.value]
        given = []
        for (kind, of), pointer in zip(module.kernels[name].parameters, values, strict=False):
            read = (ctypes.c_uint64 if kind == "u64" else ctypes.c_uint32).from_address(pointer).value
            given.append(1 if of == "turns" else read)

        def work() -> None:
            self.world.clock_ms += _KERNEL_MS
            try:
                ptx.run(module, name, (across, down), threads, given)
            except ptx.Trap:
                self.world.broken = Error("cuEventQuery failed: unspecified launch failure")
                raise self.world.broken from None

        self.world.streams[stream.value].put(work)
        return 0


LIBRARY = LibCudaWithKernels(WORLD)
driver = sys.modules[f"{__name__}.driver"] = make_driver(WORLD)
cugraph.open_library = lambda *_: LIBRARY
kernels.open_library = lambda: LIBRARY
if fault := os.environ.get("FAKE_BOX_FAIL"):  # a call of libcuda's that answers badly
    WORLD.fail[fault] = 1
