"""How far an outbox came, told beside its file after each commit: a file whose end a disk has lost again looks whole."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

_LAYOUT, _CRC = struct.Struct("<32sQQ"), struct.Struct("<I")


class Mark(NamedTuple):
    """The stream, the highest number that it gave to a row, and up to which number the collector had acknowledged."""

    stream: str = ""
    highest: int = 0
    acknowledged: int = 0


class MarkFile:
    """Written without a flush: after a power cut it may tell of an earlier commit, never of one that was not durable."""

    def __init__(self, outbox: Path) -> None:
        self._file = _file(outbox)
        self._last = read_mark(outbox)
        self._descriptor: int | None = None

    def write(self, mark: Mark) -> None:
        """Where the disk is full, or fails, the mark before stays. What was acknowledged in an earlier run stays so."""
        if mark.stream == self._last.stream:
            mark = mark._replace(acknowledged=max(mark.acknowledged, self._last.acknowledged))
        self._last = mark
        packed = _LAYOUT.pack(mark.stream.encode(), mark.highest, mark.acknowledged)
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o640)
            os.pwrite(self._descriptor, packed + _CRC.pack(zlib.crc32(packed)), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def read_mark(outbox: Path) -> Mark:
    """The last one; an empty one where none can be read."""
    try:
        with open(_file(outbox), "rb") as file:
            content = file.read(_LAYOUT.size + _CRC.size)
        stream, highest, acknowledged = _LAYOUT.unpack_from(content)
        (crc,) = _CRC.unpack_from(content, _LAYOUT.size)
    except (OSError, struct.error):
        return Mark()
    if zlib.crc32(content[: _LAYOUT.size]) != crc:
        return Mark()
    return Mark(stream.decode(errors="replace"), highest, acknowledged)


def _file(outbox: Path) -> Path:
    return outbox.with_suffix(".mark")
