"""Show verdicts live, one line each; with --json as they come over the wire."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from edge_agent.plc.gateway import Gateway
from edge_agent.wire import Verdict, verdict_json

_STYLES = {"PASS": "green", "NG": "bold red", "FAULT": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", default="tcp://127.0.0.1:5556", metavar="URL", help="the station's verdict address")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="stop after N verdicts; 0 is never")
    parser.add_argument("--timeout", type=float, default=0, metavar="S", help="stop with exit code 1 after S seconds; 0 is never")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    shown = 0
    print(f"listening on {args.connect}", file=sys.stderr)
    with Gateway(args.connect) as gateway:
        for verdict in gateway.verdicts(args.timeout or 1e9):
            if args.json:
                sys.stdout.write(verdict_json(verdict).decode() + "\n")
                sys.stdout.flush()
            else:
                console.print(describe(verdict), style=_STYLES.get(verdict.outcome, ""))
            shown += 1
            if args.count and shown >= args.count:
                return 0
    return 1


def describe(verdict: Verdict) -> str:
    """One line that an operator can read across the hall."""
    why = f"  {', '.join(verdict.reasons)}" if verdict.reasons else ""
    blobs = f"  {len(verdict.blobs)} blob{'s' * (len(verdict.blobs) > 1)}" if verdict.blobs else ""
    shadow = "  (shadow)" if verdict.shadow else ""
    head = f"{verdict.line} {verdict.seq:>7} {verdict.part_id:<12} {verdict.outcome:<5} {verdict.latency_ms:7.1f} ms"
    return f"{head}{why}{blobs}{shadow}"
