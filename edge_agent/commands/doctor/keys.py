"""The keys by which the station, its clients and its collector know each other: are they there, and what they should be?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.doorkeeper import names_of
from edge_agent.errors import ConfigurationError, Problem
from edge_agent.security import read_pair, read_public
from edge_agent.settings import Station
from edge_agent.strictyaml import Document, Keys

_READ: dict[str, Callable[[Path], object]] = {"secret_key": read_pair, "clients": names_of, "server_key": read_public}


def keys_of(station: Station) -> Iterator[tuple[Keys, Path]]:
    """Every file and folder of keys that the settings name."""
    for section in ("plc", "uplink"):
        curve = getattr(station.settings, section).curve
        for key in curve.__struct_fields__ if curve is not None else ():
            yield (section, "curve", key), station.path(getattr(curve, key))


def check_keys(station: Station, document: Document) -> tuple[list[Problem], list[Problem]]:
    """Problems of keys that cannot be used; and a warning where no client is known."""
    problems, warnings = [], []
    for keys, file in keys_of(station):
        try:
            if not _READ[str(keys[-1])](file):
                message = f"names {file}, which holds nobody's key: only commands with these settings can connect."
                warnings.append(document.problem(keys, message, "copy the .key file of each client there."))
        except ConfigurationError as error:
            problems += [document.problem(keys, f"names {told.file}, which {told.message}", told.remedy) for told in error.problems]
    return problems, warnings
