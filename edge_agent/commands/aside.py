"""A command of this program in a process of its own, for commands that look at it from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def program(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edge-agent` with these words, what it prints in `log`; killed if it is still there at the end."""
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "edge_agent", *command], stderr=out, stdout=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
