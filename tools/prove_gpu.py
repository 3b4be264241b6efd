"""Proves the TensorRT engine on a real GPU, step by step; each step says what it saw, and one that fails does not stop the others.

Where TensorRT does not take the GPU, a CUDA kernel stands in for the network: streams, graphs and overlap are proved with it.
"""

from __future__ import annotations

import argparse
import hashlib
import queue
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_agent.commands.benchmark_engine import BATCHES, graphs_of
from edge_agent.commands.benchmark_gpu import measure_gpu
from edge_agent.errors import EdgeAgentError, EngineError
from edge_agent.inference.base import Segmenter, TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.tensorrt import open_tensorrt
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.network import Network, network_of
from edge_agent.inference.tensorrt.parity import compare
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine, TensorRtEngine

ROOT = Path(__file__).parents[1]
STAND_IN = Path(__file__).with_name("prove_cuda.py")
AHEAD = ("7.5", "8.6", "8.9", "12.0")
GROWTH_MB = 16.0  # of host and of device over a whole run: the libraries' own caches


@dataclass
class Report:
    """Steps with what they saw, as they come."""

    lines: list[str] = field(default_factory=list)
    failed: int = 0

    def step(self, name: str, look: Callable[[], str]) -> None:
        began = time.perf_counter()
        try:
            state, told = "proved", look()
        except (EdgeAgentError, AssertionError, OSError, subprocess.SubprocessError) as error:
            state, told = "NOT PROVED", f"{type(error).__name__}: {error}"
            self.failed += 1
        seconds = time.perf_counter() - began
        told = " ".join(told.split()).replace("|", "/")
        self.lines.append(f"| {name} | {state} | {told} | {seconds:.1f} |")
        print(f"[{state}] {name}: {told} ({seconds:.1f} s)", flush=True)


def pictures(model: Model, count: int) -> list[Pixels]:
    """Noise of many kinds: from flat to wild, dark to bright."""
    rng = np.random.default_rng(7)
    shape = (model.papers.input.rows, model.papers.input.cols)
    return [np.clip(rng.normal(40 + index % 180, index % 60, shape), 0, 255).astype(np.uint8) for index in range(count)]


def maps_of(engine: Segmenter, frames: list[Pixels]) -> Pixels:
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    maps = []
    for frame in frames:
        slot = engine.lease()
        assert slot is not None
        engine.submit(slot, frame, done.put)
        done.get(timeout=60)
        require_believable(slot, int(slot.maps.max()))
        maps.append(slot.maps.copy())
        engine.release(slot)
    return np.stack(maps)


def run_many(engine: Segmenter, count: int) -> tuple[float, float, float]:
    """All slots busy until `count` are done: images/s, and one inference's p50 and p99 in ms from submit to answer."""
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    times: list[float] = []
    began, submitted = time.perf_counter(), 0
    while len(times) < count:
        while submitted < count and (slot := engine.lease()) is not None:
            slot.ticket = time.monotonic_ns()
            engine.submit(slot, slot.tensor, done.put)
            submitted += 1
        slot = done.get(timeout=60)
        if slot.failure:
            raise EngineError(slot.failure)
        times.append((slot.done_ns - slot.ticket) / 1e6)
        engine.release(slot)
    p50, p99 = np.quantile(times, (0.5, 0.99))
    return count / (time.perf_counter() - began), float(p50), float(p99)


class Proof:
    """The steps that need the engine, on one model."""

    def __init__(self, model: Model, folder: Path, images: int, inferences: int, candidates: Path | None) -> None:
        self._model, self._folder, self._images, self._inferences = model, folder, images, inferences
        self._candidates = candidates
        self.table: list[str] = []
        self.rows: list[str] = []  # of every precision and batch

    def _open(self, **settings: object) -> TensorRtSegmenter:
        return open_tensorrt(TensorRtEngine(keep_warm_ms=0, **settings), self._model, self._folder)  # type: ignore[arg-type]

    def opened(self) -> str:
        engine = self._open()
        try:
            return f"{engine.engine_id}, {engine.memory} memory, {engine.graph_nodes} nodes, {engine.warm_up():.3f} ms"
        finally:
            engine.close()

    def parity(self) -> str:
        frames = pictures(self._model, self._images)
        cpu, _ = open_cpu(CpuEngine(hint="latency"), self._model)
        expected = maps_of(cpu, frames)
        cpu.close()
        engine = self._open()
        try:
            found = compare(expected, maps_of(engine, frames))
        finally:
            engine.close()
        assert found.holds, str(found)
        return f"{found} over {len(frames)} pictures"

    def steady(self) -> str:
        engine = self._open()
        try:
            run_many(engine, min(2000, self._inferences))
            host, device = _host_mb(), _device_mb()
            rate, _, _ = run_many(engine, self._inferences)
            host, device = _host_mb() - host, _device_mb() - device
        finally:
            engine.close()
        assert host < GROWTH_MB, f"the host's memory grew by {host:.1f} MB"
        assert device < GROWTH_MB, f"the GPU's memory grew by {device:.1f} MB"
        return f"{self._inferences} inferences, {rate:.0f} images/s, host {host:+.1f} MB, GPU {device:+.1f} MB"

    def benchmark(self) -> str:
        count = min(5000, self._inferences)
        for slots in (2, 3):
            for graph in (True, False):
                engine = self._open(slots=slots, graph=graph)
                try:
                    engine.warm_up()
                    rate, p50, p99 = run_many(engine, count)
                    alone = engine.warm_up()
                finally:
                    engine.close()
                self.table.append(
                    f"| {slots} | {'graph' if graph else 'plain'} | {rate:.0f} | {p50:.3f} | {p99:.3f} | {alone:.3f} |"
                )
        return f"{len(self.table)} rows, {count} inferences each"

    def precisions(self) -> str:
        """`edge-agent benchmark engine` for the GPU's rows; what it could not measure is told, and fails the step."""
        missing: list[str] = []

        def tell(text: str) -> None:
            if text.startswith("no row of"):
                missing.append(text)

        model = self._model
        rows = list(measure_gpu(model, graphs_of(model, self._candidates), BATCHES, min(4.0, self._inferences / 1000), tell))
        assert rows, "TensorRT gave no row"
        self.rows += [_row(row) for row in rows]
        assert not missing, f"{len(rows)} rows, but {'; '.join(missing[:3])}"
        return f"{len(rows)} rows of {', '.join(dict.fromkeys(row['precision'] for row in rows))}"


