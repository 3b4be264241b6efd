"""OpenVINO: the engine for desks, CI and stations without a GPU.

Whatever the file gives (logits or probabilities, NCHW or NHWC, float or uint8 in), the compiled graph takes uint8 frames
and gives a uint8 map per defect class and the largest logit. Input and output memory is made once and shared. Precision lives in
the file: float32 is computed in float32 on every processor, or one station's verdicts would not be another's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ConfigurationError, EngineError
from edge_agent.inference.base import Done, TensorSlot, median_ms
from edge_agent.inference.describe import scaling_doubts
from edge_agent.inference.graph import FRAMES, MAP, PEAK, finish, load_network, read_network
from edge_agent.inference.model import Model
from edge_agent.inference.probe import probe, told
from edge_agent.inference.slots import SlotPool
from edge_agent.inference.unsigned import as_unsigned
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

_WARM_UPS = 3
_POISON = 255
_LOOK_S = 0.05  # a failed inference is noticed so much later: OpenVINO calls nobody back
_MOST_TOLD = 300  # letters of what OpenVINO says of one
AS_WRITTEN = {"INFERENCE_PRECISION_HINT": "f32"}  # or OpenVINO takes bfloat16 by itself where the processor has it
_IN_FLOATS = {"LP_TRANSFORMS_MODE": "NO"}  # of OpenVINO's CPU plugin: Q/DQ pairs stay rounding, between kernels of floats


def load_openvino() -> Any:
    """The library, without its telemetry, which would look up www.google-analytics.com at the first import: a station speaks to the
    addresses in its settings alone. Raises ConfigurationError where it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # "not installed": OpenVINO then does without
    try:
        import openvino
    except ImportError:
        raise ConfigurationError("the engine `cpu` needs OpenVINO. Install it: pip install 'edge-agent[cpu]'") from None
    return openvino


@cache
def the_core() -> Any:
    """OpenVINO's core, the only one of the process, and never destroyed: on processors with large registers the thread that makes
    it is given another stack for signals, which goes with it, and after that on another thread the next signal was SIGSEGV."""
    return load_openvino().Core()


