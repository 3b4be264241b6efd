"""TensorRT's rows of `benchmark engine`: engines built for it, timed by CUDA events, beside what the GPU could do at most."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.calibration.cost import EIGHT, FLOAT, HALF, Cost, cost_of
from edge_agent.errors import ConfigurationError, EngineError, EngineLost, EngineUnavailable
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt.api import LIBRARIES, Library, load_library
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.network import network_of
from edge_agent.inference.tensorrt.timing import IN_FLIGHT, copied_bytes_per_s, measure_plan

# Operations (2 for a multiplication with its addition) that a multiprocessor does in one clock, by compute capability: float32 on
# CUDA cores (CUDA C++ Programming Guide, "Arithmetic Instructions"); float16 and int8 on tensor cores, dense, from NVIDIA's
# white papers on each architecture. Times multiprocessors and clock they are what the data sheets say, in TFLOPS of float16: T4 65,
# A100 312, A10 125, AGX Orin 43, L4 121, H100 989, RTX 5090 419.
PER_CLOCK = {
    "7.5": (128, 1024, 2048),
    "8.0": (128, 2048, 4096),
    "8.6": (256, 1024, 2048),
    "8.7": (256, 2048, 4096),
    "8.9": (256, 1024, 2048),
    "9.0": (256, 4096, 8192),
    "12.0": (256, 1024, 2048),
}
_SLOW = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
_WORKSPACE_MB, _OPTIMIZATION = 1024, 3
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Peak:
    """What the GPU could do at most, and how that is known. `operations_per_s`: None for a GPU not listed, or without a clock."""

    operations_per_s: dict[str, float] | None
    bytes_per_s: float

    @property
    def source(self) -> str:
        return (
            "operations listed, bytes/s measured by a copy" if self.operations_per_s else "operations not listed, bytes/s measured"
        )


@dataclass(slots=True)
class Meter:
    """The GPU's clocks, power and throttling by NVML; all None where its library is missing or does not answer."""

    pci: str
    seen: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("sm_mhz", "memory_mhz", "power_w", "throttled")))

    def look(self) -> None:
        """Ask now, while the GPU is busy."""
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(self.pci)
            self._ask(pynvml, "sm_mhz", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
            self._ask(pynvml, "memory_mhz", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))
            self._ask(pynvml, "power_w", lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
            self._ask(pynvml, "throttled", lambda: throttling(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
        except pynvml.NVMLError:
            return

    def _ask(self, nvml: Any, name: str, question: Callable[[], Any]) -> None:
        """A Jetson, or a guest, answers some of them only."""
        try:
            self.seen[name] = question()
        except nvml.NVMLError:
            self.seen[name] = None


def throttling(bits: int) -> list[str]:
    """Why the GPU is slower than it could be, in words; nothing where it is not."""
    return [word for bit, word in _SLOW.items() if bits & bit]


def measure_gpu(
    model: Model, graphs: Mapping[str, Any], batches: tuple[int, ...], seconds: float, tell: Tell
) -> Iterator[dict[str, Any]]:
    """Yield a row for each TensorRT library that is here, each precision and each batch; `tell` hears which are missing, and why.

    `graphs` have CALIBRATED_PORTS, by precision."""
    for name in LIBRARIES:
        try:
            library = load_library(name)
            gpu = Gpu()
            yield from _of_library(library, gpu, peak_of(gpu), model, graphs, batches, seconds, tell)
        except EngineError as error:
            tell(f"no rows of {name}: {error}")


def peak_of(gpu: Gpu) -> Peak:
    per_clock = PER_CLOCK.get(gpu.capability)
    clocks = gpu.multiprocessors * gpu.listed_mhz * 1e6
    if per_clock is None or not clocks:  # a guest, or a Jetson, may list no clock
        return Peak(None, copied_bytes_per_s(gpu))
    return Peak({name: each * clocks for name, each in zip((FLOAT, HALF, EIGHT), per_clock, strict=True)}, copied_bytes_per_s(gpu))


def _of_library(
    library: Library,
    gpu: Gpu,
    peak: Peak,
    model: Model,
    graphs: Mapping[str, Any],
    batches: tuple[int, ...],
    seconds: float,
    tell: Tell,
) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="edge-agent-benchmark-") as text:
        for precision, graph in graphs.items():
            file = Path(text) / f"{precision}.onnx"
            file.write_bytes(content := graph.SerializeToString())
            of_precision = model.calibrated(file, hashlib.sha256(content).hexdigest())
            cost = cost_of(graph)
            for batch in batches:
                what = f"{library.name} {precision} batch {batch}"
                try:
                    network, timing = network_of(of_precision, batch), Path(text) / "timing"
                    told = partial(_progress, tell, what)
                    plan = build_aside(network, timing, library.name, _WORKSPACE_MB, _OPTIMIZATION, told)
                    tell(f"{what}: measuring")
                    row = _row(library, gpu, peak, plan, cost, batch, seconds)
                except EngineLost:
                    raise
                except EngineUnavailable as error:  # 8.x knows no float16; memory that is too small is so for larger batches too
                    tell(f"no row of {what} or more: {error}")
                    break
                except (EngineError, ConfigurationError) as error:
                    tell(f"no row of {what}: {error}")
                    continue
                yield {"model": model.papers.name, "precision": precision, "batch": batch, **row}


def _progress(tell: Tell, what: str, at: str) -> None:
    if at:
        tell(f"{what}: building, {at}")


def _row(library: Library, gpu: Gpu, peak: Peak, plan: bytes, cost: Cost, batch: int, seconds: float) -> dict[str, Any]:
    meter = Meter(gpu.pci)
    timed = measure_plan(gpu, library, plan, batch, seconds, meter.look)
    p50, p99 = np.quantile(timed.latency_ms, (0.5, 0.99))
    least_ms = 1e3 * cost.least_s(batch, peak.operations_per_s, peak.bytes_per_s) if peak.operations_per_s else None
    return {
        "engine": f"{library.name}-{library.version}/{gpu.name}",
        "in_flight": IN_FLIGHT,
        "images_per_s": round(timed.images_per_s, 2),
        "latency_p50_ms": round(float(p50), 4),
        "latency_p99_ms": round(float(p99), 4),
        "gop_per_s": round(timed.images_per_s * sum(cost.operations.values()) / 1e9, 2),
        "h2d_ms": round(timed.h2d_ms, 4),
        "compute_ms": round(timed.compute_ms, 4),
        "d2h_ms": round(timed.d2h_ms, 4),
        "graph_nodes": timed.graph_nodes,
        "roofline_ms": round(least_ms, 5) if least_ms is not None else None,
        "roofline_share": round(least_ms / timed.compute_ms, 4) if least_ms is not None and timed.compute_ms else None,
        "peak": peak.source,
        "peak_gbytes_per_s": round(peak.bytes_per_s / 1e9, 1),
        "peak_gop_per_s": {name: round(each / 1e9) for name, each in (peak.operations_per_s or {}).items()},
        **meter.seen,
    }
