"""Who holds a TCP port, and whether that is the running station of these very settings, which a restart ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.commands.doctor.service import Service

_PROC = Path("/proc")
_LISTENS = "0A"  # of /proc/net/tcp's column st


@dataclass(frozen=True, slots=True)
class Holder:
    """`pid` is 0 where this user may not know it; then `uids` of the accounts that listen there are all that is known."""

    pid: int
    command: str
    uids: frozenset[int]

    def __str__(self) -> str:
        return f"process {self.pid}: {self.command[:120]}" if self.pid else ""


def holder_of(port: int) -> Holder:
    """The program that listens on a TCP port."""
    rows = list(_listening(port))
    inodes = {f"socket:[{row[9]}]" for row in rows}
    uids = frozenset(int(row[7]) for row in rows)
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return Holder(int(process.name), " ".join(_words(process)).strip(), uids)
    return Holder(0, "", uids)


def _listening(port: int) -> Iterator[list[str]]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            rows = [row.split() for row in (_PROC / "net" / table).read_text().splitlines()[1:]]
            yield from (row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == _LISTENS)


def runs_of(settings: str, service: Service | None) -> set[int]:
    """The processes that run these settings: by their command line, or as the service of these settings."""
    service_runs = {service.main_pid} if service is not None and service.main_pid else set()
    return service_runs | {int(process.name) for process in _PROC.glob("[0-9]*") if _runs(process, Path(settings).resolve())}


def _runs(process: Path, settings: Path) -> bool:
    with suppress(OSError):
        words = _words(process)
        if "run" not in words:
            return False
        named = [value for word, value in itertools.pairwise(words) if word == "--config"]
        named += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
        return any(Path(os.path.realpath(_beside(process, name))) == settings for name in named)
    return False


def _beside(process: Path, name: str) -> Path:
    """A path of a process's command line. Raises OSError where it is a relative one, and where the process stands is not told."""
    return Path(name) if Path(name).is_absolute() else (process / "cwd").readlink() / name


def _words(process: Path) -> list[str]:
    return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")


def is_one_of(holder: Holder, pids: set[int]) -> bool:
    """Whether one of these processes holds the port; by its account alone, where this user may know no more."""
    if holder.pid:
        return holder.pid in pids
    for pid in pids:
        with suppress(OSError):
            if (_PROC / str(pid)).stat().st_uid in holder.uids:
                return True
    return False
