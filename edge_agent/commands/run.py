"""Inspect: the daemon itself. Runs until SIGTERM or SIGINT, then finishes the parts in flight."""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path

from edge_agent import process
from edge_agent.commands.numbers import whole
from edge_agent.daemon import Daemon
from edge_agent.plc.partlog import PartLog
from edge_agent.settings import load_station


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the station's settings")
    parser.add_argument("--parts", type=whole(), default=0, metavar="N", help="drain and exit after N outcomes; 0 is never")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the counters as JSON at the end")


def run(args: argparse.Namespace) -> int:
    process.listen_for_reload(reload := threading.Event())
    station = load_station(args.config, args.overrides)
    daemon = Daemon(station, parts=args.parts, reload=reload)
    daemon.publisher.part_log = PartLog(station.settings.log.parts_per_s)
    summary = daemon.run()
    if args.summary:
        args.summary.write_text(json.dumps(summary, indent=2) + "\n")
    return 0
