"""A TensorRT on the GPU of `fake_gpu.py`, whose only network is the one of `bright.py`."""

from __future__ import annotations

import ctypes
import types
from typing import TYPE_CHECKING, Any

import numpy as np
from bright import CENTRE, SLOPE

from edge_agent.inference.graph import FRAMES, MAP, PEAK

if TYPE_CHECKING:
    from fake_gpu import World


class Port:
    """A tensor's enumeration values, as text."""

    INPUT, OUTPUT = "INPUT", "OUTPUT"


class Context:
    """An execution context as 8.6 has it."""

    def __init__(self, world: World, shape: tuple[int, int, int, int]) -> None:
        self.world, self.shape, self.addresses = world, shape, {}
        self.device_memory = 0
        world.took(0, "execution")

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 4 == 0
        self.addresses[name] = address
        return not self.world.fail.get("address", False)

    def execute_async_v3(self, handle: int) -> bool:
        assert self.device_memory, "no activation memory was attached"
        if self.world.fail.get("execute"):
            return False
        self.world.streams[handle].put(self._compute)
        return True

    def _compute(self) -> None:
        """The network of `bright.py`, for every class; it takes 2 ms for each picture."""
        classes, rows, cols, batch = self.shape
        self.world.clock_ms += 2.0 * batch
        for index in range(batch):
            of = {FRAMES: rows * cols * index, MAP: classes * rows * cols * index, PEAK: 4 * index}
            frame, maps_at, peak_at = (self.addresses[name] + of[name] for name in (FRAMES, MAP, PEAK))
            picture = np.ctypeslib.as_array((ctypes.c_uint8 * (rows * cols)).from_address(frame))
            maps = np.ctypeslib.as_array((ctypes.c_uint8 * (classes * rows * cols)).from_address(maps_at))
            logits = (picture.astype(np.float64) - CENTRE) * SLOPE
            levels = np.round(255 / (1 + np.exp(-logits)))
            maps.reshape(classes, -1)[:] = levels[::-1] if self.world.is_miscompiled else levels
            peak = self.world.engine_peak if self.world.engine_peak is not None else logits.max()
            ctypes.c_float.from_address(peak_at).value = peak

    def __del__(self) -> None:
        self.world.note("-execution")


class NewContext(Context):
    """As 10 and 11 have it."""

    def set_device_memory(self, address: int, size: int) -> None:
        assert size == 1000
        self.device_memory = address


def plan_of(classes: int, rows: int, cols: int, batch: int = 1) -> bytes:
    return b"fake plan %d %d %d %d" % (classes, rows, cols, batch)


def make_tensorrt(world: World, version: str = "10.3.0") -> Any:
    """What stands for `tensorrt`, as 8.6 or 10 has it."""
    trt = types.ModuleType("tensorrt")
    is_new = int(version.split(".")[0]) >= 10

    class ILogger:
        ERROR, INTERNAL_ERROR = "error", "internal"

    class Engine:
        def __init__(self, shape: tuple[int, int, int, int]) -> None:
            self.shape, self.num_io_tensors = shape, 3

        def get_tensor_name(self, index: int) -> str:
            return (FRAMES, MAP, PEAK)[index]

        def get_tensor_mode(self, name: str) -> str:
            return Port.INPUT if name == FRAMES else Port.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            classes, rows, cols, batch = self.shape
            return {FRAMES: (batch, 1, rows, cols), MAP: (batch, classes, rows, cols), PEAK: (batch,)}[name]

        def get_tensor_dtype(self, name: str) -> str:
            return "DataType.FLOAT" if name == PEAK else "DataType.UINT8"

        def __del__(self) -> None:
            world.note("-engine")

    class OldEngine(Engine):
        device_memory_size = 1000

        def create_execution_context_without_device_memory(self) -> Context | None:
            return None if world.fail.get("context") else Context(world, self.shape)

    class NewEngine(Engine):
        device_memory_size_v2 = 1000

        def create_execution_context(self, strategy: str) -> Context | None:
            assert strategy == "user"
            return None if world.fail.get("context") else NewContext(world, self.shape)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(b"fake plan "):
                self._log.log(ILogger.ERROR, world.fail.get("why", "the plan was built by another version"))
                return None
            classes, rows, cols, batch = map(int, plan.split()[2:6])
            return (NewEngine if is_new else OldEngine)((classes, rows, cols, batch))

        def __del__(self) -> None:
            world.note("-runtime")

    trt.__version__ = version
    trt.ILogger, trt.Runtime, trt.TensorIOMode = ILogger, Runtime, Port
    if is_new:
        trt.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user")
    return trt
