"""Everything around the network at full speed, beside a bare loop of the same steps in the same run.

The daemon runs in a process of its own on recorded maps; the subscriber, in this one, acknowledges every verdict and asks
for what it missed. A part counts as accounted for when it was heard here and is in the outbox.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zmq

from edge_agent.commands.aside import program
from edge_agent.errors import EdgeAgentError
from edge_agent.plc.gateway import Gateway
from edge_agent.uplink.outbox import count_records

_SIDE = 512
_PACED_HZ, _PACED_PARTS = 200, 2000  # fewer in a short run: a tenth of its parts
_PATIENCE_S = 120


def measure_plumbing(parts: int, ng_share: float) -> dict[str, Any]:
    """Run bare loop, daemon flat out, daemon at 200 parts/s; return the figures."""
    with tempfile.TemporaryDirectory(prefix="edge-agent-benchmark-") as text:
        folder = Path(text)
        write_maps(folder, ng_share)
        bare = _bare_parts_per_s(min(parts, 20_000), folder)
        flat_out = run_daemon(folder, "flat", parts, 0)
        paced = run_daemon(folder, "paced", min(_PACED_PARTS, max(1, parts // 10)), _PACED_HZ)
    return {
        "parts_per_s": round(parts / flat_out["seconds"], 1),
        "ng_share": ng_share,
        "unaccounted": flat_out["unaccounted"] + paced["unaccounted"],
        "p50_ms": paced["map_to_verdict_ms"]["p50"],
        "p99_ms": paced["map_to_verdict_ms"]["p99"],
        "rss_growth_kb": flat_out["rss_growth_kb"],
        "bare_parts_per_s": round(bare, 1),
        "ratio_to_bare": round(parts / flat_out["seconds"] / bare, 3),
        "cpu_ms_per_part": round(flat_out["cpu_ms_per_part"], 3),
        "parts": parts,
        "one_core": len(os.sched_getaffinity(0)) > 1,  # `python_core: auto`: the daemon's Python threads share one
        "seconds": round(flat_out["seconds"], 2),
    }


def write_maps(folder: Path, ng_share: float) -> None:
    """maps.npy (2, 1, 512, 512) uint8, one clean and one with a defect, a disc of probability 0.9; and order.npy, in which the
    latter has its share. Few maps, because a network leaves its map in the processor's cache, too."""
    maps = np.random.default_rng(1).integers(0, 40, (2, 1, _SIDE, _SIDE), dtype=np.uint8)
    row, col = np.ogrid[:_SIDE, :_SIDE]
    maps[1, 0][(row - 200) ** 2 + (col - 300) ** 2 < 15**2] = 230
    order = np.zeros(1000, int)
    order[np.linspace(0, 1000, round(1000 * ng_share), endpoint=False, dtype=int)] = 1
    np.save(folder / "maps.npy", maps)
    np.save(folder / "order.npy", order)


def _bare_parts_per_s(parts: int, folder: Path) -> float:
    """The bare loop in a process of its own, a subscriber here."""
    code = (
        "import sys, numpy; from edge_agent.commands.benchmarks.bareloop import parts_per_s; sys.setswitchinterval(0.0005);"
        f"maps, order = (numpy.load({str(folder)!r} + name) for name in ('/maps.npy', '/order.npy'));"
        f"print(parts_per_s(maps, order.tolist(), {parts}, {str(folder)!r}))"
    )
    stop = threading.Event()
    listener = threading.Thread(target=_listen_bare, args=(f"ipc://{folder}/bare", stop), daemon=True)
    listener.start()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    stop.set()
    listener.join()
    if result.returncode:
        raise EdgeAgentError(f"the bare loop failed: {result.stderr[-500:]}")
    return float(result.stdout)


def _listen_bare(endpoint: str, stop: threading.Event) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvtimeo, socket.linger = 100, 0
        socket.subscribe(b"")
        socket.connect(endpoint)
        while not stop.is_set():
            try:
                socket.recv_multipart()
            except zmq.Again:
                continue


