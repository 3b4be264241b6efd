"""The doctor's findings and how they read: what was looked at, how it is, what to do. The looks themselves are beside this file."""

from __future__ import annotations

import msgspec
from rich.text import Text

from edge_agent.commands.output import Printer

WELL, NOTE, PROBLEM = "well", "note", "problem"
_STYLES = {WELL: "green", NOTE: "yellow", PROBLEM: "bold red"}
_MARKS = {WELL: "well", NOTE: "note", PROBLEM: "PROBLEM"}


class Look(msgspec.Struct, frozen=True):
    """One thing looked at. A note costs something or leaves something open; a problem keeps the station from its work."""

    area: str
    level: str
    told: str
    remedy: str = ""


def well(area: str, told: str) -> Look:
    return Look(area, WELL, told)


def note(area: str, told: str, remedy: str) -> Look:
    return Look(area, NOTE, told, remedy)


def problem(area: str, told: str, remedy: str) -> Look:
    return Look(area, PROBLEM, told, remedy)


def show(looks: list[Look]) -> None:
    """One line for each look, its remedy below it; the mark in colour on a terminal. Never wraps: paths are for copying."""
    console = Printer(highlight=False, soft_wrap=True)
    width = max((len(look.area) for look in looks), default=0)
    for look in looks:
        mark = Text(f"{_MARKS[look.level]:<8}", _STYLES[look.level])
        console.print(Text.assemble(mark, (f"{look.area:<{width}}  ", "bold"), look.told))
        if look.remedy and look.level != WELL:
            console.print(Text.assemble(" " * (8 + width + 2), ("Remedy: ", "italic"), look.remedy))


def summary(problems: int, notes: int) -> str:
    """The last line: how many of each."""
    found = f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem found"
    return f"{found}, {notes} note{'s' * (notes != 1)}" if notes else found
