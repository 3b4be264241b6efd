"""Measure this station. `plumbing`: everything but the network. `station`: the whole daemon against the bare engine.
`camera`: a GigE Vision camera against the bare C library; with --parts, software triggers followed to their pictures. `metrics`:
the daemon with metrics against without. `engine`: every engine, precision and batch here.

All print ratios of one run, since machines differ and are noisy; --json prints the same as one JSON object, of `engine` one on a
line for each row. Exit code 1 where a part is unaccounted for or memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from rich.table import Table

from edge_agent.activation import processor
from edge_agent.commands import output
from edge_agent.commands.benchmarks.camera import measure_camera
from edge_agent.commands.benchmarks.engine import measure_engines, table_of
from edge_agent.commands.benchmarks.metrics import measure_metrics
from edge_agent.commands.benchmarks.plumbing import measure_plumbing
from edge_agent.commands.benchmarks.station import measure_station
from edge_agent.commands.benchmarks.triggers import measure_triggers
from edge_agent.commands.numbers import number, whole
from edge_agent.errors import EdgeAgentError, UsageError

_MOST_S = 3600.0
_SHARE, _MODEL, _HINT, _SIZE = 0.01, "demo-texture", "throughput", "2448x2048"
MOST_GROWTH_KB = 16_384  # of resident memory, from the first quarter of a run to its end; beyond it the benchmark fails


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["plumbing", "station", "camera", "metrics", "engine"])
    parser.add_argument("--json", action="store_true", help="print one JSON object; engine: one for each row")
    parser.add_argument(
        "--parts", type=whole(), default=0, metavar="N", help="how many parts; 0 chooses; camera: software triggers"
    )
    parser.add_argument(
        "--seconds",
        type=number(0, _MOST_S),
        default=0,
        help="how long each side runs: station three times, camera five, engine each row; 0 chooses 20, 4 and 2",
    )
    plumbing = parser.add_argument_group("plumbing, metrics")
    plumbing.add_argument(
        "--ng-share", type=number(0, 1), metavar="S", help=f"the share of parts with a defect (default: {_SHARE})"
    )
    station = parser.add_argument_group("station, engine")
    model = f"a shipped model's name, or a folder with model.yaml (default: {_MODEL})"
    station.add_argument("--model", metavar="NAME_OR_DIR", help=model)
    hint = f"station: OpenVINO's hint for both (default: {_HINT})"
    station.add_argument("--hint", choices=["latency", "throughput"], help=hint)
    station.add_argument("--candidates", type=Path, metavar="DIR", help="engine: what calibrate left; without it they are made")
    camera = parser.add_argument_group("camera")
    camera.add_argument("--size", metavar="WxH", help=f"of its pictures (default: {_SIZE})")
    camera.add_argument("--rate", type=number(), default=0, metavar="FPS", help="of the simulated one; 0 is as fast as it can")
    camera.add_argument("--address", default="", metavar="IP", help="a real one's address, instead of a simulated one")
    camera.add_argument("--faults", default="", metavar="SPEC", help="with --parts: as of simulate-camera, loss=0.1 say")


def run(args: argparse.Namespace) -> int:
    _check(args)
    args.ng_share = _SHARE if args.ng_share is None else args.ng_share
    args.model, args.hint, args.size = args.model or _MODEL, args.hint or _HINT, args.size or _SIZE
    if args.what == "engine":
        return _engines(args)
    if args.what == "plumbing":
        result = measure_plumbing(args.parts or 100_000, args.ng_share)
    elif args.what == "station":
        result = measure_station(args.model, args.hint, args.seconds or 20)
    elif args.what == "metrics":
        result = measure_metrics(args.parts or 20_000, args.ng_share)
    elif args.parts:
        result = measure_triggers(args.size, args.parts, args.address, args.faults)
    else:
        result = measure_camera(args.size, args.seconds or 4, args.address, args.rate)
    result["machine"] = machine()
    result["command"] = " ".join(["edge-agent", *sys.argv[1:]])
    exit_code = 1 if result.get("unaccounted") or result.get("rss_growth_kb", 0) > MOST_GROWTH_KB else 0
    if args.json:
        print(json.dumps(result))
        return exit_code
    table = Table(title=f"benchmark {args.what}", show_header=False)
    for key, value in result.items():
        table.add_row(key, f"{value:,.3f}" if isinstance(value, float) else str(value))
    output.console().print(table)
    return exit_code


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError for what cannot be measured."""
    for word, is_given, measured in (
        ("--parts", args.parts, ("plumbing", "metrics", "camera")),
        ("--seconds", args.seconds, ("station", "camera", "engine")),
        ("--ng-share", args.ng_share is not None, ("plumbing", "metrics")),
        ("--model", args.model, ("station", "engine")),
        ("--hint", args.hint, ("station",)),
        ("--candidates", args.candidates, ("engine",)),
        ("--size", args.size, ("camera",)),
        ("--rate", args.rate, ("camera",)),
        ("--address", args.address, ("camera",)),
        ("--faults", args.faults, ("camera",)),
    ):
        if is_given and args.what not in measured:
            raise UsageError(f"{word} changes nothing of benchmark {args.what}: it is for {', '.join(measured)}. Leave it out.")
    if args.what == "camera" and args.faults and not args.parts:
        raise UsageError("--faults is for software triggers that are followed. Give --parts N beside it, or leave it out.")
    if args.what == "camera" and args.parts and (args.seconds or args.rate):
        raise UsageError("--parts follows so many software triggers, however long they take. Leave --seconds and --rate out.")


def _engines(args: argparse.Namespace) -> int:
    rows = []
    console = output.told()
    with console.status("measuring") as status:

        def tell(text: str) -> None:
            status.update(text)
            if text.startswith("no row"):
                console.print(text, highlight=False)

        for row in measure_engines(args.model, args.seconds or 2, args.candidates, tell):
            rows.append(row | {"machine": machine()})
            if args.json:
                print(json.dumps(rows[-1]), flush=True)
    if not rows:
        raise EdgeAgentError("no engine could be measured here. See above for what each lacks.")
    if not args.json:
        output.console().print(table_of(rows))
    return 0


def machine() -> str:
    """The processor and how many of it this process may use."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} x {processor()}, Linux {platform.release()}, Python {platform.python_version()}"
