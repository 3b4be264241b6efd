"""Ask a running daemon: its status, a software trigger, another recipe, everything read again, online, offline or shadow."""

from __future__ import annotations

import argparse
import json

from edge_agent.commands import reach
from edge_agent.errors import UsageError
from edge_agent.events import UNPASSABLE
from edge_agent.wire import Reply, Request

_NEEDS = {"recipe": "the recipe's name", "mode": "online, offline or shadow"}
_LONG_S = {"recipe": 280.0, "reload": 280.0}  # an engine may have to be warmed up, or built


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reach.add_arguments(parser)
    parser.add_argument("op", choices=["status", "trigger", "recipe", "reload", "mode"])
    parser.add_argument("value", nargs="?", default="", help="the part id, the recipe's name, or online, offline or shadow")
    parser.add_argument("--line", default="", help="the line's name; may be left out where there is but one")


def _line(args: argparse.Namespace) -> str:
    """The line that is meant: the one named, or the station's only one. Raises UsageError where there are several.

    Raises DeliveryError where what may take long is asked of a station that does not answer at all."""
    if args.op == "status" or (args.line and args.op not in _LONG_S):
        return str(args.line)
    lines = list(reach.ask_station(args, Request(op="status")).status["lines"])
    if len(lines) > 1 and not args.line and args.op != "reload":
        raise UsageError(f"this station has the lines {', '.join(lines)}. Name one with --line.")
    return str(args.line or lines[0])


def run(args: argparse.Namespace) -> int:
    if args.op in _NEEDS and not args.value:
        raise UsageError(f"{args.op} needs {_NEEDS[args.op]}: edge-agent control {args.op} VALUE")
    request = Request(op=args.op, line=_line(args), part_id=args.value, name=args.value, mode=args.value)
    reply = reach.ask_station(args, request, timeout_s=_LONG_S.get(args.op, reach.ANSWER_S))
    if not reply.ok:
        print(reply.error)
        return 1
    print(json.dumps(reply.status, indent=2) if args.op == "status" else _told(args.op, reply))
    return 0


def _told(op: str, reply: Reply) -> str:
    """That it was done; where the recipe is another also why no challenge can be passed by it, and after a reload what of the
    settings it does not change."""
    restart, unpassable = reply.status.get("restart", []), reply.status.get("challenge", {}) if op in _LONG_S else {}
    told = [f"restart to apply: {', '.join(restart)}"] if restart else []
    told += [f"no challenge of line {name} can be passed: {why}. Remedy: {UNPASSABLE}." for name, why in unpassable.items()]
    return "; ".join(["ok", *told])
