"""Every engine here, at every precision and batch: images/s, latency, and how near each comes to what the machine could do at most.

On a processor no copies are made, and its peak is measured for float32 alone, by a matrix product: the other rows' are null.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edge_agent.calibration.candidates import CANDIDATES, make, named, prepare
from edge_agent.calibration.cost import FLOAT, Cost, cost_of
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.commands.benchmarks.gpu import measure_gpu
from edge_agent.commands.calibrating.manifest import read_manifest
from edge_agent.commands.replay import find_model
from edge_agent.errors import ConfigurationError
from edge_agent.inference.cpu import open_batch
from edge_agent.inference.graph import finish, load_network, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model

BATCHES = (1, 2, 4, 8, 16)
_LEAST_RUNS, _WARM_UPS, _PERCENT = 5, 2, 100
_PRODUCT, _COPIED, _PEAK_S = 1024, 128 << 20, 0.5  # of square matrices; bytes; to measure each
_ON_A_GPU = ("h2d_ms", "compute_ms", "d2h_ms", "graph_nodes", "sm_mhz", "memory_mhz", "power_w", "throttled")
Run = Callable[[], object]
Row = dict[str, Any]


def measure_engines(name: str, seconds: float, candidates: Path | None, tell: Callable[[str], None]) -> Iterator[Row]:
    """Yield one row for each engine, precision and batch. `candidates` is calibrate's DIR; without it they are made of noise:
    as fast, but fit for no part. `tell` hears what is done, and why an engine is missing. Raises ConfigurationError."""
    model = load_model(find_model(name))
    graphs = graphs_of(model, candidates)
    first: dict[str, float] = {}
    for rows in (_on_processor(model, graphs, seconds, tell), measure_gpu(model, graphs, BATCHES, seconds, tell)):
        for row in rows:
            rate = row["images_per_s"]
            yield row | {"times_fp32_batch_1": round(rate / first.setdefault(row["engine"], rate), 3)}


def _on_processor(model: Model, graphs: dict[str, Any], seconds: float, tell: Callable[[str], None]) -> Iterator[Row]:
    if importlib.util.find_spec("openvino") is None:
        tell("no rows of openvino: it is not installed. Install it: pip install 'edge-agent[cpu]'")
        return
    size = (model.papers.input.rows, model.papers.input.cols)
    for precision, graph in graphs.items():
        cost = cost_of(graph)
        for batch in BATCHES:
            try:
                engine, run = open_batch(graph, CALIBRATED_PORTS[0], batch, size)
            except ConfigurationError as error:
                tell(f"no row of openvino {precision} batch {batch}: {error}")
                continue
            row = _row(_times_s(run, seconds), batch)
            yield {
                "engine": engine,
                "model": model.papers.name,
                "precision": precision,
                "batch": batch,
                "in_flight": 1,
                **row,
                "gop_per_s": round(row["images_per_s"] * sum(cost.operations.values()) / 1e9, 2),
                **dict.fromkeys(_ON_A_GPU),
                **_roofline(cost, batch, row["latency_p50_ms"]),
            }


def _roofline(cost: Cost, batch: int, took_ms: float) -> Row:
    """Of a row on the processor; null where it computes in what no peak was measured for."""
    if cost.operations.keys() != {FLOAT}:
        return dict.fromkeys(("roofline_ms", "roofline_share", "peak", "peak_gbytes_per_s", "peak_gop_per_s"))
    operations, copied = _processor_peak()
    least_ms = 1e3 * cost.least_s(batch, {FLOAT: operations}, copied)
    return {
        "roofline_ms": round(least_ms, 3),
        "roofline_share": round(least_ms / took_ms, 4),
        "peak": "measured by a float32 matrix product and a copy",
        "peak_gbytes_per_s": round(copied / 1e9, 1),
        "peak_gop_per_s": {FLOAT: round(operations / 1e9)},
    }


@cache
def _processor_peak() -> tuple[float, float]:
    """float32 operations/s of all cores by the largest of numpy's matrix products, and bytes/s read and written by a copy."""
    square = np.ones((_PRODUCT, _PRODUCT), np.float32)
    product, source = np.empty_like(square), np.ones(_COPIED, np.uint8)
    target = np.empty_like(source)
    product_s = min(_times_s(lambda: np.matmul(square, square, out=product), _PEAK_S))
    copy_s = min(_times_s(lambda: np.copyto(target, source), _PEAK_S))
    return 2 * _PRODUCT**3 / product_s, 2 * _COPIED / copy_s


def graphs_of(model: Model, candidates: Path | None) -> dict[str, Any]:
    finished = finish(read_network(model), model.papers)
    if candidates is not None:
        manifest = read_manifest(candidates, model)
        fp32 = named(finished, CALIBRATED_PORTS)  # onnxruntime may be missing where the candidates were not made
        return {"fp32": fp32} | {name: load_network(candidates / each.file) for name, each in manifest.candidates.items()}
    prepared = prepare(finished, CALIBRATED_PORTS)
    noise = np.random.default_rng(0).integers(0, 256, (model.papers.input.rows, model.papers.input.cols), dtype=np.uint8)
    ranges = measure_ranges(prepared, [noise], "minmax", _PERCENT, lambda: None)
    return {"fp32": prepared} | {name: make(name, prepared, ranges) for name in CANDIDATES}


def _times_s(run: Run, seconds: float) -> list[float]:
    for _ in range(_WARM_UPS):
        run()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < until:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def _row(times_s: list[float], batch: int) -> dict[str, float]:
    p50, p99 = statistics.median(times_s), float(np.percentile(times_s, 99))
    return {
        "images_per_s": round(batch * len(times_s) / sum(times_s), 2),
        "latency_p50_ms": round(p50 * 1e3, 3),
        "latency_p99_ms": round(p99 * 1e3, 3),
    }


def table_of(rows: list[Row]) -> Table:
    """The decks' table, for this machine."""
    title = f"images/s of {rows[0]['model']} (latency of a batch in ms: median, 99 %) and share of the roofline"
    table = Table(title=title)
    table.add_column("engine")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    for engine, precision in dict.fromkeys((row["engine"], row["precision"]) for row in rows):
        of_it = {row["batch"]: row for row in rows if (row["engine"], row["precision"]) == (engine, precision)}
        table.add_row(f"{engine} {precision}", *(_cell(of_it.get(batch)) for batch in BATCHES))
    return table


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    share = "" if row["roofline_share"] is None else f" {row['roofline_share']:.0%}"
    return f"{row['images_per_s']:.1f} ({row['latency_p50_ms']:.1f}, {row['latency_p99_ms']:.1f}){share}"
