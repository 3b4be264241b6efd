"""What commands print, and the folder they leave files in. They print as wide as the terminal, and as wide as it is elsewhere."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from edge_agent.errors import EdgeAgentError, UsageError, remedy_of

_LISTED = 5
_UNBOUNDED = 100_000  # columns: nothing is cut or broken on its way into a file or another program


class Printer(Console):
    """rich's own ends the process with code 1 where the reader goes (`| head`), whatever the command found."""

    def on_broken_pipe(self) -> None:
        """Called where a BrokenPipeError is caught: let it go on, to `cli.py`."""
        raise


def told() -> Console:
    """For standard error, beside progress: what is said is printed as it is, `[gpu]` of a package's extras too."""
    return Console(stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _UNBOUNDED)


def warn(console: Console, words: str) -> None:
    """Print what a person must know before believing what comes."""
    console.print(f"WARNING: {words}", style="bold red", highlight=False)


def listed(names: Sequence[str]) -> str:
    """The first of them, and whether there are more."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def make_folder(out: Path) -> None:
    """Make the folder of --out. Raises UsageError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be used as a folder: {error.strerror}. Name another.") from None


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """What is written within goes into this file. Raises EdgeAgentError, with its name and what to do, where that cannot be."""
    try:
        yield
    except OSError as error:
        raise EdgeAgentError(f"{file} cannot be written: {error.strerror}. Remedy: {remedy_of(error)}") from None


def require_writable(folder: Path, option: str) -> None:
    """Raise UsageError where no file can be made in a folder that is needed after long work; leaves nothing behind."""
    missing: list[Path] = []
    try:
        missing += [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{option} {folder} cannot be written: {error.strerror}. Remedy: {remedy_of(error)}") from None
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()


def console() -> Console:
    """For standard output. What is said is printed as it is, as `told` does it."""
    return Printer(highlight=False, markup=False, width=None if sys.stdout.isatty() else _UNBOUNDED)
