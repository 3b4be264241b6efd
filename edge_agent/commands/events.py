"""List every event that the log can have: level, meaning, what to do. docs/events.md holds the table that --markdown prints."""

from __future__ import annotations

import argparse

from rich.table import Table

from edge_agent.commands.output import console
from edge_agent.events import EVENTS, as_markdown

_STYLES = {"error": "bold red", "warning": "yellow", "info": "", "debug": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="the table of docs/events.md")


def run(args: argparse.Namespace) -> int:
    if args.markdown:
        print(as_markdown())
        return 0
    table = Table("event", "level", "meaning", "remedy", box=None)
    for name, event in EVENTS.items():
        table.add_row(name, event.level, event.meaning, event.remedy, style=_STYLES[event.level])
    console().print(table)
    return 0
