"""A GPU at the lowest call: `pycuda.driver`, libcuda's graph functions and a TensorRT, with memory that is really there.

Work put into a stream waits until somebody synchronises or, unless the world holds it, asks an event. Every allocation and every
release is written down; what is used after its release raises.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bright import CENTRE, SLOPE

from edge_agent.inference import tensorrt
from edge_agent.inference.graph import FRAMES, MAP, PEAK
from edge_agent.inference.tensorrt import cugraph


class Error(Exception):
    """pycuda.driver.Error."""


class MemoryError_(Error):
    """pycuda.driver.MemoryError."""


class World:
    """What the three fakes share. `fail[name]` makes that call raise or, of libcuda and TensorRT, give a bad answer."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.allocations = 0
        self.fail: dict[str, Any] = {}
        self.holds = False  # nothing runs by itself until it is let go
        self.integrated = False
        self.memory_limit = 1 << 40
        self.used = 0
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launched: list[int] = []
        self.pushed = 0
        self.kernels = 1  # nodes for one inference
        self.numbers = itertools.count(1)
        self.broken: Exception | None = None
        self.engine_peak: float | None = None
        self.is_miscompiled = False  # maps come upside down

    def note(self, what: str) -> None:
        self.log.append(what)

    def tripped(self, name: str) -> None:
        if name in self.fail:
            raise self.fail[name]

    def took(self, size: int, what: str) -> None:
        self.allocations += 1
        self.used += size
        self.note(f"+{what}")
        if self.used > self.memory_limit:
            raise MemoryError_("cuMemAlloc failed: out of memory")


class Stream:
    def __init__(self, world: World, flags: int) -> None:
        assert flags == 1, "a stream that waits for the legacy stream"
        self.world, self.handle = world, next(world.numbers)
        self.waiting: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        world.streams[self.handle] = self
        world.took(0, "stream")

    def put(self, work: Callable[[], None]) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)

    def run(self) -> None:
        if self.world.broken is not None:
            raise self.world.broken
        work, self.waiting = self.waiting, []
        for each in work:
            each()

    def synchronize(self) -> None:
        if self.captured is not None:
            raise Error("cuStreamSynchronize failed: operation not permitted when stream is capturing")
        self.run()

    def __del__(self) -> None:
        self.world.note("-stream")


class Event:
    def __init__(self, world: World) -> None:
        self.world, self.done, self.stream = world, True, None
        world.took(0, "event")

    def record(self, stream: Stream) -> None:
        self.done, self.stream = False, stream
        stream.put(self._pass)

    def _pass(self) -> None:
        self.done = True

    def query(self) -> bool:
        if self.world.broken is not None:
            raise self.world.broken
        if not self.world.holds and self.stream is not None:
            self.stream.run()
        return self.done

    def __del__(self) -> None:
        self.world.note("-event")


class Memory:
    """Device or host memory; an address is a real one."""

    def __init__(self, world: World, size: int, what: str) -> None:
        world.took(size, what)
        self.world, self.what, self.size = world, what, size
        self.bytes = (ctypes.c_uint8 * max(1, size))()
        self.address = ctypes.addressof(self.bytes)
        self.is_freed = False
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (self.address, False), "version": 3}

    def free(self) -> None:
        assert not self.is_freed, f"{self.what} is freed twice"
        assert self.world.pushed, f"{self.what} is freed without a context"
        self.is_freed = True
        self.world.used -= self.size
        self.world.note(f"-{self.what}")

    unregister = free

    def get_device_pointer(self) -> int:
        return self.address

    def __int__(self) -> int:
        assert not self.is_freed
        return self.address


def make_driver(world: World) -> Any:
    """What stands for `pycuda.driver`."""
    driver = types.ModuleType("pycuda.driver")

    class Context:
        def push(self) -> None:
            world.pushed += 1
            world.note("+context")

        @staticmethod
        def pop() -> None:
            world.pushed -= 1
            world.note("-context")

        def detach(self) -> None:
            world.note("detach")

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        count = staticmethod(lambda: world.fail.get("devices", 1))
        name = staticmethod(lambda: "Fake T4")
        compute_capability = staticmethod(lambda: (7, 5))
        get_attribute = staticmethod(lambda _: int(world.integrated))

        def retain_primary_context(self) -> Context:
            return Context()

    def copy(target: int, source: int, size: int) -> Callable[[], None]:
        return lambda: ctypes.memmove(target, source, size) and None

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        world.tripped("to_device")
        stream.put(copy(address, source.ctypes.data, source.nbytes))

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        stream.put(copy(target.ctypes.data, address, target.nbytes))

    def memset(address: int, value: int, count: int, stream: Stream) -> None:
        stream.put(lambda: ctypes.memmove(address, np.full(count, value, np.uint32).ctypes.data, 4 * count) and None)

    def pagelocked(shape: tuple[int, ...], dtype: Any, mem_flags: int = 0) -> np.ndarray:
        assert dtype is np.uint8
        return np.asarray(Memory(world, shape[0], "mapped" if mem_flags else "pinned"))

    def register(memory: np.ndarray, flags: int) -> Any:
        world.tripped("register")
        assert flags
        world.took(0, "locked")
        held = Memory(world, 0, "locked")
        world.allocations -= 1
        world.log.pop()
        return types.SimpleNamespace(base=held, memory=memory)

    driver.Error, driver.MemoryError = Error, MemoryError_
    driver.init = lambda: world.tripped("init")
    driver.Device, driver.Context = Device, Context
    driver.Stream = lambda flags=0: Stream(world, flags)
    driver.Event = lambda flags: Event(world)
    driver.event_flags = types.SimpleNamespace(DISABLE_TIMING=2)
    driver.device_attribute = types.SimpleNamespace(INTEGRATED=18)
    driver.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    driver.mem_host_register_flags = types.SimpleNamespace(PORTABLE=1)
    driver.mem_alloc = lambda size: Memory(world, size, "device")
    driver.pagelocked_empty, driver.register_host_memory = pagelocked, register
    driver.memcpy_htod_async, driver.memcpy_dtoh_async, driver.memset_d32_async = to_device, to_host, memset
    driver.get_driver_version = lambda: 13000
    driver.mem_get_info = lambda: (world.memory_limit - world.used, world.memory_limit)
    return driver


