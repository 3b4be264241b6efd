"""TensorRT 8.5 to 11 and TensorRT-RTX behind one set of functions: what differs between them stands here and nowhere else.

Precision is the ONNX file's own: explicit quantise and dequantise nodes, float16 weights. A library that types networks strongly
is asked to; 8.x cannot: it gets the flags for a file that quantises, and no file of float16.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import ConfigurationError, EngineError, EngineUnavailable

LIBRARIES = ("tensorrt", "tensorrt_rtx")
_OLDEST = (8, 5)  # the first with uint8 tensors, addresses by name and execute_async_v3
_STRONG = (10, 0)
_COMPLETE = (10, 12)  # NVIDIA's own word for where strong typing knows every operator in float16 and int8
_CUDA_CODE = re.compile(r"cuda (?:initialization )?failure(?: with error)?:? (\d+)")  # a CUresult or cudaError, 8.x to 11
_MORE_WORKSPACE = ("insufficient workspace", "increasing the workspace")  # for any kernel: the limit's doing, or the GPU's
_MORE_MEMORY = ("out of memory", "outofmemory", "memory allocation")
_NO_KERNEL = "could not find any implementation"
_SKIPPED = re.compile("memory is insufficient|insuff?icient memory|memory allocation error")  # 8.x misspells it
_OLD_DRIVER = ("driver version is insufficient", "driver is too old", "forward compat")
_OTHER_GPU = (
    "is not supported by this tensorrt",
    "does not support this compute capability",
    "compute capability is invalid or not supported",
)
_MIXED_DRIVER = ("system driver", "unsupported display driver")
_MEMORY_CODES, _OLD_CODES, _MIXED_CODES = ("2",), ("35", "804"), ("803",)
_NOT_THE_NETWORK = ("cuda runtime (", "cuda driver (", "cuda_error_", "unable to load library", "launch failure", "timed out")
_NO_DEVICE_CODES = ("3", "46", "100", "101", "999")  # not initialised, taken by another, none, none such, unknown
_NEEDS_COMPLETE = (
    f"Networks of float16, and of int8 beside it, need TensorRT {_COMPLETE[0]}.{_COMPLETE[1]}: update it, or use the float32 model"
)
_NO_REASON = "no reason given"
_OR_INT8 = " or `int8` of edge-agent calibrate."
Phase = Callable[[str, int, int], None]  # what the builder is at: its name, steps done, steps in all


@dataclass(frozen=True, slots=True)
class Library:
    """One of the two libraries, imported. `name` is its module's, `version` as it tells it."""

    module: Any
    name: str
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(word) for word in self.version.split(".")[:2])

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    @property
    def is_strong(self) -> bool:
        """Networks are typed by their file alone."""
        return self.is_rtx or self.numbers >= _STRONG


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a build is asked for. `capabilities`, such as "8.9", lets TensorRT-RTX build for GPUs that are not here."""

    workspace_mb: int = 1024
    optimization: int = 3
    capabilities: tuple[str, ...] = ()


def load_library(wanted: str = "auto") -> Library:
    """Import the library asked for, or the first there is. Raises EngineUnavailable with the remedy."""
    tried = []
    for name in LIBRARIES if wanted == "auto" else (wanted,):
        try:
            module = _import(name)
            library = Library(module, name, str(module.__version__))
        except (ImportError, OSError, AttributeError) as error:  # no libcuda or libnvdla; a folder that an uninstallation left
            tried.append(f"{name}: {error}")
            continue
        if not library.is_rtx and library.numbers < _OLDEST:
            raise EngineUnavailable(
                f"TensorRT {library.version} is too old, {_OLDEST[0]}.{_OLDEST[1]} is the oldest that can be used. "
                "Install a newer one, or set engine: {kind: cpu}."
            )
        return library
    raise EngineUnavailable(
        f"no TensorRT can be imported ({'; '.join(tried)}). Install it (docs/gpu.md, Installing): on a Jetson make the virtual "
        "environment with --system-site-packages, elsewhere pip install tensorrt-cu12, or 'edge-agent[rtx]' for an RTX GPU; or set "
        "engine: {kind: cpu}."
    )


def _import(name: str) -> Any:
    if name == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx

    return tensorrt_rtx


def make_log(library: Library) -> Any:
    """A logger for the library's objects, which keeps their last `errors` and `warnings`; it must outlive them."""
    base = library.module.ILogger

    class Log(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)
            self.warnings: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.ERROR, base.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == base.WARNING:
                self.warnings.append(message)

    return Log()


def told(log: Any, otherwise: str) -> str:
    """The library's last errors in one line."""
    return _in_one_line(log.errors) or otherwise


def _in_one_line(lines: Iterable[str]) -> str:
    return " / ".join(str(line).strip() for line in list(lines)[-3:])[:600]