class CpuSegmenter:
    """A compiled model with as many tensor slots as OpenVINO runs requests at once, and one to fill meanwhile."""

    def __init__(self, settings: CpuEngine, model: Model, is_reference: bool = False) -> None:
        ov = load_openvino()
        papers = model.papers
        self.rows, self.cols, self.classes = papers.input.rows, papers.input.cols, tuple(papers.classes)
        self.model_hash = model.hash
        self._ov = ov
        compiled = _compile(settings, model, _IN_FLOATS if is_reference else {})
        self.engine_id = cpu_engine_id(settings.hint, ov.__version__)
        requests = settings.requests or int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.slots = requests + 1
        self._shape = [1, 1, self.rows, self.cols]
        self._requests: list[Any] = []
        self._own: list[Any] = []
        self._adopted: list[tuple[int, int]] = []  # addresses, from and to, of memory that pictures are read from as they lie
        self._sources: dict[int, Any] = {}  # by address: one for each frame slot in it
        self._running: dict[int, tuple[TensorSlot, Done]] = {}  # by the slot's index
        self._starting = threading.Lock()  # over a request's start: until then it tells how the last one ended
        self._closed = threading.Event()
        try:
            pool = SlotPool([self._slot(compiled, index) for index in range(self.slots)])
        except RuntimeError as error:
            raise _unusable(model, error) from None
        self.lease, self.release, self.forgo = pool.lease, pool.release, pool.forgo
        watch = (weakref.ref(self), self._closed)
        threading.Thread(target=_watch, args=watch, name="watch-engine", daemon=True).start()

    def _slot(self, compiled: Any, index: int) -> TensorSlot:
        slot = TensorSlot(
            index,
            np.zeros((self.rows, self.cols), np.uint8),
            np.zeros((len(self.classes), self.rows, self.cols), np.uint8),
            np.zeros(1, np.float32),
        )
        request = compiled.create_infer_request()
        own = self._ov.Tensor(slot.tensor.reshape(self._shape), shared_memory=True)
        request.set_input_tensor(own)
        request.set_output_tensor(0, self._ov.Tensor(slot.maps[None], shared_memory=True))
        request.set_output_tensor(1, self._ov.Tensor(slot.peak, shared_memory=True))
        self._requests.append(request)
        self._own.append(own)
        return slot

    def submit(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        """Start inference; a `source` in adopted memory is read where it lies, any other is copied. Raises EngineError."""
        slot.failure = ""
        slot.peak[0] = np.nan
        slot.maps[:, 0] = _POISON  # with the peak it makes an output that was never written impossible to believe
        request = self._requests[slot.index]
        with contextlib.suppress(RuntimeError):
            request.wait()  # its callback may still be returning; how it failed was told
        try:
            request.set_input_tensor(self._input(slot, source))
            request.set_callback(_finished, (slot, self._running))
            with self._starting:
                self._running[slot.index] = slot, done
                request.start_async()
        except RuntimeError as error:
            self._running.pop(slot.index, None)
            raise EngineError(f"OpenVINO cannot start an inference: {error}") from None

    def _input(self, slot: TensorSlot, source: Pixels) -> Any:
        """OpenVINO's view of the picture. Only what outlives the engine gets one that is kept: it keeps its memory, too."""
        if source is slot.tensor:
            return self._own[slot.index]
        address = source.ctypes.data
        tensor = self._sources.get(address)
        if tensor is None:
            if not any(first <= address and address + source.nbytes <= end for first, end in self._adopted):
                np.copyto(slot.tensor, source)
                return self._own[slot.index]
            tensor = self._sources[address] = self._ov.Tensor(source.reshape(self._shape), shared_memory=True)
        return tensor

    def adopt(self, memory: Pixels) -> None:
        """Pictures in this memory are read where they lie."""
        self._adopted.append((memory.ctypes.data, memory.ctypes.data + memory.nbytes))

    def look_for_failures(self) -> None:
        """Hand over the slots of inferences that have failed since, each with its failure."""
        for index in tuple(self._running):
            with self._starting:
                try:
                    if index in self._running and self._requests:
                        self._requests[index].wait_for(0)
                    continue
                except RuntimeError as error:
                    why = " ".join(str(error).split())[-_MOST_TOLD:]
                slot, done = self._running.pop(index)
            slot.failure, slot.done_ns = f"OpenVINO's inference failed: {why}", time.monotonic_ns()
            done(slot)

    def warm_up(self) -> float:
        """Run every slot a few times; return the median latency in ms. Raises EngineError."""
        return median_ms(self, _WARM_UPS)

    def close(self) -> None:
        """Wait for what is running, then let go of the model."""
        for request in self._requests:
            with contextlib.suppress(RuntimeError):
                request.wait()
        self._closed.set()
        self.look_for_failures()
        with self._starting:  # the watch may still be looking
            self._requests.clear()
        self._sources.clear()


def _finished(userdata: tuple[TensorSlot, dict[int, tuple[TensorSlot, Done]]]) -> None:
    """Called on OpenVINO's thread when a request has ended well. For one that failed nothing is called: see `_watch`."""
    slot, running = userdata
    slot.done_ns = time.monotonic_ns()
    _, done = running.pop(slot.index)
    done(slot)


def _watch(of: weakref.ref[CpuSegmenter], closed: threading.Event) -> None:
    """Until an engine is closed, or nobody has it any more, look for inferences that failed."""
    while not closed.wait(_LOOK_S) and (segmenter := of()) is not None:
        segmenter.look_for_failures()
        del segmenter


def _compile(settings: CpuEngine, model: Model, more: dict[str, str]) -> Any:
    """Return the compiled, finished graph. Raises ConfigurationError for a file that is no usable model."""
    options: dict[str, Any] = {"PERFORMANCE_HINT": settings.hint.upper(), **AS_WRITTEN, **more}
    if settings.threads:
        options["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.requests:
        options["PERFORMANCE_HINT_NUM_REQUESTS"] = settings.requests
    network = as_unsigned(finish(read_network(model), model.papers))
    core = the_core()
    try:
        graph = core.read_model(network.SerializeToString(), b"")
        graph.reshape({FRAMES: [1, 1, model.papers.input.rows, model.papers.input.cols]})
        _require_shapes(graph, model)
        return core.compile_model(graph, "CPU", options)
    except RuntimeError as error:
        raise _unusable(model, error) from None


def _require_shapes(graph: Any, model: Model) -> None:
    """Raise ConfigurationError for a map of another shape: ONNX alone cannot tell every network's."""
    papers = model.papers
    for port, expected in ((MAP, [1, len(papers.classes), papers.input.rows, papers.input.cols]), (PEAK, [1])):
        found = graph.output(port).get_partial_shape()
        if found.is_dynamic or list(found.to_shape()) != expected:
            message = f"the {port.removeprefix('edge_agent.')}'s shape is {found}, expected {expected}."
            raise ConfigurationError([model.problem(message, "mend classes, head, background, layout or rows and cols.")])


def _unusable(model: Model, error: RuntimeError) -> ConfigurationError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line.lstrip("- ") for line in lines if "No conversion rule" in line), lines[-1] if lines else "no reason given")
    remedy = "mend model.yaml, or export the network with other operators or another opset."
    return ConfigurationError([model.problem(f"{model.onnx.name} cannot be used as model.yaml tells it: {told[:300]}.", remedy)])


