"""Prove with master parts that the line still tells bad from good. With --part the next part of the line is that master part: bring
it within the line's `bring_min`, or take it back with --cancel. Without both, the stored pictures of the line's master parts are
judged now.

What comes out is in the log and on the shadow topic, and with --wait it is printed, with exit code 1 where one came out wrong.
Until all came out right a failed line stays not ready, see `control status`. Where a part that was brought came out wrong,
pictures do not end that: all master parts have to be brought.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from edge_agent.commands import reach
from edge_agent.commands.numbers import MOST_S, number
from edge_agent.wire import Request

_LOOK_S = 0.2
_WAIT_S = 60.0

Standing = dict[str, Any]  # a line's challenge, as `status` tells it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reach.add_arguments(parser)
    parser.add_argument("--line", required=True, help="the line's name")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cancel", action="store_true", help="the next part is none of the master parts after all")
    which.add_argument("--part", default="", metavar="NAME", help="the master part that comes next; without it the stored pictures")
    told = f"wait until that was judged, {_WAIT_S:g} s without S; exit code 1 where it came out wrong, or not at all"
    parser.add_argument("--wait", nargs="?", type=number(0, MOST_S), const=_WAIT_S, default=0.0, metavar="S", help=told)


def run(args: argparse.Namespace) -> int:
    reply = reach.ask_station(args, Request(op="challenge", line=args.line, name=args.part, reset=args.cancel))
    if not reply.ok:
        print(reply.error)
        return 1
    if args.cancel:
        print(f"the next part of line {args.line} is judged as any other")
        return 0
    if args.part:
        print(f"bring {args.part}: the next part of line {args.line} is judged as this master part", flush=True)
    else:
        print("the pictures are judged now", flush=True)
        if reply.status["bring"]:
            print(f"they do not let the line go: {reply.status['remedy']}", flush=True)
    return _await(args, reply.status) if args.wait > 0 else 0


def _await(args: argparse.Namespace, before: Standing) -> int:
    """Print what comes out of each master part that was asked for, as it does; 0 where all were right in time."""
    until = time.monotonic() + args.wait
    waiting = [args.part] if args.part else [name for name, part in before["parts"].items() if part["has_image"]]
    wrong = 0
    while waiting and time.monotonic() < until:
        time.sleep(_LOOK_S)
        now: Standing = reach.ask_station(args, Request(op="status")).status["challenges"][args.line]
        for name in [name for name in waiting if now["parts"][name]["judged"] != before["parts"][name]["judged"]]:
            waiting.remove(name)
            part = now["parts"][name]
            print(f"{name}: {part['came']}, {'right' if part['is_right'] else 'WRONG'}", flush=True)
            wrong += not part["is_right"]
    for name in waiting:
        print(f"{name} was not judged")
    return 1 if wrong or waiting else 0