def _sorted_out(why: str, otherwise: type[EngineError] | type[ConfigurationError]) -> Exception:
    """The error that a message of the library means: memory and drivers may come, a graph it cannot build never will."""
    lower = why.lower()
    codes = _CUDA_CODE.findall(lower)

    def means(words: tuple[str, ...], numbers: tuple[str, ...]) -> bool:
        return any(word in lower for word in words) or any(code in numbers for code in codes)

    if means(_MORE_WORKSPACE, ()):
        return EngineUnavailable(
            f"the builder has too little workspace: {why} Raise engine.workspace_mb, or end what else uses the GPU."
        )
    if means(_MORE_MEMORY, _MEMORY_CODES):
        return _too_little_memory(why)
    if means(_OLD_DRIVER, _OLD_CODES):
        return EngineUnavailable(f"the NVIDIA driver is too old for this TensorRT: {why} Update the driver and restart.")
    if means(_MIXED_DRIVER, _MIXED_CODES):
        return EngineUnavailable(
            f"the NVIDIA driver and its libraries are of two versions: {why} Restart the machine; if that does not help, "
            "install the driver again."
        )
    if means(_OTHER_GPU, ()):
        return EngineUnavailable(
            f"this TensorRT is not for this GPU: {why} Install one that supports it (docs/gpu.md), or set engine: {{kind: cpu}}."
        )
    if means(("no cuda-capable device",), _NO_DEVICE_CODES):
        return EngineUnavailable(f"there is no NVIDIA GPU that can be used: {why} Look at `nvidia-smi`.")
    if codes or any(word in lower for word in _NOT_THE_NETWORK):
        return EngineUnavailable(
            f"the GPU or its libraries failed: {why} Look at `nvidia-smi` and `dmesg`, or install TensorRT again."
        )
    return otherwise(why)


def _too_little_memory(why: str) -> EngineUnavailable:
    return EngineUnavailable(f"the GPU has too little free memory: {why} End what else uses it, or lower engine.workspace_mb.")


def _made(library: Library, log: Any, make: Callable[[], Any]) -> Any:
    """Return what `make` made. Where the library made nothing its constructors raise TypeError, its methods return None, and the
    reason is in the log alone, often as a warning. Raises EngineUnavailable."""
    why = "it gave no reason"
    try:
        made = make()
    except (TypeError, RuntimeError) as error:
        made, why = None, str(error)
    if made is None:
        why = told(log, "") or _in_one_line(log.warnings) or why
        raise _sorted_out(f"{library.name} {library.version} cannot begin: {why}.", EngineUnavailable)
    return made


# --- building ---------------------------------------------------------------------------------------------------------
def build_plan(
    library: Library, onnx: bytes, options: BuildOptions, timing: bytes = b"", phase: Phase | None = None
) -> tuple[bytes, bytes]:
    """Return a serialised engine and the timing cache, as much as the library keeps one. Takes seconds to many minutes.

    Raises ConfigurationError for a network it cannot build, EngineUnavailable where memory, driver or version do not suffice."""
    trt, log = library.module, make_log(library)
    flags = [] if library.is_strong else _weak_flags(library, onnx)
    builder = _made(library, log, lambda: trt.Builder(log))
    network = _made(library, log, lambda: builder.create_network(_network_flags(library)))
    parser = _made(library, log, lambda: trt.OnnxParser(network, log))
    if not parser.parse(onnx):
        whys = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise _refused(library, onnx, "read", whys or told(log, _NO_REASON))
    config = _made(library, log, builder.create_builder_config)
    _configure(library, config, flags, options)
    if phase is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(library, phase)
    cache = None
    if not library.is_rtx:
        cache = _begun_cache(config, timing)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(library, onnx, "build", told(log, _NO_REASON), log.warnings)
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def _begun_cache(config: Any, timing: bytes) -> Any:
    """Set and return a timing cache: the stored one, an empty one where that is damaged or foreign, None where neither is taken."""
    for stored in (timing, b"") if timing else (b"",):
        cache = config.create_timing_cache(stored)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _refused(library: Library, onnx: bytes, verb: str, why: str, warnings: Iterable[str] = ()) -> Exception:
    """The error for a network that the library cannot `verb`: of a later version's types it may be the library that is to blame.

    Reading needs no GPU: what is said there of one that is missing or too old is not why. A builder passes over kernels that need
    more memory than is free, which it but warns of, and in the end has none.
    """
    said = f"{library.name} {library.version} cannot {verb} the network: {why}."
    if _NO_KERNEL in why.lower() and (skipped := [each for each in warnings if _SKIPPED.search(each.lower())]):
        return _too_little_memory(f"{said} {_in_one_line(skipped[-1:])}.")
    otherwise = EngineUnavailable if why == _NO_REASON else ConfigurationError
    meant = ConfigurationError(said) if verb == "read" else _sorted_out(said, otherwise)
    if isinstance(meant, ConfigurationError) and not library.is_rtx and library.numbers < _COMPLETE and any(_types(onnx)):
        return EngineUnavailable(f"{said} {_NEEDS_COMPLETE}.")
    return meant


