"""The installed service, as systemd tells of it with its drop-ins: which settings it runs, as whom, and what its sandbox hides."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

UNIT = "edge-agent.service"
_ANSWER_S = 2.0
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
_CLOSES_ALL = "ProtectHome=yes"
_READ, _WRITE, _PASS = 4, 2, 1  # of a mode's three bits
_SAYS = (
    "LoadState",
    "ExecStart",
    "MainPID",
    "User",
    "Group",
    "SupplementaryGroups",
    "ProtectHome",
    "PrivateTmp",
    "BindPaths",
    "BindReadOnlyPaths",
    "ProtectSystem",
    "StateDirectory",
    "ReadWritePaths",
)


@dataclass(frozen=True, slots=True)
class Service:
    """`main_pid` is 0 while it does not run; `uid` None where its account is unknown here or is root, to whom modes say nothing.
    `hidden` names folders with the unit's line that hides them; `shown` those that a drop-in binds into them. `own` are made by
    systemd for the account; `kept` is the unit's line that makes all but these and `writable` read-only, '' where none does."""

    settings: Path
    main_pid: int
    account: str
    uid: int | None
    gids: frozenset[int]
    hidden: tuple[tuple[Path, str], ...]
    shown: tuple[Path, ...]
    own: tuple[Path, ...]
    kept: str
    writable: tuple[Path, ...]

    def hides(self, path: Path) -> str:
        """The unit's line that hides a path from the service; '' where none does. Nothing can be bound into what ProtectHome=yes
        closes, unlike into what tmpfs or PrivateTmp= puts there."""
        line = next((line for folder, line in self.hidden if path.is_relative_to(folder)), "")
        return "" if line != _CLOSES_ALL and self.is_bound(path) else line

    def is_bound(self, path: Path) -> bool:
        """True for what a drop-in binds: what is there for the service, and the way to it, are not this machine's."""
        return any(path.is_relative_to(each) for each in self.shown)

    def closed_at(self, path: Path) -> Path | None:
        """The first file or folder on the way to `path` that its modes close to the account; None where there is none, or where
        an access list has the say. Raises OSError where whoever asks may not look."""
        if self.uid is None:
            return None
        target = path.resolve()
        above = dict.fromkeys((*reversed(path.absolute().parents), *reversed(target.parents)))
        way = (each for each in above if self._lacks(each, _PASS))
        return next(way, target if self.closes(target) else None)

    def closes(self, path: Path) -> bool:
        """True where the modes of this very file or folder keep the account from reading it. Raises OSError."""
        return self._lacks(path, _READ | _PASS if path.is_dir() else _READ)

    def bars_from(self, folder: Path) -> str:
        """What keeps the service from writing into a folder that is there, or that it is to make; '' where nothing does. Raises
        OSError where whoever asks may not look."""
        if any(folder.is_relative_to(each) for each in self.own):
            return ""
        if self.kept and not any(folder.is_relative_to(each) for each in self.writable):
            return self.kept
        here = next(each for each in (folder, *folder.parents) if each.exists())
        return f"{here} is not writable for {self.account}" if self._lacks(here, _WRITE | _PASS) else ""

    def _lacks(self, path: Path, wanted: int) -> bool:
        if self.uid is None:
            return False
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return (status.st_mode >> shift) & wanted != wanted and not _has_access_list(path)


def _has_access_list(path: Path) -> bool:
    with suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(path)
    return False


def service_of(settings: str) -> Service | None:
    """The installed service, where these settings are the ones it runs."""
    found = parse(show(*_SAYS))
    return found if found is not None and found.settings.resolve() == Path(settings).resolve() else None


def show(*properties: str) -> str:
    """What systemd says of the service, drop-ins included: KEY=VALUE lines; '' where there is no systemd to ask."""
    words = ["systemctl", "show", f"--property={','.join(properties)}", UNIT]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def properties_of(shown: str) -> dict[str, str]:
    """What `systemctl show` said, by property."""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def parse(shown: str) -> Service | None:
    """The service of which `systemctl show` says `shown`; None where it is not installed or runs no settings."""
    told = properties_of(shown)
    settings = re.search(r"argv\[\]=[^;]* --config[= ](\S+)", told.get("ExecStart", ""))
    if told.get("LoadState") != "loaded" or settings is None:
        return None
    uid, gids = _account(told)
    return Service(
        settings=Path(settings[1]),
        main_pid=int(told.get("MainPID") or 0),
        account=told.get("User") or "root",
        uid=uid,
        gids=gids,
        hidden=_hidden(told),
        shown=_bound(told),
        own=tuple((Path("/var/lib") / name).resolve() for name in told.get("StateDirectory", "").split()),
        kept="ProtectSystem=strict" if told.get("ProtectSystem") == "strict" else "",
        writable=_writable(told),
    )


def _account(told: dict[str, str]) -> tuple[int | None, frozenset[int]]:
    try:
        account = pwd.getpwnam(told.get("User") or "root")
    except KeyError:
        return None, frozenset()
    named = set()
    for name in (told.get("Group", ""), *told.get("SupplementaryGroups", "").split()):
        with suppress(KeyError):
            named.add(grp.getgrnam(name).gr_gid)
    return account.pw_uid or None, frozenset({*named, *os.getgrouplist(account.pw_name, account.pw_gid)})


def _hidden(told: dict[str, str]) -> tuple[tuple[Path, str], ...]:
    homes, temporary = told.get("ProtectHome", "no"), told.get("PrivateTmp", "no")
    return (
        *((folder, f"ProtectHome={homes}") for folder in _HOMES if homes in ("yes", "tmpfs")),
        *((folder, f"PrivateTmp={temporary}") for folder in _TEMPORARY if temporary != "no"),
    )


def _writable(told: dict[str, str]) -> tuple[Path, ...]:
    """What a drop-in leaves writable where ProtectSystem=strict leaves nothing."""
    named = told.get("ReadWritePaths", "").split()
    return (*(Path(name.lstrip("-+")).resolve() for name in named), *_entries(told.get("BindPaths", "")))


def _bound(told: dict[str, str]) -> tuple[Path, ...]:
    """Where BindPaths= and BindReadOnlyPaths= put folders: SOURCE, SOURCE:DESTINATION or these with an option."""
    return _entries(f"{told.get('BindPaths', '')} {told.get('BindReadOnlyPaths', '')}")


def _entries(text: str) -> tuple[Path, ...]:
    return tuple(Path((entry.split(":") + entry.split(":"))[1 if ":" in entry else 0]) for entry in text.split())
