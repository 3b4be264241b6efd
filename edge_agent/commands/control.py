"""Ask a running daemon: its status, a software trigger, another recipe, online, offline or shadow."""

from __future__ import annotations

import argparse
import json

from edge_agent.plc.gateway import ask
from edge_agent.wire import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", default="tcp://127.0.0.1:5557", metavar="URL", help="the station's control address")
    parser.add_argument("op", choices=["status", "trigger", "recipe", "mode"])
    parser.add_argument("value", nargs="?", default="", help="the part id, the recipe's name, or online, offline or shadow")
    parser.add_argument("--line", default="", help="the line's name; may be left out for status")


def run(args: argparse.Namespace) -> int:
    request = Request(op=args.op, line=args.line, part_id=args.value, name=args.value, mode=args.value)
    reply = ask(args.connect, request, timeout_s=30)
    if not reply.ok:
        print(reply.error)
        return 1
    print(json.dumps(reply.status, indent=2) if args.op == "status" else "ok")
    return 0
