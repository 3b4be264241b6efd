"""Show verdicts live, one line each; with --json as they come over the wire."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from edge_agent.commands import reach
from edge_agent.commands.numbers import MOST_S, number, whole
from edge_agent.commands.output import console
from edge_agent.errors import DeliveryError, Refused
from edge_agent.plc.gateway import Gateway, ask
from edge_agent.security import ClientKeys
from edge_agent.wire import Request, Verdict, verdict_json

_STYLES = {"PASS": "green", "NG": "bold red", "FAULT": "yellow"}
_NEVER_S = 1e9
_LOOK_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    reach.add_arguments(parser, "verdicts")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=whole(), default=0, metavar="N", help="stop after N verdicts; 0 is never")
    parser.add_argument(
        "--timeout", type=number(0, MOST_S), default=0, metavar="S", help="stop with exit code 1 after S seconds; 0 is never"
    )


def run(args: argparse.Namespace) -> int:
    out = console()
    shown = 0
    address, keys = reach.address(args, "verdicts"), reach.keys(args)
    print(f"listening on {address}", file=sys.stderr)
    with Gateway(address, keys=keys) as gateway:
        for verdict in _verdicts(gateway, address, keys, args.timeout or _NEVER_S):
            if args.json:
                sys.stdout.write(verdict_json(verdict).decode() + "\n")
                sys.stdout.flush()
            else:
                out.print(describe(verdict), style=_STYLES.get(verdict.outcome, ""))
            shown += 1
            if args.count and shown >= args.count:
                return 0
    return 1


def _verdicts(gateway: Gateway, address: str, keys: ClientKeys | None, timeout_s: float) -> Iterator[Verdict]:
    """Every verdict for so long; where the station gives no sign of life soon, that is told."""
    soon_s = min(timeout_s, reach.ANSWER_S)
    yield from gateway.verdicts(soon_s)
    if not gateway.heartbeat:
        print(f"no heartbeat from {address} within {soon_s:g} s. {_why_none(address, keys)} {reach.OTHERWISE}", file=sys.stderr)
    yield from gateway.verdicts(timeout_s - soon_s)


def _why_none(address: str, keys: ClientKeys | None) -> str:
    """What may be wrong where no heartbeat comes from."""
    try:
        ask(address, Request(op="status"), _LOOK_S, keys)
    except Refused as error:
        return f"{error}"
    except DeliveryError:
        return "Is the daemon running there?"
    return "The daemon's control socket is there: verdicts come from the address of its plc.verdicts."


def describe(verdict: Verdict) -> str:
    """One line that an operator can read across the hall."""
    why = f"  {', '.join(verdict.reasons)}" if verdict.reasons else ""
    blobs = f"  {len(verdict.blobs)} blob{'s' * (len(verdict.blobs) > 1)}" if verdict.blobs else ""
    shadow = "  (shadow)" if verdict.shadow else ""
    head = f"{verdict.line} {verdict.seq:>7} {verdict.part_id:<12} {verdict.outcome:<5} {verdict.latency_ms:7.1f} ms"
    return f"{head}{why}{blobs}{shadow}"
