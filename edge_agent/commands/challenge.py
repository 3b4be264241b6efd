"""Prove with master parts that the line still tells bad from good. With --part the next part of the line is that master part: bring
it within the line's `bring_min`, or take it back with --cancel. Without both, the stored pictures of the line's master parts are
judged now.

What comes out is in the log and on the shadow topic; until all came out right a failed line stays not ready, see `control status`.
Where a part that was brought came out wrong, pictures do not end that: all master parts have to be brought.
"""

from __future__ import annotations

import argparse

from edge_agent.commands import reach
from edge_agent.wire import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reach.add_arguments(parser)
    parser.add_argument("--line", required=True, help="the line's name")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cancel", action="store_true", help="the next part is none of the master parts after all")
    which.add_argument("--part", default="", metavar="NAME", help="the master part that comes next; without it the stored pictures")


def run(args: argparse.Namespace) -> int:
    reply = reach.ask_station(args, Request(op="challenge", line=args.line, name=args.part, reset=args.cancel))
    if not reply.ok:
        print(reply.error)
        return 1
    if args.cancel:
        print(f"the next part of line {args.line} is judged as any other")
    elif args.part:
        print(f"bring {args.part}: the next part of line {args.line} is judged as this master part")
    else:
        print("the pictures are judged now")
        if reply.status.get("bring"):
            print(f"they do not let the line go: {reply.status['remedy']}")
    return 0
