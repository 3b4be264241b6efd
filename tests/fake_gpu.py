"""A GPU at the lowest call: `pycuda.driver`, and libcuda in `fake_libcuda.py`, with memory that is really there.

Work put into a stream waits until somebody synchronises or, unless the world holds it, asks an event. Every allocation and every
release is written down; what is used after its release raises. As with pycuda, a thread that ends with a context pushed ends the
process (here, the test), and what is released without its context, or in a broken one, is lost.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_libcuda import LibCuda
from fake_tensorrt import make_tensorrt, plan_of

from edge_agent.inference import tensorrt
from edge_agent.inference.tensorrt import cugraph, pagelock


class Error(Exception):
    """pycuda.driver.Error."""


class MemoryError_(Error):
    """pycuda.driver.MemoryError."""


class Stack:
    """The contexts of one thread, innermost last."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    def __del__(self) -> None:
        if self.contexts and not sys.is_finalizing():
            raise AssertionError("pycuda aborts the process: a thread ended with its context pushed")


class Threads(threading.local):
    """Each thread's own stack, which goes when it ends."""

    def __init__(self) -> None:
        self.stack = Stack()


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
        self.pushed = 0  # contexts, on any thread
        self.retained = 0  # of the primary context
        self.threads = Threads()
        self.locked: dict[int, int] = {}  # address and size of others' memory
        self.builds: list[dict[str, Any]] = []  # what builders were asked for
        self.kernels = 1  # nodes for one inference
        self.numbers = itertools.count(1)
        self.broken: Exception | None = None
        self.engine_peak: float | None = None
        self.is_miscompiled = False  # maps come upside down
        self.loses_maps = False  # the peak alone is written
        self.clock_ms = 0.0  # the GPU's own

    def note(self, what: str) -> None:
        self.log.append(what)

    def tripped(self, name: str) -> None:
        if name in self.fail:
            raise self.fail[name]

    def took(self, size: int, what: str) -> None:
        assert self.current() is not None, f"{what} is made without a context"
        self.allocations += 1
        if self.used + size > self.memory_limit:
            raise MemoryError_("cuMemAlloc failed: out of memory")
        self.used += size
        self.note(f"+{what}")

    def current(self) -> Any:
        """This thread's context."""
        contexts = self.threads.stack.contexts
        return contexts[-1] if contexts else None

    def gone(self, what: str) -> None:
        """Of an object whose destructor runs."""
        if sys.is_finalizing():
            return
        assert self.broken is None, f"{what} is released in a broken context"
        assert self.current() is not None, f"{what} is released without its context, which leaks it"
        self.note(f"-{what}")


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
        self.world.gone("stream")


class Event:
    def __init__(self, world: World) -> None:
        self.world, self.done, self.stream, self.passed_ms = world, True, None, 0.0
        world.took(0, "event")

    def record(self, stream: Stream) -> None:
        self.done, self.stream = False, stream
        stream.put(self._pass)

    def _pass(self) -> None:
        self.done, self.passed_ms = True, self.world.clock_ms

    def time_since(self, earlier: Event) -> float:
        return self.passed_ms - earlier.passed_ms

    def query(self) -> bool:
        if self.world.broken is not None:
            raise self.world.broken
        if not self.world.holds and self.stream is not None:
            self.stream.run()
        return self.done

    def __del__(self) -> None:
        self.world.gone("event")


class Memory:
    """Device or host memory; an address is a real one."""

    def __init__(self, world: World, size: int, what: str) -> None:
        self.is_freed = True  # until it is there
        world.took(size, what)
        self.world, self.what, self.size = world, what, size
        self.bytes = (ctypes.c_uint8 * max(1, size))()
        self.address = ctypes.addressof(self.bytes)
        self.is_freed = False
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (self.address, False), "version": 3}

    def free(self) -> None:
        assert not self.is_freed, f"{self.what} is freed twice"
        self.is_freed = True
        self.world.gone(self.what)
        self.world.used -= self.size

    def __del__(self) -> None:
        if not self.is_freed and not sys.is_finalizing():
            self.free()

    def get_device_pointer(self) -> int:
        return self.address

    def __int__(self) -> int:
        assert not self.is_freed
        return self.address


