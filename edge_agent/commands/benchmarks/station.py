"""The whole daemon on preloaded frames against OpenVINO's own `benchmark_app`: same model, same hint, same run.

`cpu_ms_per_part` is what the daemon takes for each part by its threads' clocks: everything but the threads OpenVINO computes on.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from edge_agent.commands.replay import find_model
from edge_agent.errors import ConfigurationError, EdgeAgentError
from edge_agent.inference.cpu import AS_WRITTEN
from edge_agent.inference.model import Model, load_model

_ROUNDS = 3
_BENCHMARK_APP = (  # as its command does, without OpenVINO's telemetry
    "import sys; sys.modules['openvino_telemetry'] = None; from openvino.tools.benchmark.main import main; sys.exit(main())"
)


def measure_station(model: str, hint: str, seconds: float) -> dict[str, Any]:
    """Alternate engine and station `_ROUNDS` times; return the medians and their ratio."""
    loaded = load_model(find_model(model))
    papers = loaded.papers
    rows, cols = papers.input.rows, papers.input.cols
    onnx = loaded.onnx
    engine, station, cpu = [], [], []
    with tempfile.TemporaryDirectory(prefix="edge-agent-benchmark-") as text:
        for _ in range(_ROUNDS):
            engine.append(_engine_fps(onnx, papers.input.name, rows, cols, hint, seconds))
            parts = max(50, int(engine[-1] * seconds))
            run = run_station(Path(text), loaded, {"kind": "cpu", "hint": hint}, parts)
            station.append(parts / run["seconds"])
            cpu.append(run["own_cpu_seconds"] / parts * 1000)
    engine_fps, station_fps = statistics.median(engine), statistics.median(station)
    return {
        "station_fps": round(station_fps, 2),
        "engine_fps": round(engine_fps, 2),
        "ratio": round(statistics.median(s / e for s, e in zip(station, engine, strict=True)), 4),
        "cpu_ms_per_part": round(statistics.median(cpu), 3),
        "model": model,
        "hint": hint,
        "seconds": seconds * _ROUNDS * 2,
    }


def _engine_fps(onnx: Path, name: str, rows: int, cols: int, hint: str, seconds: float) -> float:
    """OpenVINO's benchmark_app: images/s."""
    if importlib.util.find_spec("openvino") is None:
        raise ConfigurationError("OpenVINO's benchmark_app is not installed; it comes with the extra `cpu`.")
    shape = f"{name}[1,1,{rows},{cols}]"
    command = [
        sys.executable,
        "-c",
        _BENCHMARK_APP,
        "-m",
        str(onnx),
        "-d",
        "CPU",
        "-hint",
        hint,
        "-infer_precision",
        AS_WRITTEN["INFERENCE_PRECISION_HINT"],
        "-shape",
        shape,
        "-t",
        str(int(seconds)),
        "-api",
        "async",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    fps = re.search(r"Throughput:\s+([\d.]+)", result.stdout)
    if result.returncode or not fps:
        raise EdgeAgentError(f"benchmark_app failed: {result.stdout[-500:]} {result.stderr[-500:]}")
    return float(fps[1])


_RECIPE = {
    "name": "station",
    "deadline_ms": 60_000,
    "regions": [{"name": "whole", "prepare": "native"}],
    "rules": [
        {"rule": "blob_count", "max": 0},
        {"rule": "area_ratio", "max": 0.001},
        {"rule": "peak_score", "max": 0.98},
    ],
    "presence": {"gray_above": 40, "min_share": 0.3},
    "quality": {"min_mean_gray": 4, "max_saturated_share": 0.3},
    "evidence": {"max_crops": 4},
}


def run_station(folder: Path, model: Model, engine: dict[str, Any], parts: int) -> dict[str, Any]:
    """The daemon, flat out on preloaded drawn frames, with every rule of the demo's kind; return its summary.

    `folder`/state may hold what it needs, engines say; it is gone afterwards."""
    recipe = _RECIPE | {"model": {"name": model.onnx.parent.name}}
    camera = {
        "name": "camera",
        "kind": "synthetic",
        "rate_hz": 0,
        "preload": 16,  # as many as frame slots: a real camera fills them by itself
        "rows": model.papers.input.rows,
        "cols": model.papers.input.cols,
        "defect_share": 0.05,
        "empty_share": 0,
    }
    station = {
        "station": "benchmark",
        "state": str(folder / "state"),
        "recipes": ".",
        "models": str(model.onnx.parent.parent.resolve()),
        "cameras": [camera],
        "lines": [{"name": "line", "camera": "camera", "recipe": "station", "frames": 16}],
        "engine": engine,
        "plc": {"verdicts": f"ipc://{folder}/v", "control": f"ipc://{folder}/c", "expect_subscriber": False},
        "metrics": None,
    }
    (folder / "station.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "settings.yaml").write_text(yaml.safe_dump(station))
    summary = folder / "summary.json"
    command = ["run", "--config", str(folder / "settings.yaml"), "--parts", str(parts), "--summary", str(summary)]
    run = subprocess.run(
        [sys.executable, "-m", "edge_agent", "--log-level", "warning", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise EdgeAgentError(f"the daemon failed: {run.stderr[-800:]}")
    shutil.rmtree(folder / "state")
    result: dict[str, Any] = json.loads(summary.read_text())
    return result
