"""Make a pair of keys: NAME.key for the other ends, NAME.key_secret for this one. docs/security.md tells where they go."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.security import make_keys
from edge_agent.wire import NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="whose keys: a station's as its settings call it, so that its collector knows it")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the folder to write them to")


def run(args: argparse.Namespace) -> int:
    if not NAME.match(args.name):
        raise UsageError(f"a pair of keys cannot be called {args.name!r}: give letters, digits, dots, dashes and underscores.")
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        public, secret = make_keys(args.out, args.name)
    except FileExistsError as error:
        lost = "Who was given it would not know this end any more"
        raise EdgeAgentError(f"{error.filename} is there already. {lost}: choose another name, or remove it.") from None
    print(f"{secret}: stays here, and is nobody else's\n{public}: copy it to the other ends")
    return 0
