"""Every engine here, at every precision and batch: images/s latency, and billions of operations/s.

Copies to and from a device, and a share of the roofline, are null on a processor: nobody told how fast it could be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edge_agent.calibration.candidates import CANDIDATES, make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.calibration.trunk import operations
from edge_agent.commands.calibrate_manifest import read_manifest
from edge_agent.commands.replay import find_model
from edge_agent.inference.cpu import open_batch
from edge_agent.inference.graph import finish, load_network, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model

BATCHES = (1, 2, 4, 8, 16)
_LEAST_RUNS, _WARM_UPS, _PERCENT = 5, 2, 100
Run = Callable[[], None]


def measure_engines(name: str, seconds: float, candidates: Path | None) -> Iterator[dict[str, Any]]:
    """Yield one row for each engine, precision and batch. `candidates` is calibrate's DIR; without it they are made of noise:
    as fast, but fit for no part. Raises ConfigurationError."""
    model = load_model(find_model(name))
    graphs = _graphs(model, candidates)
    size = (model.papers.input.rows, model.papers.input.cols)
    cost = operations(graphs["fp32"])
    first: float | None = None
    for precision, graph in graphs.items():
        for batch in BATCHES:
            engine, run = open_batch(graph, CALIBRATED_PORTS[0], batch, size)
            row = _row(_times_s(run, seconds), batch)
            first = first or row["images_per_s"]
            yield {
                "engine": engine,
                "model": model.papers.name,
                "precision": precision,
                "batch": batch,
                **row,
                "times_fp32_batch_1": round(row["images_per_s"] / first, 3),
                "gop_per_s": round(row["images_per_s"] * cost / 1e9, 2),
                "roofline_share": None,
                "h2d_ms": None,
                "compute_ms": None,
                "d2h_ms": None,
            }


def _graphs(model: Model, candidates: Path | None) -> dict[str, Any]:
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    if candidates is not None:
        manifest = read_manifest(candidates, model)
        return {"fp32": prepared} | {name: load_network(candidates / each.file) for name, each in manifest.candidates.items()}
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


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The decks' table, for this machine."""
    table = Table(title=f"images/s of {rows[0]['model']}, in brackets the latency of a batch in ms: median, 99 %")
    table.add_column("engine")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        of_it = [row for row in rows if row["precision"] == precision]
        cells = [f"{r['images_per_s']:.1f} ({r['latency_p50_ms']:.1f}, {r['latency_p99_ms']:.1f})" for r in of_it]
        table.add_row(f"{of_it[0]['engine']} {precision}", *cells)
    return table
