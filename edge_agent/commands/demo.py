"""See the whole station work on drawn parts: the real daemon, a real collector and a real subscriber, each a process.

The truth of every drawn part follows from the camera's seed, so slips and false rejects are counted here, outside the
daemon. Leaves summary.json, results.jsonl, contact_sheet.png and the collector's store in the output folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_agent.camera.texture import PartTruth, truth_of
from edge_agent.camera_settings import SyntheticCamera
from edge_agent.commands.aside import program
from edge_agent.commands.contactsheet import write_contact_sheet
from edge_agent.commands.numbers import whole
from edge_agent.commands.output import console
from edge_agent.commands.replay import result_of
from edge_agent.errors import ConfigurationError, EdgeAgentError, UsageError
from edge_agent.plc.gateway import Gateway
from edge_agent.recipe import load_recipe
from edge_agent.records import NG, PASS
from edge_agent.settings import Station, load_station
from edge_agent.wire import Verdict

_CONFIG = Path(__file__).parents[2] / "config" / "demo.yaml"
_PATIENCE_S = 90
_LEFT = {"state", "collector", "collector.log", "daemon.log", "daemon.json", "summary.json", "results.jsonl", "contact_sheet.png"}
_STYLES = {"PASS": "green", "NG": "red", "FAULT": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=_CONFIG, metavar="FILE")
    parser.add_argument("--parts", type=whole(1), default=60, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")


def run(args: argparse.Namespace) -> int:
    if not args.config.exists():
        raise ConfigurationError(f"{args.config} does not exist; run the demo in a checkout, or name a file with --config.")
    out = args.out.resolve()
    overrides = [f"state={out / 'state'}", *args.overrides]
    station = load_station(args.config, overrides)
    _make_room(out)
    verdicts = _run_station(station, args, out, overrides)
    summary = json.loads((out / "daemon.json").read_text())
    camera = station.settings.cameras[0]
    truths = _truths(camera, len(verdicts)) if isinstance(camera, SyntheticCamera) else []
    if truths:
        summary["slips"], summary["false_rejects"] = score(verdicts, truths)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _write_results(verdicts, out)
    recipe = load_recipe(station.path(station.settings.recipes) / f"{station.settings.lines[0].each_view[0].recipe}.yaml")
    write_contact_sheet(out / "contact_sheet.png", out / "collector", verdicts, truths, recipe)
    _print_table(summary, out)
    return 0 if summary["outcomes"] == args.parts == len(verdicts) else 1


def _make_room(out: Path) -> None:
    """Remove what an earlier demo left. Raises UsageError, with nothing removed, where anything else lies there."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is no folder. Name another.")
    strange = sorted(file.name for file in out.iterdir() if file.name not in _LEFT) if out.exists() else []
    if strange:
        some = ", ".join(strange[:3])
        raise UsageError(f"--out {out} holds {some}, which no demo left there; nothing was removed. Name another folder.")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)


def _run_station(station: Station, args: argparse.Namespace, out: Path, overrides: list[str]) -> list[Verdict]:
    """Start collector and daemon, listen until every part is heard, stop both; return the verdicts by sequence."""
    plc, collector = station.settings.plc, station.settings.uplink.collector
    assert collector is not None
    settings = [word for override in overrides for word in ("--set", override)]
    collect = ["collect", "--bind", collector, "--store", str(out / "collector")]
    inspect = [
        "run",
        "--config",
        str(args.config),
        "--parts",
        str(args.parts),
        "--summary",
        str(out / "daemon.json"),
        *settings,
    ]
    with program(collect, out / "collector.log") as collecting, Gateway(plc.verdicts, plc.control) as gateway:
        with program(inspect, out / "daemon.log") as daemon:
            verdicts = _listen(gateway, daemon, args.parts, out)
            daemon.wait(timeout=_PATIENCE_S)
        collecting.send_signal(signal.SIGTERM)
        collecting.wait(timeout=10)
    return sorted(verdicts, key=lambda verdict: verdict.seq)


def _listen(gateway: Gateway, daemon: subprocess.Popen[bytes], parts: int, out: Path) -> list[Verdict]:
    heard: list[Verdict] = []
    columns = (
        TextColumn("[bold]inspecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    until = time.monotonic() + _PATIENCE_S
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=parts, last="starting")
        while len(heard) < parts and time.monotonic() < until:
            for verdict in gateway.verdicts(0.2):
                heard.append(verdict)
                why = ", ".join(verdict.reasons)
                progress.update(task, advance=1, last=f"[{_STYLES[verdict.outcome]}]{verdict.outcome}[/] {why}")
            if daemon.poll() not in (None, 0):
                raise EdgeAgentError(
                    f"the daemon ended with exit code {daemon.returncode}:\n{(out / 'daemon.log').read_text()[-2000:]}"
                )
    return heard


def _truths(camera: SyntheticCamera, parts: int) -> list[PartTruth]:
    """What was drawn: part n of the line is number n - 1 of the camera."""
    return [
        truth_of(camera.seed, index, defect_share=camera.defect_share, empty_share=camera.empty_share) for index in range(parts)
    ]


def score(verdicts: list[Verdict], truths: list[PartTruth]) -> tuple[int, int]:
    """Return slips (a defective part or an empty belt that passed) and false rejects (a good part judged NG)."""
    pairs = [(verdict.outcome, truths[verdict.seq - 1].kind) for verdict in verdicts]
    return sum(o == PASS and kind != "good" for o, kind in pairs), sum(o == NG and kind == "good" for o, kind in pairs)


def _write_results(verdicts: list[Verdict], out: Path) -> None:
    with open(out / "results.jsonl", "wb") as file:
        for verdict in verdicts:
            file.write(msgspec.json.encode(result_of(verdict, f"{verdict.seq:04d}")) + b"\n")


def _print_table(summary: dict[str, Any], out: Path) -> None:
    latency = summary["latency_ms"]
    table = Table(title="What the station did")
    for column in (
        "parts",
        "PASS",
        "NG",
        "FAULT",
        "slips",
        "false rejects",
        "latency p50",
        "latency p99",
        "stored",
    ):
        table.add_column(column, justify="right")
    counts = [summary[key] for key in ("outcomes", "pass", "ng", "fault", "slips", "false_rejects")]
    times = [f"{latency[key]:.1f} ms" if latency[key] is not None else "-" for key in ("p50", "p99")]
    table.add_row(*map(str, counts), *times, str(summary["acknowledged"]))
    console().print(table)
    for name in ("contact_sheet.png", "results.jsonl", "summary.json", "collector"):
        print(f"  {out / name}")