class LibCuda:
    """libcuda's graph functions; each answers with a CUresult."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _code(self, name: str) -> int:
        return int(self._world.fail.get(name, 0))

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        assert mode == 1, "a capture that is not thread-local"
        if not self._code("begin"):
            self._world.streams[stream.value].captured = []
        return self._code("begin")

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        of = self._world.streams[stream.value]
        work, of.captured = of.captured or [], None
        if self._code("empty"):
            work = []
        number = next(self._world.numbers)
        self._world.graphs[number] = work
        graph._obj.value = number
        return self._code("end")

    def cuGraphGetNodes(self, graph: Any, nodes: Any, count: Any) -> int:
        assert nodes is None
        work = self._world.graphs[graph.value]
        count._obj.value = len(work) + (self._world.kernels - 1 if work else 0)
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:
        assert flags == 0
        number = next(self._world.numbers)
        self._world.graphs[number] = self._world.graphs[graph.value]
        executable._obj.value = number
        self._world.took(0, "graph")
        return self._code("instantiate")

    def cuGraphUpload(self, executable: Any, stream: Any) -> int:
        return self._code("upload")

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        self._world.launched.append(len(self._world.graphs[executable.value]))
        for work in self._world.graphs[executable.value]:
            self._world.streams[stream.value].put(work)
        return self._code("launch")

    def cuGraphDestroy(self, graph: Any) -> int:
        del self._world.graphs[graph.value]
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        del self._world.graphs[executable.value]
        self._world.note("-graph")
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_FAKE"
        return 0


class Port:
    """A tensor's enumeration values, as text."""

    INPUT, OUTPUT = "INPUT", "OUTPUT"


class Context:
    """An execution context as 8.6 has it."""

    def __init__(self, world: World, shape: tuple[int, int, int]) -> None:
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
        """The network of `bright.py`, for every class."""
        classes, rows, cols = self.shape
        picture = np.ctypeslib.as_array((ctypes.c_uint8 * (rows * cols)).from_address(self.addresses[FRAMES]))
        maps = np.ctypeslib.as_array((ctypes.c_uint8 * (classes * rows * cols)).from_address(self.addresses[MAP]))
        logits = (picture.astype(np.float64) - CENTRE) * SLOPE
        levels = np.round(255 / (1 + np.exp(-logits)))
        maps.reshape(classes, -1)[:] = levels[::-1] if self.world.is_miscompiled else levels
        peak = self.world.engine_peak if self.world.engine_peak is not None else logits.max()
        ctypes.c_float.from_address(self.addresses[PEAK]).value = peak

    def __del__(self) -> None:
        self.world.note("-execution")


class NewContext(Context):
    """As 10 and 11 have it."""

    def set_device_memory(self, address: int, size: int) -> None:
        assert size == 1000
        self.device_memory = address


def plan_of(classes: int, rows: int, cols: int) -> bytes:
    return b"fake plan %d %d %d" % (classes, rows, cols)


def make_tensorrt(world: World, version: str = "10.3.0") -> Any:
    """What stands for `tensorrt`, as 8.6 or 10 has it."""
    trt = types.ModuleType("tensorrt")
    is_new = int(version.split(".")[0]) >= 10

    class ILogger:
        ERROR, INTERNAL_ERROR = "error", "internal"

    class Engine:
        def __init__(self, shape: tuple[int, int, int]) -> None:
            self.shape, self.num_io_tensors = shape, 3

        def get_tensor_name(self, index: int) -> str:
            return (FRAMES, MAP, PEAK)[index]

        def get_tensor_mode(self, name: str) -> str:
            return Port.INPUT if name == FRAMES else Port.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            classes, rows, cols = self.shape
            return {FRAMES: (1, 1, rows, cols), MAP: (1, classes, rows, cols), PEAK: (1,)}[name]

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
            classes, rows, cols = map(int, plan.split()[2:5])
            return (NewEngine if is_new else OldEngine)((classes, rows, cols))

        def __del__(self) -> None:
            world.note("-runtime")

    trt.__version__ = version
    trt.ILogger, trt.Runtime, trt.TensorIOMode = ILogger, Runtime, Port
    if is_new:
        trt.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user")
    return trt


def install(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0") -> World:
    """Put a GPU with a TensorRT of that version into this machine."""
    world = World()
    driver = make_driver(world)
    monkeypatch.setitem(sys.modules, "pycuda", types.SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(world, version))
    monkeypatch.setattr(cugraph, "open_library", lambda: LibCuda(world))
    return world


def built(monkeypatch: pytest.MonkeyPatch, plan: bytes | None = None) -> list[str]:
    """Stand in for the child process, which no fake reaches; its words are tested with the real library."""
    builds: list[str] = []

    def build_aside(*arguments: object, **_: object) -> bytes:
        builds.append(str(arguments[2]))
        return plan or plan_of(1, 64, 64)

    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    return builds