def open_batch(network: Any, name: str, batch: int, size: tuple[int, int]) -> tuple[str, Callable[[], None]]:
    """The engine's id and what runs `batch` pictures of noise (rows, cols) once and blocks, for measuring. `name` is the
    input's. Raises ConfigurationError."""
    ov = load_openvino()
    core = the_core()
    try:
        graph = core.read_model(as_unsigned(network).SerializeToString(), b"")
        graph.reshape({name: [batch, 1, *size]})
        request = core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", **AS_WRITTEN}).create_infer_request()
    except RuntimeError as error:
        raise ConfigurationError(f"OpenVINO cannot run a batch of {batch}: {str(error).strip()[-200:]}") from None
    random = np.random.default_rng(0)
    for tensor in request.input_tensors:
        tensor.data[...] = random.integers(0, 256, tensor.data.shape).astype(tensor.data.dtype)
    return f"openvino-{ov.__version__.split('-')[0]}/cpu", request.infer


def raw_answer(model: Model, picture: Pixels) -> str:
    """What is wrong with what the bare network gives for a picture (rows, cols) uint8, in words; '' where nothing is."""
    told_input = model.papers.input
    value: npt.NDArray[np.uint8 | np.float32] = picture.reshape(
        [1, 1, *picture.shape] if told_input.layout == "NCHW" else [1, *picture.shape, 1]
    )
    if told_input.dtype == "float32":
        value = value.astype(np.float32) * np.float32(told_input.scale or 1.0) + np.float32(told_input.offset)
    output = model.papers.output
    name = output.peak if output.kind == "map_and_peak" else output.map
    core = the_core()
    try:
        graph = core.read_model(as_unsigned(load_network(model.onnx)).SerializeToString(), b"")
        graph.reshape({told_input.name: list(value.shape)})
        values = core.compile_model(graph, "CPU", AS_WRITTEN)({told_input.name: value})[name]
    except RuntimeError:
        return ""
    return told(np.asarray(values), output.kind)


def cpu_engine_id(hint: str, version: str) -> str:
    """The id of an engine of OpenVINO's; `version` as the library or its package tells it."""
    return f"openvino-{version.split('-')[0]}/cpu/{hint}"


def open_cpu(settings: CpuEngine, model: Model, *, is_reference: bool = False) -> tuple[CpuSegmenter, list[str]]:
    """Return an engine that answered sanely, and what looks doubtful in the model. `is_reference` computes 8 bits in floats,
    an int8 graph exactly as it says. Raises ConfigurationError."""
    segmenter = CpuSegmenter(settings, model, is_reference)
    doubts = list(scaling_doubts(read_network(model), model.papers))
    try:
        return segmenter, doubts + probe(segmenter, model, partial(raw_answer, model))
    except BaseException:
        segmenter.close()
        raise


def examine(model: Model) -> list[str]:
    """Return what looks doubtful in a model; raise ConfigurationError where the network is not what model.yaml says, or does not
    answer sanely. Nothing without OpenVINO."""
    if importlib.util.find_spec("openvino") is None:
        return []
    segmenter, doubts = open_cpu(CpuEngine(hint="latency", requests=1), model)
    segmenter.close()
    return doubts
