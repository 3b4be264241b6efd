"""How a command finds the station that runs: by `--connect URL`, or by `--config FILE`, whose settings name the address."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Literal

import yaml

from edge_agent.errors import DeliveryError
from edge_agent.plc.gateway import ask
from edge_agent.settings import PlcSettings
from edge_agent.wire import Reply, Request

End = Literal["control", "verdicts"]  # its key among the settings' `plc`
ANSWER_S = 3.0
OTHERWISE = "Another address: --config or --connect."
_DEFAULTS = {"control": PlcSettings().control, "verdicts": PlcSettings().verdicts}


def add_arguments(parser: argparse.ArgumentParser, end: End = "control") -> None:
    """Let the user say where the station is."""
    where = parser.add_mutually_exclusive_group()
    name = end.removesuffix("s")
    where.add_argument("--connect", metavar="URL", help=f"the station's {name} address; without both {_DEFAULTS[end]}")
    where.add_argument("--config", type=Path, metavar="FILE", help="its settings, which name that address")


def address(args: argparse.Namespace, end: End = "control") -> str:
    """Where the user says that the station is. Whatever else is wrong with its settings is for the daemon to say."""
    if args.config is None:
        return args.connect or _DEFAULTS[end]
    return of_this_machine(_named(args.config, end) or _DEFAULTS[end])


def _named(file: Path, end: End) -> str:
    """The address in these settings, by its line alone where something keeps the rest from being read; '' where there is none."""
    try:
        text = file.read_bytes().decode(errors="replace")
    except OSError:
        return ""
    try:
        named = yaml.safe_load(text)["plc"][end]
        return named if isinstance(named, str) else ""
    except (ValueError, yaml.YAMLError, LookupError, TypeError):
        found = re.search(rf"^[^#\n]*\b{end}:\s*[\"']?((tcp|ipc)://[^\s\"',}}#]+)", text, re.MULTILINE)
        return found[1] if found else ""


def of_this_machine(endpoint: str) -> str:
    """Where to connect to what listens there: at every address of this machine is at its own, too."""
    return endpoint.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:")


def ask_station(args: argparse.Namespace, request: Request, timeout_s: float = ANSWER_S) -> Reply:
    """Send one request and return its reply. Raises DeliveryError, saying where else to look, where none comes in time."""
    try:
        return ask(address(args), request, timeout_s=timeout_s)
    except DeliveryError as error:
        changed = "" if args.config is None else " Where its plc.control was changed since it started, restart it."
        raise DeliveryError(f"{error}{changed} {OTHERWISE}") from None