COLUMNS = {
    "images_per_s": "images/s",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "h2d_ms": "H2D ms",
    "compute_ms": "compute ms",
    "d2h_ms": "D2H ms",
    "roofline_share": "of the roofline",
    "sm_mhz": "SM MHz",
    "power_w": "W",
    "throttled": "throttled",
}


def _row(row: dict[str, object]) -> str:
    cells = [row["engine"], row["precision"], row["batch"], *(row[name] for name in COLUMNS)]
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "no"
    return "" if value is None else str(value)


def _host_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _device_mb() -> float:
    """GPU memory in use, as the driver tells."""
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0])


def stand_in(what: str) -> Callable[[], str]:
    """A step of `prove_cuda.py`, in a process of its own: a kernel that traps breaks its process's context for good."""

    def look() -> str:
        words = [sys.executable, str(STAND_IN), what]
        ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        last = (ended.stdout.strip() or ended.stderr.strip()[-300:]).splitlines()[-1:]
        assert ended.returncode == 0, f"exit code {ended.returncode}: {' '.join(last)}"
        return " ".join(last)

    return look


def ahead(model: Model, folder: Path) -> str:
    """Everything before the driver: the library, the network, a build for GPUs that are not here."""
    sizes = [_built_ahead(network_of(model), folder, capability) for capability in AHEAD]
    return "TensorRT-RTX builds for " + ", ".join(f"{c} ({size} bytes)" for c, size in zip(AHEAD, sizes, strict=True))


def _built_ahead(network: Network, folder: Path, capability: str) -> int:
    plan = build_aside(network, folder / "ahead.cache", "tensorrt_rtx", 512, 3, lambda _: None, capabilities=(capability,))
    return len(plan)


def candidates_ahead(model: Model, folder: Path, candidates: Path | None) -> str:
    """Every precision at the smallest and the largest batch, for a GPU that is not here."""
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for name, graph in graphs_of(model, candidates).items():
        file = folder / f"ahead-{name}.onnx"
        file.write_bytes(content := graph.SerializeToString())
        made = model.calibrated(file, hashlib.sha256(content).hexdigest())
        sizes = [_built_ahead(network_of(made, batch), folder, AHEAD[0]) for batch in (BATCHES[0], BATCHES[-1])]
        told.append(f"{name} ({sizes[0]} and {sizes[1]} bytes)")
    return f"batches of {BATCHES[0]} and {BATCHES[-1]} for {AHEAD[0]}: {', '.join(told)}"


def prove(args: argparse.Namespace, folder: Path) -> tuple[Report, Proof | None]:
    report, model = Report(), load_model(args.model)
    report.step("library", lambda: "{0.name} {0.version}".format(load_library()))
    report.step("built ahead", lambda: ahead(model, folder))
    report.step("precisions built ahead", lambda: candidates_ahead(model, folder, args.candidates))
    report.step("pictures", lambda: f"{len(pictures(model, args.images))} of {model.papers.input.rows}x{model.papers.input.cols}")
    report.step("GPU", lambda: "{0.name}, {0.capability}, driver {0.driver_version}".format(Gpu(0)))
    if args.dry_run:
        print("dry run: the rest needs a GPU")
        return report, None
    proof = Proof(model, folder, args.images, args.inferences, args.candidates)
    report.step("engine", proof.opened)
    report.step("parity with the CPU in FP32", proof.parity)
    report.step("no growth", proof.steady)
    report.step("benchmark", proof.benchmark)
    report.step("every precision and batch", proof.precisions)
    report.step("stand-in kernel: graph and plain enqueue agree", stand_in("graph"))
    report.step("stand-in kernel: copies overlap kernels, by events", stand_in("overlap"))
    report.step("stand-in kernel: one that traps is an error", stand_in("trap"))
    return report, proof


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--inferences", type=int, default=100_000)
    parser.add_argument("--candidates", type=Path, help="what calibrate left; without it FP16 and INT8 are made of noise")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo-texture")
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements" / f"gpu-{today}.md")
    args = parser.parse_args()
    report, proof = prove(args, ROOT / "out" / "engines")
    if proof is not None:
        head = [f"# The GPU engine, {today}", "", f"`tools/prove_gpu.sh --images {args.images} --inferences {args.inferences}`", ""]
        steps = ["| step | state | seen | s |", "|---|---|---|---|", *report.lines, ""]
        slots = ["| slots | launch | images/s | p50 ms | p99 ms | alone ms |", "|---|---|---|---|---|---|", *proof.table, ""]
        names = ["engine", "precision", "batch", *COLUMNS.values()]
        rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *proof.rows]
        args.out.write_text("\n".join([*head, *steps, *slots, *rows]) + "\n")
        print(f"written: {args.out}")
    return 1 if report.failed and not args.dry_run else 0


if __name__ == "__main__":
    sys.exit(main())
