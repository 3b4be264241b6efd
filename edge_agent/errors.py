"""Every error of the station: its exit code, what it means for a part, and what to do.

A message names the thing, the value, the limit and the remedy. Reasons of a FAULT are one table, because the PLC's
binary record, the documentation and the counters all speak of them.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

EXIT_OK = 0
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)  # what decoding a stranger's bytes may raise
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: systemd is told never to retry it


_LET_USE = (
    "let the account that runs this use it: chmod a+r to read it, chown to write there, and a+x for the folders above. The service "
    "sees nothing of /home, /root and /tmp: keep what it is to read under /etc/edge-agent or /var/lib/edge-agent."
)
OUT_OF_MEMORY = "out of memory"  # what a MemoryError, which has no words of its own, is told as
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, or of what the account may have of it


def remedy_of(error: OSError) -> str:
    """What to do about a file or folder that cannot be read or written."""
    if error.errno in (*FULL, errno.EROFS):
        return "free space there, or name another folder."
    match error:
        case PermissionError():
            return _LET_USE
        case FileNotFoundError():
            return "put it there, or mend the path."
        case IsADirectoryError():
            return "give the path of a file."
        case NotADirectoryError() | FileExistsError():
            return "a part of the path is a file: give another."
        case _:
            return "mend the path, or look at its disk: dmesg."


def remedy_within(error: OSError) -> str:
    """What to do about a file that a daemon keeps for itself, whose path nobody chose."""
    if error.errno in FULL:
        return "Free space there."
    match error:
        case PermissionError():
            return "Let the account that the daemon runs as write it and its folder: chown."
        case FileNotFoundError() | IsADirectoryError() | NotADirectoryError() | FileExistsError():
            return "Something else lies in its place, or a link leads nowhere: move that away."
        case _:
            return "Look at its disk: dmesg."


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where it stands, what is wrong, what to do."""

    file: str
    line: int
    key: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        key = f"{self.key}: " if self.key else ""
        return f"{where}{key}{self.message}" + (f" Remedy: {self.remedy}" if self.remedy else "")


class EdgeAgentError(Exception):
    """The root of what this station raises on purpose. `exit_code` is what a command ends with."""

    exit_code = EXIT_FAILURE


class UsageError(EdgeAgentError):
    """The command line asks for something that makes no sense."""

    exit_code = EXIT_USAGE


class ConfigurationError(EdgeAgentError):
    """Settings, a recipe or a model that will never work as they are. Carries every problem found."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, problems: list[Problem] | str) -> None:
        self.problems = [Problem("", 0, "", problems)] if isinstance(problems, str) else problems
        text = problems if isinstance(problems, str) else "\n".join(str(p) for p in problems)
        super().__init__(text)

    @classmethod
    def of(cls, message: str, remedy: str, file: Path | str = "", key: str = "") -> ConfigurationError:
        """The error of one thing wrong, in a file where one is named."""
        return cls([Problem(str(file), 0, key, message, remedy)])


class Stopping(EdgeAgentError):
    """The station stops; what was under way is given up."""


class CameraError(EdgeAgentError):
    """A camera did not deliver: absent, disconnected, or a picture that cannot be read."""


class EndOfImages(EdgeAgentError):
    """A camera with a finite number of pictures has shown them all. Not a fault: the line drains."""


class EngineError(EdgeAgentError):
    """The engine failed or its map cannot be believed; the part comes out as FAULT engine."""


class UnbelievableMap(EngineError):
    """The engine answered, and what it answered cannot be: the network's own doing, or the device's."""


class EngineUnavailable(EngineError):
    """The engine cannot be had now, but may come: a library, a GPU, a driver, memory. Up and not ready meanwhile."""


class EngineLost(EngineError):
    """The device failed under way and nothing of this process can use it again: the process ends, to be started anew."""


class DeliveryError(EdgeAgentError):
    """A message, a queue file or a collector's answer cannot be used."""


class Refused(DeliveryError):
    """The other end takes no connection of ours: its keys or ours are others."""


class Reason(str, Enum):
    """Why a part came out as FAULT. The value travels in JSON, the index in `verdict.bin`; only ever add at the end."""

    NO_FRAME = "no_frame"
    BAD_FRAME = "bad_frame"
    NO_PART = "no_part"
    LATE = "late"
    OVERRUN = "overrun"
    ENGINE = "engine"
    NOT_READY = "not_ready"
    INTERRUPTED = "interrupted"
    DARK = "dark"
    SATURATED = "saturated"
    OUT_OF_FOCUS = "out_of_focus"
    FROZEN = "frozen"
    INTERNAL = "internal"
    AMBIGUOUS = "ambiguous"


REASON_CODES = {reason.value: code for code, reason in enumerate(Reason, start=1)}

REASON_MEANINGS = {
    Reason.NO_FRAME: "the trigger's picture never came",
    Reason.BAD_FRAME: "the picture is incomplete, unreadable or of the wrong size",
    Reason.NO_PART: "the picture shows no part",
    Reason.LATE: "no result before the part's deadline",
    Reason.OVERRUN: "no free frame slot: the parts come faster than they are judged",
    Reason.ENGINE: "the engine failed or gave an impossible map",
    Reason.NOT_READY: "the line was not ready when the trigger came",
    Reason.INTERRUPTED: "the daemon ended before the part was judged",
    Reason.DARK: "the picture is too dark to judge",
    Reason.SATURATED: "too much of the picture is saturated",
    Reason.OUT_OF_FOCUS: "the picture is out of focus",
    Reason.FROZEN: "the camera delivered the same picture twice",
    Reason.INTERNAL: "an unexpected error inside the station; see the log",
    Reason.AMBIGUOUS: "the picture could belong to more than one part",
}
