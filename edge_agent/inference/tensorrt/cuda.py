"""One GPU through pycuda: its primary context, streams, events and memory. Nothing but this file imports pycuda.

The primary context is the one that TensorRT uses too. `push` it on the one thread that will call the rest.
"""

from __future__ import annotations

import contextlib
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from edge_agent.errors import EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.tensorrt import cugraph, pagelock
from edge_agent.records import Pixels

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: nothing waits for the legacy stream
_ALL_BITS = 0xFFFFFFFF
_NO_DEVICE = ("no cuda-capable device", "no device", "not initialized", "unknown error")
_OLD_DRIVER = ("insufficient", "forward compat")
_MIXED_DRIVER = ("unsupported display driver", "driver mismatch", "version mismatch")
_T = TypeVar("_T")
# All engines share one context, and waiting for it spoils another thread's capture, whatever its mode.
_CAPTURING = threading.Lock()


class Gpu:
    """A device by its number, known but without a context until `push`."""

    def __init__(self, index: int = 0) -> None:
        """Raises EngineUnavailable, with the remedy, where pycuda, the driver or the device is missing."""
        try:
            import pycuda.driver as driver
        except (ImportError, OSError) as error:
            raise _not_imported(str(error)) from None
        self._driver = driver
        try:
            driver.init()
            count = driver.Device.count()
            if index >= count:
                raise EngineUnavailable(f"engine.device is {index}, this machine has {count} NVIDIA GPUs. Name one of them.")
            self._device = driver.Device(index)
            self.name: str = self._device.name()
            self.capability = "{}.{}".format(*self._device.compute_capability())
            self.is_integrated = bool(self._device.get_attribute(driver.device_attribute.INTEGRATED))
            self.pci = str(self._device.pci_bus_id())
            self.multiprocessors = int(self._device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT))
            self.listed_mhz = self._device.get_attribute(driver.device_attribute.CLOCK_RATE) / 1e3
        except driver.Error as error:
            raise _absent(str(error)) from None
        self.driver_version = f"{driver.get_driver_version()}{_kernel_driver()}"
        self.Error: type[Exception] = driver.Error
        self._context: Any = None
        self._graphs: Any = None

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Turn pycuda's errors into EngineUnavailable for want of memory, EngineError for the rest."""
        try:
            yield
        except self._driver.MemoryError as error:
            raise EngineUnavailable(
                f"{what}: the GPU {self.name} has too little free memory ({error}). End what else uses it, or lower engine.slots."
            ) from None
        except self._driver.Error as error:
            raise EngineError(f"{what}: {error}") from None

    def push(self) -> None:
        """Make the primary context this thread's. Raises EngineUnavailable: another process may have the GPU for itself."""
        with self.translated("the GPU's context"):
            try:
                context = self._device.retain_primary_context()
                context.push()
            except self._driver.MemoryError:
                raise
            except self._driver.Error as error:
                raise _absent(str(error)) from None
        self._context = context

    def settle(self) -> None:
        """Wait for everything in the context, where there is one. Raises pycuda's error where an earlier one broke it: nothing in
        it can be freed then, and the thread must `park`."""
        if self._context is not None:
            with _CAPTURING:
                self._driver.Context.synchronize()

    def pop(self) -> None:
        """Undo `push`, on the same thread, when everything made since is freed. Where it raises pycuda's error, `park`."""
        if self._context is not None:
            self._driver.Context.pop()
            self._context.detach()
            self._context = None

    # --- made at the start --------------------------------------------------------------------------------------------
    def stream(self) -> Any:
        return self._driver.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        return self._driver.Event(self._driver.event_flags.DISABLE_TIMING)

    def timed_event(self) -> Any:
        """An event whose `time_since(earlier)` tells milliseconds."""
        return self._driver.Event()

    def device_memory(self, size: int) -> Any:
        """`size` bytes on the GPU; `int()` of it is their address, `free()` ends it."""
        return self._driver.mem_alloc(max(1, size))

    def pinned(self, size: int) -> Pixels:
        """(size,) uint8 page-locked host memory; `free_host` ends it."""
        pinned: Pixels = self._driver.pagelocked_empty((size,), np.uint8)
        return pinned

    def mapped(self, size: int) -> tuple[Pixels, int]:
        """Host memory as `pinned` that the GPU reads and writes itself, and its address there."""
        array = self._driver.pagelocked_empty((size,), np.uint8, mem_flags=self._driver.host_alloc_flags.DEVICEMAP)
        return array, int(array.base.get_device_pointer())

    def free_host(self, array: Pixels) -> None:
        array.base.free()  # type: ignore[union-attr]

    def lock(self, memory: Pixels) -> pagelock.Span:
        """Page-lock somebody else's memory, so that copies from it are asynchronous; `unlock` what is returned before it goes.

        Raises EngineError."""
        return pagelock.lock(memory)

    def unlock(self, span: pagelock.Span) -> None:
        """Raises EngineError."""
        pagelock.unlock(span)

    def capture(self, stream: Any, enqueue: Callable[[], None], least_nodes: int) -> cugraph.Graph:
        """See `cugraph.capture`."""
        if self._graphs is None:
            self._graphs = cugraph.open_library()
        with _CAPTURING:
            return cugraph.capture(self._graphs, int(stream.handle), enqueue, least_nodes)

    # --- for each inference -------------------------------------------------------------------------------------------
    def to_device(self, address: int, source: Pixels, stream: Any) -> None:
        self._driver.memcpy_htod_async(address, source, stream)

    def to_host(self, target: Pixels, address: int, stream: Any) -> None:
        self._driver.memcpy_dtoh_async(target, address, stream)

    def on_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy `size` bytes from one address on the GPU to another."""
        self._driver.memcpy_dtod_async(target, source, size, stream)

    def poison(self, address: int, size: int, stream: Any) -> None:
        """Set every bit of `size` bytes, a multiple of 4: as uint8 the highest level, as float32 not a number."""
        self._driver.memset_d32_async(address, _ALL_BITS, size // 4, stream)


# --- threads that have a context --------------------------------------------------------------------------------------
def alone(gpu: Gpu, what: str, work: Callable[[], _T]) -> _T:
    """Return what `work` returns: run, to its end, on a thread of its own that has the GPU's context. Blocks.

    Raises what `work` raises, translated; EngineLost where the context broke, which then stays for as long as the process."""
    found: Future[_T] = Future()

    def run() -> None:
        answer: _T | None = None
        failure: BaseException | None = None
        try:
            with gpu.translated(what):
                gpu.push()
                answer = work()
        except BaseException as error:  # noqa: BLE001  # raised again on the thread that waits for it
            failure = error
        try:
            gpu.settle()
            let_go(failure)
            gpu.pop()
        except gpu.Error as error:
            found.set_exception(EngineLost(f"the GPU is lost: {failure or error}"))
            park()
        if failure is not None:
            found.set_exception(failure)
        else:
            found.set_result(answer)  # type: ignore[arg-type]

    thread = threading.Thread(target=run, name="gpu", daemon=True)
    thread.start()
    try:
        return found.result()
    finally:
        if found.done() and not isinstance(found.exception(), EngineLost):
            thread.join()


def let_go(failure: BaseException | None) -> None:
    """Drop what the frames of a failed call hold, so that it is freed on this thread and now. The traceback keeps its lines."""
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__


def park() -> NoReturn:
    """Never return, on a daemon thread whose context broke. pycuda aborts the process when a thread ends with a context pushed, and
    TensorRT may when it frees what is in a broken one: what the thread's callers hold stays as long as the process."""
    never = threading.Event()
    while True:
        never.wait()


