"""What commands print: as wide as the terminal, and as wide as it is where the output goes elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console

_UNBOUNDED = 100_000  # columns: nothing is cut or broken on its way into a file or another program


def told() -> Console:
    """For standard error, beside progress: what is said is printed as it is, `[gpu]` of a package's extras too."""
    return Console(stderr=True, highlight=False, markup=False)


def console() -> Console:
    """For standard output."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED)
