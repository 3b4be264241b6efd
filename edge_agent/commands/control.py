"""Ask a running daemon: its status, a software trigger, another recipe, online, offline or shadow."""

from __future__ import annotations

import argparse
import json

from edge_agent.errors import UsageError
from edge_agent.plc.gateway import ask
from edge_agent.wire import Request

_NEEDS = {"recipe": "the recipe's name", "mode": "online, offline or shadow"}
_ANSWER_S, _BUILD_S = 3.0, 60.0  # a new recipe may need an engine warmed up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", default="tcp://127.0.0.1:5557", metavar="URL", help="the station's control address")
    parser.add_argument("op", choices=["status", "trigger", "recipe", "mode"])
    parser.add_argument("value", nargs="?", default="", help="the part id, the recipe's name, or online, offline or shadow")
    parser.add_argument("--line", default="", help="the line's name; may be left out where there is but one")


def _only_line(connect: str) -> str:
    """The station's line. Raises UsageError where there are several."""
    lines = list(ask(connect, Request(op="status"), timeout_s=_ANSWER_S).status["lines"])
    if len(lines) > 1:
        raise UsageError(f"this station has the lines {', '.join(lines)}. Name one with --line.")
    return str(lines[0])


def run(args: argparse.Namespace) -> int:
    if args.op in _NEEDS and not args.value:
        raise UsageError(f"{args.op} needs {_NEEDS[args.op]}: edge-agent control {args.op} VALUE")
    line = args.line or ("" if args.op == "status" else _only_line(args.connect))
    request = Request(op=args.op, line=line, part_id=args.value, name=args.value, mode=args.value)
    reply = ask(args.connect, request, timeout_s=_BUILD_S if args.op == "recipe" else _ANSWER_S)
    if not reply.ok:
        print(reply.error)
        return 1
    print(json.dumps(reply.status, indent=2) if args.op == "status" else "ok")
    return 0