def make_driver(world: World) -> Any:
    """What stands for `pycuda.driver`."""
    driver = types.ModuleType("pycuda.driver")

    class Context:
        def __init__(self) -> None:
            self.thread, self.is_valid = threading.get_ident(), True
            world.retained += 1

        def push(self) -> None:
            world.tripped("push")
            world.threads.stack.contexts.append(self)
            world.pushed += 1
            world.note("+context")

        @staticmethod
        def pop() -> None:
            world.tripped("pop")
            if world.current() is None:
                raise Error("context::pop failed: invalid device context - cannot pop non-current context")
            world.threads.stack.contexts.pop()
            world.pushed -= 1
            world.note("-context")

        @staticmethod
        def synchronize() -> None:
            assert world.current() is not None
            if world.broken is not None:
                raise world.broken

        def detach(self) -> None:
            if not self.is_valid:
                raise Error("context::detach failed: invalid device context - cannot detach from invalid context")
            self.is_valid = False
            if self.thread == threading.get_ident():  # elsewhere it leaks, and pycuda says nothing
                world.retained -= 1
                world.note("detach")

        def __del__(self) -> None:
            if self.is_valid:
                self.detach()

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        count = staticmethod(lambda: world.fail.get("devices", 1))
        name = staticmethod(lambda: "Fake T4")
        compute_capability = staticmethod(lambda: (7, 5))
        get_attribute = staticmethod(lambda name: {18: int(world.integrated), 16: 40, 13: 1_590_000}[name])
        pci_bus_id = staticmethod(lambda: "0000:00:1E.0")

        def retain_primary_context(self) -> Context:
            world.tripped("retain")
            return Context()

    def copy(target: int, source: int, size: int) -> Callable[[], None]:
        """It takes 1 ms for 10 MB."""

        def work() -> None:
            ctypes.memmove(target, source, size)
            world.clock_ms += size / 1e7

        return work

    def on_device(target: int, source: int, size: int, stream: Stream) -> None:
        """It takes 1 ms for 150 MB, read and written: 300 GB/s. Nothing is copied."""

        def work() -> None:
            assert target and source
            world.clock_ms += size / 1.5e8

        stream.put(work)

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

    driver.Error, driver.MemoryError = Error, MemoryError_
    driver.init = lambda: world.tripped("init")
    driver.Device, driver.Context = Device, Context
    driver.Stream = lambda flags=0: Stream(world, flags)
    driver.Event = lambda flags=0: Event(world)
    driver.event_flags = types.SimpleNamespace(DISABLE_TIMING=2)
    driver.device_attribute = types.SimpleNamespace(INTEGRATED=18, MULTIPROCESSOR_COUNT=16, CLOCK_RATE=13)
    driver.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    driver.mem_alloc = lambda size: Memory(world, size, "device")
    driver.pagelocked_empty = pagelocked
    driver.memcpy_dtod_async = on_device
    driver.memcpy_htod_async, driver.memcpy_dtoh_async, driver.memset_d32_async = to_device, to_host, memset
    driver.get_driver_version = lambda: 13000
    driver.mem_get_info = lambda: (world.memory_limit - world.used, world.memory_limit)
    return driver


def install(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0") -> World:
    """Put a GPU with a TensorRT of that version into this machine."""
    world = World()
    driver = make_driver(world)
    monkeypatch.setitem(sys.modules, "pycuda", types.SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(world, version))
    monkeypatch.setattr(cugraph, "open_library", lambda *_: LibCuda(world))
    for name, empty in (("_users", {}), ("_others", set())):
        monkeypatch.setattr(pagelock, name, empty)
    return world


def built(monkeypatch: pytest.MonkeyPatch, plan: bytes | None = None) -> list[str]:
    """Stand in for the child process, which no fake reaches; its words are tested with the real library."""
    builds: list[str] = []

    def build_aside(*arguments: object, **_: object) -> bytes:
        builds.append(str(arguments[2]))
        return plan or plan_of(1, 64, 64)

    monkeypatch.setattr(tensorrt, "build_aside", build_aside)
    return builds
