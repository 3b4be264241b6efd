"""The whole daemon on the GPU: how it ends when the GPU is lost, and how near it comes to the slower of engine and plumbing."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zmq
from proving import ROOT, TOOLS, Task, opened, require

from edge_agent.commands.benchmarks import bareloop
from edge_agent.commands.benchmarks.engine import BATCHES
from edge_agent.commands.benchmarks.station import run_station
from edge_agent.inference.tensorrt import find_engine
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.network import network_of
from edge_agent.inference.tensorrt.timing import measure_plan
from edge_agent.plc.gateway import Gateway
from edge_agent.settings import TensorRtEngine
from edge_agent.wire import Verdict

LEAST_SHARE = 0.97  # of the slower of bare engine and bare plumbing
_ROUNDS, _ROUND_S, _BARE_PARTS = 3, 4.0, 20_000
_JUDGED = 20  # parts, before the GPU is broken
_PATIENCE_S, _QUIET_S = 60.0, 0.25
_END_S = 15.0  # of the step's time, kept to end the benchmark in
_TIMED = ("batch", "images/s", "p50 ms", "p99 ms", "H2D ms", "compute ms", "D2H ms", "graph nodes")
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


# --- a GPU that is lost -----------------------------------------------------------------------------------------------
def fault(task: Task) -> str:
    """A kernel traps under the running daemon: parts under way are FAULT engine, it is logged once, and it ends with 1."""
    with opened(task):
        pass  # its file is there now
    with tempfile.TemporaryDirectory(prefix="edge-agent-prove-") as text:
        folder = Path(text)
        config, arm, log = _station(folder, task), folder / "arm", folder / "log"
        with open(log, "wb") as errors, Gateway(f"ipc://{folder}/v", f"ipc://{folder}/c") as gateway:
            command = [sys.executable, str(TOOLS / "prove_fault.py"), str(arm), "run", "--config", str(config)]
            daemon = subprocess.Popen(command, stdout=errors, stderr=errors)
            try:
                verdicts = _until_it_ends(gateway, daemon, arm)
            finally:
                daemon.kill()
                daemon.wait()
        return _require_an_orderly_end(verdicts, daemon.returncode, log.read_text(errors="replace"))


def _station(folder: Path, task: Task) -> Path:
    """Settings and recipe of a station with a drawn camera; its engines are those that are there."""
    rows, cols = task.size()
    (folder / "state").mkdir()
    shutil.copytree(task.engines, folder / "state" / "engines", dirs_exist_ok=True)
    recipe = {
        "name": "part",
        "model": {"name": task.model.onnx.parent.name},
        "deadline_ms": 5000,
        "regions": [{"name": "whole", "prepare": "native"}],
        "rules": [{"rule": "blob_count", "max": 0}],
        "quality": {"frozen": False},
    }
    camera = {"name": "camera", "kind": "synthetic", "rate_hz": 200, "preload": 16, "rows": rows, "cols": cols, "empty_share": 0}
    station = {
        "station": "prove",
        "state": "state",
        "recipes": ".",
        "models": str(task.model.onnx.parent.parent.resolve()),
        "cameras": [camera],
        "lines": [{"name": "line", "camera": "camera", "recipe": "part", "frames": 16}],
        "engine": {"kind": "tensorrt"},
        "plc": {"verdicts": f"ipc://{folder}/v", "control": f"ipc://{folder}/c", "expect_subscriber": False},
        "metrics": None,
        "drain_s": 5,
    }
    (folder / "part.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "settings.yaml").write_text(yaml.safe_dump(station))
    return folder / "settings.yaml"


def _until_it_ends(gateway: Gateway, daemon: subprocess.Popen[bytes], arm: Path) -> list[Verdict]:
    """Break the GPU when some parts are judged, and hear what comes until the daemon is gone."""
    heard: list[Verdict] = []
    until = time.monotonic() + _PATIENCE_S
    while daemon.poll() is None and time.monotonic() < until:
        heard += gateway.verdicts(_QUIET_S)
        if not arm.exists() and sum(verdict.outcome != "FAULT" for verdict in heard) >= _JUDGED:
            arm.touch()
    return [*heard, *gateway.verdicts(_QUIET_S)]


def _require_an_orderly_end(verdicts: list[Verdict], code: int, log: str) -> str:
    verdicts = sorted(verdicts, key=lambda verdict: verdict.seq)
    judged = [verdict for verdict in verdicts if verdict.outcome != "FAULT"]
    faults = [verdict for verdict in verdicts if "engine" in verdict.reasons]
    lost = log.count("engine.lost")
    told = f"{len(judged)} parts judged, then {len(faults)} FAULT engine; engine.lost is logged {lost} times; exit code {code}"
    end = " ".join(log.split())[-400:]
    assert len(judged) >= _JUDGED, f"{told}; the GPU was not broken, since no {_JUDGED} parts were judged: {end}"
    assert code == 1, f"{told}, expected 1: {end}"
    assert faults, f"{told}: no part under way was told: {end}"
    assert lost == 1, f"{told}, expected once: {end}"
    assert judged[-1].seq < faults[-1].seq, f"{told}: a part was judged after the loss"
    missing = verdicts[-1].seq - verdicts[0].seq + 1 - len(verdicts)
    assert not missing, f"{told}: {missing} parts had no outcome"
    return told


# --- how fast the daemon is -------------------------------------------------------------------------------------------
def daemon(task: Task) -> str:
    """In turns: the bare engine, the bare plumbing on maps of the same size, and the daemon; each in the same minute."""
    rows = task.sheet("The daemon, parts/s", "round", "bare engine", "bare plumbing", "daemon", "of the slower")
    shares = []
    with tempfile.TemporaryDirectory(prefix="edge-agent-prove-") as text:
        folder = Path(text)
        with opened(task):
            pass  # its file is there now
        for turn in range(_ROUNDS):
            engine, plumbing = _bare_engine(task), _bare_plumbing(task, folder)
            slower = min(engine, plumbing)
            shutil.copytree(task.engines, folder / "state" / "engines", dirs_exist_ok=True)
            parts = max(100, int(slower * _ROUND_S))
            rate = parts / run_station(folder, task.model, {"kind": "tensorrt"}, parts)["seconds"]
            shares.append(rate / slower)
            rows.append([str(turn + 1), *(f"{each:.0f}" for each in (engine, plumbing, rate)), f"{shares[-1]:.3f}"])
    share = statistics.median(shares)
    told = f"the daemon has {share:.3f} of the slower of bare engine and bare plumbing, median of {_ROUNDS} rounds"
    assert share >= LEAST_SHARE, f"{told}; {LEAST_SHARE} is wanted"
    return told


def _bare_engine(task: Task) -> float:
    """Images/s of the stored engine alone, two pictures under way: no thread of the station's, no slots, nobody who judges."""
    settings = TensorRtEngine()
    library, gpu = load_library(settings.library), Gpu(settings.device)
    found = find_engine(settings, task.model, task.engines)
    assert found.manifest, f"{found.file} is not there"
    plan = found.file.read_bytes()[-found.manifest.bytes :]
    return measure_plan(gpu, library, plan, 1, 2 * _ROUND_S, lambda: None).images_per_s