def _network_flags(library: Library) -> int:
    flags = library.module.NetworkDefinitionCreationFlag
    if not library.is_strong:
        return 1 << int(flags.EXPLICIT_BATCH)
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _configure(library: Library, config: Any, flags: list[str], options: BuildOptions) -> None:
    trt = library.module
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means the same on every GPU
    if hasattr(config, "builder_optimization_level"):  # since 8.6
        config.builder_optimization_level = options.optimization
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if library.is_rtx:
        if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # without it a stream with its work cannot be captured
        config.num_compute_capabilities = len(options.capabilities) or 1
        names = [f"SM{each.replace('.', '')}" for each in options.capabilities] or ["CURRENT"]
        for place, name in enumerate(names):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), place)


def _weak_flags(library: Library, onnx: bytes) -> list[str]:
    """What 8.x may compute in: a quantised file in int8, and in float16 what it leaves in floats. Raises EngineUnavailable."""
    is_quantised, is_half = _types(onnx)
    if is_half:
        raise EngineUnavailable(
            f"{library.name} {library.version} builds no network with float16 in its file. {_NEEDS_COMPLETE}{_OR_INT8}"
        )
    if _has_axes_as_input(onnx):  # it would not look at them, and give the maximum of everything
        raise EngineUnavailable(
            f"{library.name} {library.version} takes opset 17 at most. Export the network with that, or update it."
        )
    return ["INT8", "FP16"] if is_quantised else []


def _types(onnx: bytes) -> tuple[bool, bool]:
    """Does the file quantise, does it hold float16?"""
    import onnx as onnx_library

    graph, half = onnx_library.load_from_string(onnx).graph, onnx_library.TensorProto.FLOAT16
    casts = any(each.name == "to" and each.i == half for node in graph.node if node.op_type == "Cast" for each in node.attribute)
    is_half = casts or any(each.data_type == half for each in graph.initializer)
    return any(node.op_type == "QuantizeLinear" for node in graph.node), is_half


def _has_axes_as_input(onnx: bytes) -> bool:
    """Is a maximum taken over axes that the graph itself computes or holds, as from opset 18 on?"""
    import onnx as onnx_library

    nodes = onnx_library.load_from_string(onnx).graph.node
    return any(node.op_type == "ReduceMax" and len(node.input) > 1 for node in nodes)


def _monitor(library: Library, phase: Phase) -> Any:
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps
            phase(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phase(phase_name, step + 1, self._steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


# --- running ----------------------------------------------------------------------------------------------------------
def load_engine(library: Library, log: Any, plan: bytes) -> tuple[Any, Any]:
    """Return runtime and engine; the runtime must outlive the engine. Raises EngineError where the plan is not for this GPU."""
    runtime = _made(library, log, lambda: library.module.Runtime(log))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        why = told(log, _NO_REASON)
        raise _sorted_out(f"{library.name} {library.version} does not take the engine: {why}.", EngineError)
    return runtime, engine


def ports_of(library: Library, engine: Any) -> dict[str, tuple[bool, tuple[int, ...], str]]:
    """Of every tensor by its name: is it an input, its shape, its type's name."""
    ports = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == library.module.TensorIOMode.INPUT
        dtype = str(engine.get_tensor_dtype(name)).rpartition(".")[2]
        ports[name] = (is_input, tuple(int(size) for size in engine.get_tensor_shape(name)), dtype)
    return ports


def enqueue(context: Any, stream: int, log: Any) -> None:
    """Put an inference into the stream. Raises EngineUnavailable where memory lacks, as for kernels that are loaded by the first
    one; EngineError."""
    if context.execute_async_v3(stream):
        return
    said = f"TensorRT refused to enqueue an inference: {told(log, 'it gave no reason')}"
    if any(word in said.lower() for word in _MORE_MEMORY):
        raise EngineUnavailable(f"{said}. The GPU has too little free memory: end what else uses it, or lower engine.slots.")
    raise EngineError(said)


def make_context(library: Library, engine: Any, log: Any) -> tuple[Any, int, Callable[[int], None]]:
    """Return an execution context, the bytes of device memory it needs, and the function that gives it their address.

    Raises EngineUnavailable."""
    trt = library.module
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is None:
        if why := told(log, ""):
            raise _sorted_out(f"TensorRT could not make an execution context: {why}.", EngineUnavailable)
        raise EngineUnavailable(
            "TensorRT could not make an execution context: the GPU has too little free memory. Lower engine.slots."
        )
    size = int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)

    def attach(address: int) -> None:
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(address, size)
        else:
            context.device_memory = address

    return context, size, attach