def _not_imported(why: str) -> EngineUnavailable:
    if "undefined symbol" in why:
        return EngineUnavailable(
            f"pycuda does not fit this driver: {why}. Build it again on this machine (pip install --force-reinstall --no-cache-dir "
            "pycuda), or update the NVIDIA driver to the CUDA that it was built with."
        )
    return EngineUnavailable(
        f"the engine `tensorrt` needs pycuda: {why}. Install it: pip install 'edge-agent[gpu]'. Where libcuda.so.1 is "
        "missing, install the NVIDIA driver."
    )


def _absent(why: str) -> EngineUnavailable:
    lower = why.lower()
    if any(word in lower for word in _MIXED_DRIVER):
        return EngineUnavailable(
            f"the NVIDIA driver and its libraries are of two versions: {why}. Restart the machine; if that does not help, "
            "install the driver again."
        )
    if any(word in lower for word in _OLD_DRIVER):
        return EngineUnavailable(f"the NVIDIA driver is too old for this CUDA: {why}. Update the driver and restart the machine.")
    if any(word in lower for word in _NO_DEVICE):
        return EngineUnavailable(
            f"there is no NVIDIA GPU that can be used: {why}. Look at `nvidia-smi`, or set engine: {{kind: cpu}}."
        )
    return EngineUnavailable(f"the NVIDIA GPU cannot be opened: {why}. Look at `nvidia-smi` and the kernel's log.")


def _kernel_driver() -> str:
    """The kernel module's version, where it can be read: an engine is for one driver."""
    for file, pattern in (
        ("/proc/driver/nvidia/version", r"(\d+\.\d+(?:\.\d+)?)"),
        ("/etc/nv_tegra_release", r"(R\d+.*?REVISION: [\d.]+)"),
    ):
        with contextlib.suppress(OSError):
            found = re.search(pattern, Path(file).read_text())
            if found:
                return f"/{found[1]}"
    return ""
