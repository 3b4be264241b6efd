"""A TensorRT on the GPU of `fake_gpu.py`, whose only network is the one of `bright.py`."""

from __future__ import annotations

import ctypes
import enum
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

    def __init__(self, world: World, log: Any, shape: tuple[int, int, int, int]) -> None:
        self.world, self.log, self.shape, self.addresses = world, log, shape, {}
        self.device_memory = 0
        world.took(0, "execution")

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 4 == 0
        self.addresses[name] = address
        return not self.world.fail.get("address", False)

    def execute_async_v3(self, handle: int) -> bool:
        assert self.device_memory, "no activation memory was attached"
        if self.world.fail.get("execute"):
            self.log.log(
                "error", f"IExecutionContext::enqueueV3: {self.world.fail.get('why', 'the address of a tensor is not aligned')}"
            )
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
            if not self.world.loses_maps:
                maps.reshape(classes, -1)[:] = levels[::-1] if self.world.is_miscompiled else levels
            peak = self.world.engine_peak if self.world.engine_peak is not None else logits.max()
            ctypes.c_float.from_address(peak_at).value = peak

    def __del__(self) -> None:
        self.world.gone("execution")


class NewContext(Context):
    """As 10 and 11 have it."""

    def set_device_memory(self, address: int, size: int) -> None:
        assert size == 1000
        self.device_memory = address


def plan_of(classes: int, rows: int, cols: int, batch: int = 1) -> bytes:
    return b"fake plan %d %d %d %d" % (classes, rows, cols, batch)


def make_tensorrt(world: World, version: str = "10.3.0") -> Any:
    """What stands for `tensorrt`, as 8.6, 10 or 11 has it."""
    trt = types.ModuleType("tensorrt")
    is_new = int(version.split(".")[0]) >= 10

    class ILogger:
        WARNING, ERROR, INTERNAL_ERROR = "warning", "error", "internal"

    class Engine:
        def __init__(self, log: Any, shape: tuple[int, int, int, int]) -> None:
            self.log, self.shape, self.num_io_tensors = log, shape, 3

        def get_tensor_name(self, index: int) -> str:
            return (FRAMES, MAP, PEAK)[index]

        def get_tensor_mode(self, name: str) -> str:
            return Port.INPUT if name == FRAMES else Port.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            classes, rows, cols, batch = self.shape
            return {FRAMES: (batch, 1, rows, cols), MAP: (batch, classes, rows, cols), PEAK: (batch,)}[name]

        def get_tensor_dtype(self, name: str) -> str:
            return "DataType.FLOAT" if name == PEAK else "DataType.UINT8"

        def refuses(self) -> bool:
            if isinstance(why := world.fail.get("context"), str):
                self.log.log(ILogger.ERROR, why)
            return bool(why)

        def __del__(self) -> None:
            world.gone("engine")

    class OldEngine(Engine):
        device_memory_size = 1000

        def create_execution_context_without_device_memory(self) -> Context | None:
            return None if self.refuses() else Context(world, self.log, self.shape)

    class NewEngine(Engine):
        device_memory_size_v2 = 1000

        def create_execution_context(self, strategy: str) -> Context | None:
            assert strategy == "user"
            return None if self.refuses() else NewContext(world, self.log, self.shape)

    class Runtime:
        def __init__(self, log: Any) -> None:
            constructed(world, "Runtime", log)
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(b"fake plan "):
                self._log.log(ILogger.ERROR, world.fail.get("why", "the plan was built by another version"))
                return None
            classes, rows, cols, batch = map(int, plan.split()[2:6])
            return (NewEngine if is_new else OldEngine)(self._log, (classes, rows, cols, batch))

        def __del__(self) -> None:
            world.gone("runtime")

    trt.__version__ = version
    trt.ILogger, trt.Runtime, trt.TensorIOMode = ILogger, Runtime, Port
    if is_new:
        trt.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user")
    add_builder(trt, world, version)
    return trt


def constructed(world: World, name: str, log: Any) -> None:
    """A constructor whose library makes nothing: it logs why, as warning or error, and the bindings know no better than this."""
    if name in world.fail:
        log.log(*world.fail[name])
        raise TypeError("pybind11::init(): factory function returned nullptr")


class Cache:
    """A timing cache that knows of so many kernels."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytearray:
        return bytearray(self.data or b"fake cache")


def add_builder(trt: Any, world: World, version: str) -> None:
    """The builder's side, with only the names that this version has."""
    major = int(version.split(".")[0])
    flags = {8: {"EXPLICIT_BATCH": 0}, 10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 11: {"STRONGLY_TYPED": 0}}[major]
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", flags)
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", ["TF32"] if major >= 11 else ["INT8", "FP16", "TF32"])
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE"])
    names = ["flags", "pools", "cache", *(["builder_optimization_level"] if version >= "8.6" or major >= 10 else [])]

    class Config:
        __slots__ = (*names, *(["progress_monitor"] if major >= 10 else []))

        def __init__(self) -> None:
            self.flags, self.pools, self.cache = {trt.BuilderFlag.TF32}, {}, None
            if "builder_optimization_level" in names:
                self.builder_optimization_level = 3

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            self.pools[pool.name] = size

        def clear_flag(self, flag: Any) -> None:
            self.flags.discard(flag)

        def set_flag(self, flag: Any) -> None:
            self.flags.add(trt.BuilderFlag(flag))

        def create_timing_cache(self, data: bytes) -> Cache | None:
            return None if data and world.fail.get("cache") == "none" else Cache(bytes(data))

        def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
            if not isinstance(cache, Cache):
                raise TypeError("set_timing_cache(): incompatible function arguments")
            if not cache.data.startswith(b"fake cache") and cache.data:
                return False
            self.cache = cache
            return True

    class Builder:
        def __init__(self, log: Any) -> None:
            constructed(world, "Builder", log)
            self._log = log

        def create_network(self, flags: int) -> Any:
            return None if world.fail.get("network") else types.SimpleNamespace(flags=flags, onnx=b"")

        def create_builder_config(self) -> Config | None:
            return None if world.fail.get("config") else Config()

        def build_serialized_network(self, network: Any, config: Config) -> bytearray | None:
            asked = {"network": network.flags, "flags": sorted(flag.name for flag in config.flags), **config.pools}
            asked |= {"level": getattr(config, "builder_optimization_level", None), "cache": config.cache and config.cache.data}
            world.builds.append(asked)
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None:
                monitor.phase_start("tactics", None, 2)
                assert all(monitor.step_complete("tactics", step) for step in range(2))
                monitor.phase_finish("tactics")
            for warning in world.fail.get("warnings", ()):
                self._log.log("warning", warning)
            if "build" in world.fail:
                self._log.log("error", world.fail["build"])
                return None
            return bytearray(plan_of(1, 64, 64))

    class OnnxParser:
        def __init__(self, network: Any, log: Any) -> None:
            constructed(world, "OnnxParser", log)
            self.num_errors, self._network = 0, network

        def parse(self, onnx: bytes) -> bool:
            self._network.onnx, self.num_errors = onnx, int("parse" in world.fail)
            return not self.num_errors

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: world.fail["parse"])

    trt.Builder, trt.OnnxParser = Builder, OnnxParser
    if major >= 10:
        trt.IProgressMonitor = type("IProgressMonitor", (), {})