def _settings(folder: Path, name: str, rate_hz: float, more: dict[str, Any]) -> Path:
    """A station on recorded maps: sixteen drawn frames shown in turn, sockets local to the folder."""
    recipe = {
        "name": "plumbing",
        "model": {"name": "recorded"},
        "deadline_ms": 5000,
        "regions": [{"name": "whole", "prepare": "native"}],
        "rules": [
            {"rule": "blob_count", "max": 0},
            {"rule": "total_area", "max_px": 50},
            {"rule": "area_ratio", "max": 0.001},
            {"rule": "peak_score", "max": 0.8},
        ],
        "presence": {"gray_above": 40, "min_share": 0.3},
        "quality": {"min_mean_gray": 4, "max_saturated_share": 0.3},
        "evidence": {"max_crops": 1, "margin_px": 33, "pass_share": 0},
    }
    station = {
        "station": "benchmark",
        "state": f"state-{name}",
        "recipes": ".",
        "models": "models",
        "cameras": [
            {
                "name": "camera",
                "kind": "synthetic",
                "rate_hz": rate_hz,
                "preload": 16,
                "defect_share": 0,
                "empty_share": 0,
            }
        ],
        "lines": [{"name": "line", "camera": "camera", "recipe": "plumbing", "frames": 16}],
        "engine": {"kind": "recorded", "path": "maps.npy", "order": "order.npy"},
        "plc": {"verdicts": f"ipc://{folder}/{name}-v", "control": f"ipc://{folder}/{name}-c", "send_queue": 100_000},
        "metrics": None,
        "drain_s": 20,
        **more,
    }
    (folder / "plumbing.yaml").write_text(yaml.safe_dump(recipe))
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(station))
    _write_model(folder / "models" / "recorded")
    return file


def _write_model(folder: Path) -> None:
    """Papers for maps without a network."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"")
    papers = {
        "name": "recorded",
        "version": 1,
        "onnx": {"file": "model.onnx", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        "input": {"name": "frames", "layout": "NCHW", "dtype": "uint8", "rows": _SIDE, "cols": _SIDE, "channels": 1},
        "output": {"kind": "map_and_peak", "map": "map", "peak": "peak", "layout": "NCHW"},
        "head": "sigmoid",
        "classes": ["defect"],
        "stride": 1,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(papers))


def run_daemon(folder: Path, name: str, parts: int, rate_hz: float, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the daemon for `parts`, hear every verdict, watch its memory; return its summary with what was seen from here.

    `more` settings take the place of the benchmark's own."""
    config = _settings(folder, name, rate_hz, more or {})
    summary_file = folder / f"{name}.json"
    command = ["run", "--config", str(config), "--parts", str(parts), "--summary", str(summary_file)]
    with (
        Gateway(f"ipc://{folder}/{name}-v", f"ipc://{folder}/{name}-c") as gateway,
        program(command, folder / f"{name}.log") as process,
    ):
        heard, memory = _hear(gateway, process, parts)
        process.wait(timeout=_PATIENCE_S)
    if process.returncode:
        raise EdgeAgentError(f"the daemon failed: {(folder / f'{name}.log').read_text()[-800:]}")
    summary: dict[str, Any] = json.loads(summary_file.read_text())
    stored = count_records(folder / f"state-{name}" / "outbox")
    summary["unaccounted"] = abs(parts - summary["outcomes"]) + (parts - heard) + max(0, parts - stored - summary["lost"])
    summary["rss_growth_kb"] = memory[-1] - memory[0] if memory else 0
    summary["cpu_ms_per_part"] = summary["cpu_seconds"] * 1000 / parts
    return summary


def _hear(gateway: Gateway, process: subprocess.Popen[bytes], parts: int) -> tuple[int, list[int]]:
    """How many verdicts were heard, and the daemon's memory in kB from the time when a quarter of them was."""
    heard, memory = 0, []
    until = time.monotonic() + _PATIENCE_S
    while heard < parts and time.monotonic() < until and process.poll() is None:
        heard += sum(1 for _ in gateway.verdicts(0.25))
        if heard >= parts / 4:
            memory.append(_resident_kb(process.pid))
    return heard, [kb for kb in memory if kb]


def _resident_kb(pid: int) -> int:
    """Resident memory of the process's own; pages of mapped files, the journal's say, are the system's to give and take."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
