"""Where pictures go: a folder or anything else fsspec opens. Names are made of numbers and hashes alone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import fsspec

from edge_agent.errors import ConfigurationError, DeliveryError
from edge_agent.wire import PictureNote

_SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


class PictureFolder:
    """Writes and reads pictures below one address. Raises ConfigurationError for one that can never work."""

    def __init__(self, address: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"--crops {address} cannot be used: {error}. See docs/collector.md.") from None
        self._is_local = "file" in self._files.protocol or "local" in self._files.protocol

    def path_of(self, note: PictureNote) -> str:
        """The picture's path below the root. Raises DeliveryError for names that are no plain names."""
        for name in (note.station, note.line, note.kind, note.format):
            if not _SAFE.match(name):
                raise DeliveryError(f"{name[:80]!r} in a picture's note is no plain name")
        day = time.strftime("%Y-%m-%d", time.gmtime(min(note.epoch, 1 << 40)))
        return f"{note.station}/{note.line}/{day}/{note.epoch}/{note.seq:010d}-{note.kind}-{note.index}.{note.format}"

    def write(self, path: str, data: bytes) -> None:
        """Store a picture durably before its row is committed: written aside, flushed, renamed. Raises OSError."""
        if not self._is_local:
            self._put(path, data)
            return
        target = Path(self._root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".part")
        with open(fresh, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(target)
        folder = os.open(target.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name, too, has to outlast the power
        finally:
            os.close(folder)

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._files.pipe_file(f"{self._root}/{path}", data)
        except OSError:
            raise
        except Exception as error:  # each object store's library has errors of its own
            raise OSError(f"{self._root}: {error}") from error

    def read(self, path: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._root}/{path}"))
