"""The engine's own steps: is it the network, at every precision; does it grow; graph against plain enqueue."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from hooked import HookedEvent
from proving import ROOT, Task, device_mb, host_mb, infer, maps_of, opened, opened_on, pictures, require, run_many

from edge_agent.errors import EdgeAgentError, EngineUnavailable
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.model import CALIBRATED_PORTS, Model
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.network import Network, network_of
from edge_agent.inference.tensorrt.parity import compare
from edge_agent.records import Pixels
from edge_agent.ring import Ring
from edge_agent.settings import CpuEngine

AHEAD = ("7.5", "8.6", "8.9", "12.0")  # compute capabilities
MOST_GROWTH_MB = 16.0  # of host and of device over a whole run: the libraries' own caches
_CALIBRATED_ON = 32  # pictures, where calibrate left no candidates
_PERCENTILE = 99.999
_SAMPLES = 10
_IDLE_S, _KEEP_WARM_MS = 1.0, 50.0


def machine(task: Task) -> str:
    """What is here, in one line; the report's head is made of the sheet."""
    gpu = Gpu(0)
    gpu.push()
    used = device_mb(gpu)
    gpu.pop()
    try:
        found = load_library()
        library = f"{found.name} {found.version}"
    except EngineUnavailable as error:  # the step `engine` tells, and a stand-in may do the rest
        library = f"none: {error}"
    rows = task.sheet("Machine", "what", "is")
    rows += [["GPU", f"{gpu.name}, compute capability {gpu.capability}, {gpu.multiprocessors} multiprocessors"]]
    rows += [["driver", gpu.driver_version], ["library", library]]
    rows += [["memory in use before anything ran", f"{used:.0f} MB"]]
    return f"{gpu.name}, {gpu.capability}, driver {gpu.driver_version}, library {library}"


# --- ahead, without a GPU ---------------------------------------------------------------------------------------------
def built_ahead(task: Task) -> str:
    """The model's network, by TensorRT-RTX, for GPUs that are not here."""
    require("tensorrt_rtx")
    network = network_of(task.model)
    told = [f"{capability} ({_bytes_ahead(task, network, capability)} bytes)" for capability in AHEAD]
    return f"TensorRT-RTX builds for {', '.join(told)}"


def precisions_ahead(task: Task) -> str:
    """Every precision at the smallest and the largest batch that is measured."""
    require("tensorrt_rtx")
    told = []
    for name, model in _precisions(task):
        sizes = [_bytes_ahead(task, network_of(model, batch), AHEAD[0]) for batch in (1, 16)]
        told.append(f"{name} ({sizes[0]} and {sizes[1]} bytes)")
    return f"batches of 1 and 16 for {AHEAD[0]}: {', '.join(told)}"


def _bytes_ahead(task: Task, network: Network, capability: str) -> int:
    timing = task.engines / "ahead.cache"
    return len(build_aside(network, timing, "tensorrt_rtx", 512, 3, lambda _: None, capabilities=(capability,)))


def _precisions(task: Task) -> Iterator[tuple[str, Model]]:
    """The model as it is, and its candidates: calibrate's, or made here of drawn parts."""
    yield "fp32", task.model
    if task.is_stand_in:
        return
    require("onnx", "onnxruntime")
    for name, graph in _candidates(task).items():
        task.engines.mkdir(parents=True, exist_ok=True)
        file = task.engines / f"{name}.onnx"
        file.write_bytes(content := graph.SerializeToString(deterministic=True))
        yield name, task.model.calibrated(file, hashlib.sha256(content).hexdigest())


def _candidates(task: Task) -> dict[str, Any]:
    from edge_agent.calibration.candidates import CANDIDATES, make, prepare
    from edge_agent.calibration.ranges import measure_ranges
    from edge_agent.commands.calibrating.manifest import read_manifest
    from edge_agent.inference.graph import finish, load_network, read_network

    if task.order.candidates:
        folder = ROOT / task.order.candidates
        return {name: load_network(folder / each.file) for name, each in read_manifest(folder, task.model).candidates.items()}
    prepared = prepare(finish(read_network(task.model), task.model.papers), CALIBRATED_PORTS)
    drawn = pictures(*task.size(), 2 * _CALIBRATED_ON)[::2]
    ranges = measure_ranges(prepared, drawn, "percentile", _PERCENTILE, lambda: None)
    return {name: make(name, prepared, ranges) for name in CANDIDATES}


# --- on the GPU -------------------------------------------------------------------------------------------------------
def engine(task: Task) -> str:
    """Built or found, opened, held against the CPU by the station's own check; kept warm while idle."""
    with opened(task) as found:
        told = f"{found.engine_id}, {found.memory} memory, {found.graph_nodes} nodes, {found.warm_up():.3f} ms"
    gpu = _CountingGpu()
    with opened_on(gpu, task, keep_warm_ms=_KEEP_WARM_MS) as idle:
        infer_one = infer(idle)
        idle.release(infer_one)
        before = gpu.records
        time.sleep(_IDLE_S)
        kept = gpu.records - before
    assert kept >= _IDLE_S * 1e3 / _KEEP_WARM_MS / 4, f"{told}; but idle for {_IDLE_S:g} s it was kept warm {kept} times"
    return f"{told}; kept warm {kept} times in {_IDLE_S:g} s"


