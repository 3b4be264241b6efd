"""Exported graphs of one network, in float32 and 8 bits, judged on OpenVINO and timed beside others.

The 8-bit graph is what `edge-agent calibrate` would make: the same functions, ranges by the extremes of as many frames, evenly
spaced among those trained on.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from examples import Examples, fit
from graph import graph_of
from networks import Network
from numpy.typing import NDArray
from scores import Scores, score

from edge_agent.calibration.candidates import make, prepare
from edge_agent.calibration.ranges import measure_ranges
from edge_agent.commands.calibrating.images import spread
from edge_agent.inference.cpu import AS_WRITTEN, load_openvino
from edge_agent.inference.unsigned import as_unsigned

CALIBRATED_ON = 128  # frames, as `edge-agent calibrate` takes them
ROUNDS, RUNS = 5, 4  # per engine: rounds in turn with the others, runs within a round


def floats_of(network: Network) -> Any:
    """The exported graph as it is: float32."""
    return graph_of(network, "candidate")


def eightbit_of(network: Network, frames: Examples, rows: int, cols: int) -> Any:
    """The graph in 8 bits, calibrated on frames of the training set, stretched to (rows, cols)."""
    prepared = prepare(graph_of(network, "candidate"), ("frames", "map", "peak"))
    pixels = [np.ascontiguousarray(fit(pair, rows, cols)[0]) for pair in spread(frames.pairs, CALIBRATED_ON)]
    return make("int8", prepared, measure_ranges(prepared, pixels, "minmax", 100.0, lambda: None))


def compiled(graph: Any, rows: int, cols: int, threads: int) -> Any:
    """The graph on OpenVINO, one frame at a time as fast as it can."""
    core = load_openvino().Core()
    model = core.read_model(as_unsigned(graph).SerializeToString())
    model.reshape([1, 1, rows, cols])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **AS_WRITTEN}
    return core.compile_model(model, "CPU", settings)


def scores_of(engine: Any, examples: Examples, rows: int, cols: int) -> Scores:
    """Scores of an engine by its own peak, a logit. Raises SystemExit where one is not finite."""
    frames = (np.ascontiguousarray(fit(pair, rows, cols)[0])[None, None] for pair in examples.pairs)
    logits = np.array([finite(float(engine([frame])[1][0])) for frame in frames])
    return score(1 / (1 + np.exp(-logits)), examples.is_defective, examples.kinds, examples.groups)


def finite(peak: float) -> float:
    """The peak of a frame. Raises SystemExit where it is no number, which the map, uint8, does not show."""
    if not math.isfinite(peak):
        raise SystemExit(f"the peak of a frame is {peak}, which is not finite: the weights are broken. Train them again.")
    return peak


def medians_ms(engines: list[Any], frame: NDArray[np.uint8]) -> list[float]:
    """Median time of one frame on each engine, all of them taking turns."""
    took_ns: list[list[int]] = [[] for _ in engines]
    for _ in range(ROUNDS + 1):  # the first round warms up
        for engine, times in zip(engines, took_ns, strict=True):
            for _ in range(RUNS):
                began_ns = time.perf_counter_ns()
                engine([frame])
                times.append(time.perf_counter_ns() - began_ns)
    return [float(np.median(times[RUNS:])) / 1e6 for times in took_ns]


def medians_of(graphs: list[Any], rows: int, cols: int, threads: int) -> list[float]:
    """Median time of one frame of noise on each graph, timed beside one another."""
    frame = np.random.default_rng(0).integers(0, 256, (1, 1, rows, cols), dtype=np.uint8)
    return medians_ms([compiled(graph, rows, cols, threads) for graph in graphs], frame)
