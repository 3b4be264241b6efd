"""Ask a running daemon: its status, a software trigger, another recipe, everything read again, online, offline or shadow."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from edge_agent.errors import DeliveryError, UsageError
from edge_agent.plc.gateway import ask
from edge_agent.wire import Request

_NEEDS = {"recipe": "the recipe's name", "mode": "online, offline or shadow"}
_DEFAULT = "tcp://127.0.0.1:5557"
_ANSWER_S = 3.0
_LONG_S = {"recipe": 60.0, "reload": 280.0}  # an engine may have to be warmed up, or built


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--connect", default=_DEFAULT, metavar="URL", help="the station's control address")
    where.add_argument("--config", type=Path, metavar="FILE", help="its settings, which name that address")
    parser.add_argument("op", choices=["status", "trigger", "recipe", "reload", "mode"])
    parser.add_argument("value", nargs="?", default="", help="the part id, the recipe's name, or online, offline or shadow")
    parser.add_argument("--line", default="", help="the line's name; may be left out where there is but one")


def address_in(settings: Path) -> str:
    """The control address that the settings name, or the default. Whatever else is wrong with them is for the daemon to say."""
    try:
        named = yaml.safe_load(settings.read_text(encoding="utf-8"))["plc"]["control"]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return _DEFAULT
    return named.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:") if isinstance(named, str) else _DEFAULT


def _only_line(connect: str) -> str:
    """The station's line. Raises UsageError where there are several."""
    lines = list(ask(connect, Request(op="status"), timeout_s=_ANSWER_S).status["lines"])
    if len(lines) > 1:
        raise UsageError(f"this station has the lines {', '.join(lines)}. Name one with --line.")
    return str(lines[0])


def run(args: argparse.Namespace) -> int:
    if args.op in _NEEDS and not args.value:
        raise UsageError(f"{args.op} needs {_NEEDS[args.op]}: edge-agent control {args.op} VALUE")
    connect = args.connect if args.config is None else address_in(args.config)
    line = args.line or ("" if args.op in ("status", "reload") else _only_line(connect))
    request = Request(op=args.op, line=line, part_id=args.value, name=args.value, mode=args.value)
    try:
        reply = ask(connect, request, timeout_s=_LONG_S.get(args.op, _ANSWER_S))
    except DeliveryError as error:
        if args.config is None:
            raise
        raise DeliveryError(f"{error} Where its plc.control was changed since it started, restart it.") from None
    if not reply.ok:
        print(reply.error)
        return 1
    print(json.dumps(reply.status, indent=2) if args.op == "status" else "ok")
    return 0