class _CountingGpu(Gpu):
    """Counts the inferences of all lanes by the events that end them."""

    records = 0

    def event(self) -> Any:
        return HookedEvent(super().event(), self._count)

    def _count(self, _: Any) -> None:
        self.records += 1


def parity(task: Task) -> str:
    """Every precision's maps against the CPU's in FP32; the stand-in's against its table as well."""
    frames = pictures(*task.size(), task.order.images)
    cpu, _ = open_cpu(CpuEngine(hint="latency"), task.model)
    expected = maps_of(cpu, frames)
    cpu.close()
    rows = task.sheet(
        "Parity with FP32 on the CPU", "precision", "mean map levels", "flipped pixels, ppm", "largest difference", ""
    )
    bad = []
    for name, model in _precisions(task):
        rows.append([name, *_parity_of(task, model, frames, expected)])
        if wrong := rows[-1][-1]:
            bad.append(f"{name}: {wrong}")
    assert not bad, "; ".join(bad)
    told = ", ".join(f"{row[0]} {row[1]} levels and {row[2]} ppm" for row in rows)
    exact = _by_the_table(task, frames) if task.is_stand_in else ""
    return f"{len(frames)} pictures, half of them drawn parts: {told}{exact}"


def _parity_of(task: Task, model: Model, frames: list[Pixels], expected: Pixels) -> list[str]:
    """Levels, ppm, largest difference, and what is wrong."""
    try:
        with opened(task, model) as found:
            maps = maps_of(found, frames)
    except EdgeAgentError as error:
        return ["", "", "", " ".join(str(error).split())]
    seen = compare(expected, maps)
    largest = int(np.abs(expected.astype(np.int16) - maps.astype(np.int16)).max())
    return [f"{seen.levels:.4f}", f"{seen.flips_ppm:.1f}", str(largest), "" if seen.holds else f"more than rounding: {seen}"]


def _by_the_table(task: Task, frames: list[Pixels]) -> str:
    import tensorrt as stand_in
    from stand_in_model import CENTRE, SLOPE

    levels, _ = stand_in.tables(CENTRE, SLOPE)
    with opened(task) as found:
        maps = maps_of(found, frames)
    off = int(np.count_nonzero(maps[:, 0] != levels[np.stack(frames)]))
    assert not off, f"{off} pixels are not what the stand-in's table says"
    return "; to the pixel what the stand-in's table says"


def growth(task: Task) -> str:
    """Inferences from frame slots that the engine page-locked, in tenths, with the memory after each."""
    rows, cols = task.size()
    ring = Ring(16, rows * cols)
    frames = [ring.view(index).reshape(rows, cols) for index in range(ring.slots)]
    for frame, picture in zip(frames, pictures(rows, cols, len(frames)), strict=True):
        np.copyto(frame, picture)
    gpu, count, used = Gpu(0), max(_SAMPLES, task.order.inferences), list[tuple[float, float]]()
    table = task.sheet("Memory", "inferences", "images/s", "host MB", "GPU MB")
    gpu.push()
    try:
        with opened(task) as found:
            found.adopt(ring.memory)
            run_many(found, min(2000, count), frames)
            for part in range(_SAMPLES):
                rate = run_many(found, count // _SAMPLES, frames).images_per_s
                gc.collect()
                used.append((host_mb(), device_mb(gpu)))
                table.append([str((part + 1) * (count // _SAMPLES)), f"{rate:.0f}", *(f"{each:.1f}" for each in used[-1])])
    finally:
        gpu.pop()
    host, device = (last - first for first, last in zip(used[0], used[-1], strict=True))
    assert host < MOST_GROWTH_MB, f"the host's memory grew by {host:.1f} MB in {count} inferences"
    assert device < MOST_GROWTH_MB, f"the GPU's memory grew by {device:.1f} MB in {count} inferences"
    return f"{count} inferences: host {host:+.1f} MB, GPU {device:+.1f} MB"


def graph(task: Task) -> str:
    """Two and three slots, with graphs and enqueued plainly; both give the same maps."""
    frames = pictures(*task.size(), 10)
    count, maps, alone = min(5000, task.order.inferences), list[Pixels](), dict[bool, float]()
    rows = task.sheet("Graph and plain enqueue", "slots", "launch", "nodes", "images/s", "p50 ms", "p99 ms", "alone ms")
    for slots in (2, 3):
        for wanted in (True, False):
            with opened(task, slots=slots, graph=wanted) as found:
                maps.append(maps_of(found, frames))
                alone[wanted] = found.warm_up()
                rate, nodes = run_many(found, count), found.graph_nodes
                assert nodes or not wanted, "there is no graph"
            figures = (f"{rate.images_per_s:.0f}", *(f"{each:.3f}" for each in (rate.p50_ms, rate.p99_ms, alone[wanted])))
            rows.append([str(slots), "graph" if wanted else "plain", str(nodes), *figures])
    assert all((each == maps[0]).all() for each in maps), "the maps of graph and plain enqueue differ"
    return f"the same maps; alone {alone[True]:.3f} ms by graph, {alone[False]:.3f} ms enqueued; {count} inferences a row"