def _bare_plumbing(task: Task, folder: Path) -> float:
    """Parts/s of the steps that follow, without the daemon, in a process of its own, as many defects as the daemon's."""
    rows, cols = task.size()
    maps = np.random.default_rng(1).integers(0, 40, (2, 1, rows, cols), dtype=np.uint8)
    maps[1, 0, rows // 3 : rows // 3 + 24, cols // 2 : cols // 2 + 24] = 230
    np.save(folder / "maps.npy", maps)
    order = [0] * 19 + [1]
    code = (
        f"import sys, numpy; from {bareloop.__name__} import parts_per_s; sys.setswitchinterval(0.0005);"
        f"print(parts_per_s(numpy.load({str(folder / 'maps.npy')!r}), {order}, {_BARE_PARTS}, {str(folder)!r}))"
    )
    with _listener(f"ipc://{folder}/bare"):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    assert ended.returncode == 0, f"the bare loop failed: {ended.stderr[-300:]}"
    return float(ended.stdout)


@contextlib.contextmanager
def _listener(endpoint: str) -> Iterator[None]:
    """A subscriber, as a gateway is one."""
    over = threading.Event()

    def listen() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.rcvtimeo, socket.linger = 100, 0
            socket.subscribe(b"")
            socket.connect(endpoint)
            while not over.is_set():
                with contextlib.suppress(zmq.Again):
                    socket.recv_multipart()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# --- the decks' table -------------------------------------------------------------------------------------------------
def benchmark(task: Task) -> str:
    """`edge-agent benchmark engine --json`, each row as it comes; what it has when the time is over counts, and is said."""
    if task.is_stand_in:
        return _stand_in_rows(task)
    require("onnx", "onnxruntime")
    names = ["engine", "precision", "batch", *COLUMNS.values()]
    table = task.sheet("Every engine, precision and batch", *names)
    command = [sys.executable, "-m", "edge_agent", "benchmark", "engine", "--json", "--model", str(task.model.onnx.parent)]
    command += ["--seconds", "1", *(["--candidates", str(ROOT / task.order.candidates)] if task.order.candidates else [])]
    rows, said = list[dict[str, Any]](), ""
    with tempfile.TemporaryFile() as errors:
        asked = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, "COLUMNS": "400"})
        for line in _lines(asked, task.until - _END_S):
            rows.append(json.loads(line))
            table.append([_cell(rows[-1][name]) for name in ("engine", "precision", "batch", *COLUMNS)])
        code = asked.poll()
        asked.kill()
        asked.wait()
        errors.seek(0)
        said = " ".join(errors.read().decode(errors="replace").split())
    told = f"{len(rows)} rows" + ("" if code is not None else ", then the time was over")
    assert code in (None, 0), f"{told}; exit code {code}: {said[-300:]}"
    assert any(row["h2d_ms"] is not None for row in rows), f"{told}, none of a GPU: {said[-600:]}"
    missing = said.count("no row of")
    assert not missing, f"{told}, {missing} are missing: {said[:600]}"
    return told


def _stand_in_rows(task: Task) -> str:
    """What the command's timing sees of the stand-in; it has one precision, and no roofline."""
    gpu, library, rows = Gpu(0), load_library(), task.sheet("The stand-in by batch", *_TIMED)
    for batch in BATCHES:
        network = network_of(task.model, batch)
        plan = build_aside(network, task.engines / "benchmark.cache", library.name, 64, 3, lambda _: None)
        timed = measure_plan(gpu, library, plan, batch, 1.0, lambda: None)
        p50, p99 = np.quantile(timed.latency_ms, (0.5, 0.99))
        figures = (p50, p99, timed.h2d_ms, timed.compute_ms, timed.d2h_ms)
        rows.append([str(batch), f"{timed.images_per_s:.0f}", *(f"{each:.4f}" for each in figures), str(timed.graph_nodes)])
        assert timed.graph_nodes, "there is no graph"
    return f"{len(BATCHES)} batches of the stand-in; `edge-agent benchmark engine` needs TensorRT"


def _lines(process: subprocess.Popen[bytes], until: float) -> Iterator[bytes]:
    """Yield lines as they come, until the end of either."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)
        process.wait()
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    while (left := until - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            return
        if not line:
            return
        yield line


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "no"
    return "" if value is None else str(value)
