"""Show what the current shift and lot came to, line by line: PASS, NG by rule, FAULT by reason, yield.

--reset begins a new shift, --lot NAME a new lot; what is shown is then what the old ones came to. Shadow parts do not count.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any

from rich.table import Table

from edge_agent.commands import reach
from edge_agent.commands.output import console
from edge_agent.plc.parts import SHADOW
from edge_agent.wire import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reach.add_arguments(parser)
    parser.add_argument("--line", default="", help="the line's name; without it all lines")
    parser.add_argument("--reset", action="store_true", help="begin a new shift")
    parser.add_argument("--lot", default="", metavar="NAME", help="begin a new lot of this name")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    reply = reach.ask_station(args, Request(op="counters", line=args.line, name=args.lot, reset=args.reset))
    if not reply.ok:
        print(reply.error)
        return 1
    if args.json:
        print(json.dumps(reply.status))
        return 0
    modes = reach.ask_station(args, Request(op="status")).status["lines"]
    table = Table("line", "", "since", "parts", "PASS", "NG", "FAULT", "yield", "why", box=None)
    for line, periods in reply.status.items():
        for period, tally in periods.items():
            *numbers, why = _row(tally)
            uncounted = "(shadow: not counted)" if modes[line]["mode"] == SHADOW else ""
            table.add_row(line, f"{period} {tally['name']}".strip(), *numbers, f"{why} {uncounted}".strip())
    console().print(table)
    return 0


def _row(tally: dict[str, Any]) -> list[str]:
    since = datetime.fromtimestamp(tally["since_us"] / 1e6).strftime("%Y-%m-%d %H:%M:%S")
    counts = [str(tally[key]) for key in ("parts", "PASS", "NG", "FAULT")]
    share = "" if tally["yield"] is None else f"{tally['yield']:.1%}"
    why = sorted({**tally["rules"], **tally["faults"]}.items(), key=lambda each: -each[1])
    return [since, *counts, share, ", ".join(f"{reason} {n}" for reason, n in why)]
