"""Have a line take a part now: its camera, where that has a software trigger; else the part is announced: the picture
triggered within the line's `announce_window_ms` of it is its own, and where none is, it is FAULT no_frame."""

from __future__ import annotations

import argparse

from edge_agent.commands import control, reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part_id", nargs="?", default="", metavar="PART_ID", help="what the verdict is to call it")
    reach.add_arguments(parser)
    parser.add_argument("--line", default="", help="the line's name; may be left out where there is but one")


def run(args: argparse.Namespace) -> int:
    return control.run(argparse.Namespace(**vars(args), op="trigger", value=args.part_id))
