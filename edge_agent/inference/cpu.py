"""OpenVINO: the engine for desks, CI and stations without a GPU.

Whatever the file gives (logits or probabilities, NCHW or NHWC, float or uint8 in), the compiled graph takes uint8 frames
and gives a uint8 map per defect class and the largest logit. Input and output memory is made once and shared.
"""

from __future__ import annotations

import contextlib
import queue
import statistics
import time
from typing import Any

import numpy as np

from edge_agent.errors import ConfigurationError, EngineError
from edge_agent.inference.base import Done, TensorSlot
from edge_agent.inference.graph import finish
from edge_agent.inference.model import Model
from edge_agent.inference.slots import SlotPool
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

_WARM_UPS = 3
_POISON = 255


class CpuSegmenter:
    """A compiled model with as many tensor slots as OpenVINO runs requests at once, and one to fill meanwhile."""

    def __init__(self, settings: CpuEngine, model: Model) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise ConfigurationError("the engine `cpu` needs OpenVINO. Install it: pip install 'edge-agent[cpu]'") from None
        papers = model.papers
        self.rows, self.cols, self.classes = papers.input.rows, papers.input.cols, tuple(papers.classes)
        self.model_hash = model.hash
        self._ov = ov
        compiled = _compile(ov, settings, model)
        self.engine_id = f"openvino-{ov.__version__.split('-')[0]}/cpu/{settings.hint}"
        requests = settings.requests or int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.slots = requests + 1
        self._shape = [1, 1, self.rows, self.cols] if papers.input.layout == "NCHW" else [1, self.rows, self.cols, 1]
        self._requests: list[Any] = []
        self._own: list[Any] = []
        self._sources: dict[int, Any] = {}  # one per frame slot that is handed over as it is
        try:
            pool = SlotPool([self._slot(compiled, index) for index in range(self.slots)])
        except RuntimeError as error:
            raise _unusable(model, error) from None
        self.lease, self.release, self.forgo = pool.lease, pool.release, pool.forgo

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
        """Start inference; `source` other than the slot's own tensor is read where it lies. Raises EngineError."""
        slot.failure = ""
        slot.peak[0] = np.nan
        slot.maps[:, 0] = _POISON  # with the peak it makes an output that was never written impossible to believe
        request = self._requests[slot.index]
        with contextlib.suppress(RuntimeError):
            request.wait()  # its callback may still be returning; a failure was seen by its poison
        try:
            request.set_input_tensor(self._own[slot.index] if source is slot.tensor else self._shared(source))
            request.set_callback(_finished, (slot, done))
            request.start_async()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot start an inference: {error}") from None

    def _shared(self, source: Pixels) -> Any:
        address = source.ctypes.data
        tensor = self._sources.get(address)
        if tensor is None:
            tensor = self._sources[address] = self._ov.Tensor(source.reshape(self._shape), shared_memory=True)
        return tensor

    def warm_up(self) -> float:
        """Run every slot a few times; return the median latency in ms. Raises EngineError."""
        times = []
        for _ in range(_WARM_UPS * self.slots):
            slot = self.lease()
            assert slot is not None, "an engine warms up before anybody uses it"
            finished: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
            began = time.perf_counter()
            self.submit(slot, slot.tensor, finished.put)
            finished.get()
            times.append((time.perf_counter() - began) * 1e3)
            self.release(slot)
            if slot.failure:
                raise EngineError(slot.failure)
        return statistics.median(times)

    def close(self) -> None:
        """Wait for what is running, then let go of the model."""
        for request in self._requests:
            with contextlib.suppress(RuntimeError):
                request.wait()
        self._requests.clear()
        self._sources.clear()


def _finished(userdata: tuple[TensorSlot, Done]) -> None:
    """Called on OpenVINO's thread when a request has ended. One that failed leaves the poison, which nobody believes."""
    slot, done = userdata
    slot.done_ns = time.monotonic_ns()
    done(slot)


def _compile(ov: Any, settings: CpuEngine, model: Model) -> Any:
    """Return the compiled, finished graph. Raises ConfigurationError for a file that is no usable model."""
    options: dict[str, Any] = {"PERFORMANCE_HINT": settings.hint.upper()}
    if settings.threads:
        options["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.requests:
        options["PERFORMANCE_HINT_NUM_REQUESTS"] = settings.requests
    core = ov.Core()
    try:
        graph = finish(ov, core.read_model(str(model.onnx)), model.papers)
        return core.compile_model(graph, "CPU", options)
    except RuntimeError as error:
        raise _unusable(model, error) from None


def _unusable(model: Model, error: RuntimeError) -> ConfigurationError:
    last = str(error).strip().splitlines()[-1][:300]
    return ConfigurationError(f"{model.onnx} cannot be used as model.yaml tells it: {last}")


def examine(model: Model) -> None:
    """Raise ConfigurationError where the network is not what model.yaml says; nothing is compiled. Quiet without OpenVINO."""
    try:
        import openvino as ov
    except ImportError:
        return
    try:
        finish(ov, ov.Core().read_model(str(model.onnx)), model.papers)
    except RuntimeError as error:
        raise _unusable(model, error) from None
