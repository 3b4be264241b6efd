"""TensorRT 8.5 to 11 and TensorRT-RTX behind one set of functions: what differs between them stands here and nowhere else.

Precision is the ONNX file's own: explicit quantise and dequantise nodes, float16 weights. A library that types networks strongly
is asked to; 8.x cannot, and gets the flags for what the file holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import ConfigurationError, EngineError, EngineUnavailable

LIBRARIES = ("tensorrt", "tensorrt_rtx")
_OLDEST = (8, 5)  # the first with uint8 tensors, addresses by name and execute_async_v3
_STRONG = (10, 0)
_MORE_MEMORY = ("out of memory", "outofmemory", "cuda failure: 2", "insufficient workspace", "memory allocation")
_OLD_DRIVER = ("driver version is insufficient", "driver is too old", "forward compat", "system driver", "cuda failure: 35")
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
        except (ImportError, OSError) as error:  # a missing libcuda or libnvdla shows as either
            tried.append(f"{name}: {error}")
            continue
        library = Library(module, name, str(module.__version__))
        if not library.is_rtx and library.numbers < _OLDEST:
            raise EngineUnavailable(
                f"TensorRT {library.version} is too old, {_OLDEST[0]}.{_OLDEST[1]} is the oldest that can be used. "
                "Install a newer one, or set engine: {kind: cpu}."
            )
        return library
    raise EngineUnavailable(
        f"no TensorRT can be imported ({'; '.join(tried)}). Install it: on a Jetson make the virtual environment with "
        "--system-site-packages, elsewhere pip install 'edge-agent[gpu]' or 'edge-agent[rtx]'; or set engine: {kind: cpu}."
    )


def _import(name: str) -> Any:
    if name == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx

    return tensorrt_rtx


def make_log(library: Library) -> Any:
    """A logger for the library's objects, which keeps their last errors in `errors`; it must outlive them."""
    base = library.module.ILogger

    class Log(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.ERROR, base.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def told(log: Any, otherwise: str) -> str:
    """The library's last errors in one line."""
    return " / ".join(str(line).strip() for line in list(log.errors)[-3:])[:600] or otherwise


def _sorted_out(why: str, otherwise: type[EngineError] | type[ConfigurationError]) -> Exception:
    """The error that a message of the library means: memory and drivers may come, a graph it cannot build never will."""
    lower = why.lower()
    if any(word in lower for word in _MORE_MEMORY):
        return EngineUnavailable(f"the GPU has too little free memory: {why} End what else uses it, or lower engine.workspace_mb.")
    if any(word in lower for word in _OLD_DRIVER):
        return EngineUnavailable(f"the NVIDIA driver is too old for this TensorRT: {why} Update the driver and restart.")
    return otherwise(why)


# --- building ---------------------------------------------------------------------------------------------------------
def build_plan(
    library: Library, onnx: bytes, options: BuildOptions, timing: bytes = b"", phase: Phase | None = None
) -> tuple[bytes, bytes]:
    """Return a serialised engine and the timing cache, as much as the library keeps one. Takes seconds to many minutes.

    Raises ConfigurationError for a network it cannot build, EngineUnavailable where memory or driver do not suffice."""
    trt, log = library.module, make_log(library)
    builder = _checked(trt.Builder(log), log)
    network = builder.create_network(_network_flags(library))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        whys = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise ConfigurationError(
            f"{library.name} {library.version} cannot read the network: {whys or told(log, 'no reason given')}."
        )
    config = builder.create_builder_config()
    _configure(library, config, onnx, options)
    if phase is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(library, phase)
    cache = None
    if not library.is_rtx:
        cache = config.create_timing_cache(timing)
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = told(log, "no reason given")
        raise _sorted_out(f"{library.name} {library.version} cannot build the network: {why}.", ConfigurationError)
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def _checked(value: Any, log: Any) -> Any:
    if value is None:
        raise _sorted_out(told(log, "TensorRT gave no reason."), EngineUnavailable)
    return value


def _network_flags(library: Library) -> int:
    flags = library.module.NetworkDefinitionCreationFlag
    if not library.is_strong:
        return 1 << int(flags.EXPLICIT_BATCH)
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _configure(library: Library, config: Any, onnx: bytes, options: BuildOptions) -> None:
    trt = library.module
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 means the same on every GPU
    if hasattr(config, "builder_optimization_level"):  # since 8.6
        config.builder_optimization_level = options.optimization
    if not library.is_strong:
        for flag in _weak_flags(onnx):
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if library.is_rtx:
        if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # without it a stream with its work cannot be captured
        config.num_compute_capabilities = len(options.capabilities) or 1
        names = [f"SM{each.replace('.', '')}" for each in options.capabilities] or ["CURRENT"]
        for place, name in enumerate(names):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), place)


def _weak_flags(onnx: bytes) -> list[str]:
    """What 8.x may compute in, from what the file holds."""
    import onnx as onnx_library

    network = onnx_library.load_from_string(onnx)
    is_quantised = any(node.op_type == "QuantizeLinear" for node in network.graph.node)
    is_half = any(each.data_type == onnx_library.TensorProto.FLOAT16 for each in network.graph.initializer)
    return (["INT8"] if is_quantised else []) + (["FP16"] if is_quantised or is_half else [])


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
    runtime = _checked(library.module.Runtime(log), log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        why = told(log, "no reason given")
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


def make_context(library: Library, engine: Any) -> tuple[Any, int, Callable[[int], None]]:
    """Return an execution context, the bytes of device memory it needs, and the function that gives it their address."""
    trt = library.module
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is None:
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
