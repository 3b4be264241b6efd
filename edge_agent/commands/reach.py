"""How a command finds the station that runs: by `--connect URL`, or by `--config FILE`, whose settings name the address."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Literal

import yaml

from edge_agent.errors import DeliveryError, UsageError
from edge_agent.plc.gateway import ask
from edge_agent.security import ClientKeys, client_keys, read_pair
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
    where.add_argument("--config", type=Path, metavar="FILE", help="its settings, which name that address, and its keys")
    parser.add_argument("--secret-key", type=Path, metavar="FILE", help="with --connect: encrypt, with the keys of this file")
    parser.add_argument("--server-key", type=Path, metavar="FILE", help="with --connect: the station's public key")


def address(args: argparse.Namespace, end: End = "control") -> str:
    """Where the user says that the station is. Whatever else is wrong with its settings is for the daemon to say."""
    if args.config is None:
        return args.connect or _DEFAULTS[end]
    return of_this_machine(_named(args.config, end) or _DEFAULTS[end])


def keys(args: argparse.Namespace) -> ClientKeys | None:
    """What to encrypt with: the keys named, or those of the settings' station, which takes itself for a client. Raises
    ConfigurationError, UsageError."""
    if args.config is not None:
        named = _named(args.config, "curve", "secret_key")
        return read_pair(args.config.resolve().parent / named).to_itself() if named else None
    if (args.secret_key is None) != (args.server_key is None):
        raise UsageError("--secret-key and --server-key go together: our own keys, and the station's.")
    return None if args.secret_key is None else client_keys(args.secret_key, args.server_key)


def _named(file: Path, *keys: str) -> str:
    """What stands below `plc` in these settings, by its line alone where something keeps the rest from being read; '' where there
    is nothing."""
    try:
        text = file.read_bytes().decode(errors="replace")
    except OSError:
        return ""
    try:
        named = yaml.safe_load(text)["plc"]
        for key in keys:
            named = named[key]
        return named if isinstance(named, str) else ""
    except (ValueError, yaml.YAMLError):
        return _by_its_line(text, keys[-1])
    except (LookupError, TypeError):
        return _by_its_line(text, keys[-1]) if len(keys) == 1 else ""  # a `secret_key` may be the uplink's


def _by_its_line(text: str, key: str) -> str:
    section = re.search(r"^plc:.*(\n([ \t#].*)?)*", text, re.MULTILINE)
    found = re.search(rf"^[^#\n]*\b{key}:\s*[\"']?([^\s\"',{{}}#]+)", section[0] if section else text, re.MULTILINE)
    return found[1] if found else ""


def of_this_machine(endpoint: str) -> str:
    """Where to connect to what listens there: at every address of this machine is at its own, too."""
    return endpoint.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:")


def ask_station(args: argparse.Namespace, request: Request, timeout_s: float = ANSWER_S) -> Reply:
    """Send one request and return its reply. Raises DeliveryError, saying where else to look, where none comes in time."""
    try:
        return ask(address(args), request, timeout_s=timeout_s, keys=keys(args))
    except DeliveryError as error:
        changed = "" if args.config is None else " Where its plc.control was changed since it started, restart it."
        raise DeliveryError(f"{error}{changed} {OTHERWISE}") from None
