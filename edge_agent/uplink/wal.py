"""The end of a write-ahead log that SQLite does not read: behind one damaged frame it takes none, though all of them are durable.

The format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import time
from pathlib import Path

import apsw

from edge_agent.uplink.schema import PAGE_BYTES, beside

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_ORDER, _SUMMED = 3, 24  # the byte whose last bit tells the order of the checksum's words, and how far it reaches
_SALTS = slice(16, 24)  # of the header: another pair each time that the log begins anew
_PAGE, _PAGES_AT_COMMIT, _FRAME_SALTS = slice(0, 4), slice(4, 8), slice(8, 16)  # of a frame


def take_the_end(connection: apsw.Connection, file: Path) -> None:
    """Raise CorruptError where a database's log has more transactions than SQLite took, and bring their pages into it.

    The connection is closed then, and the log kept as `*.damaged-<time>`. What of a damaged frame is in the pages, a reader of
    the rows has to find."""
    wal = beside(file, "-wal")
    taken, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    transactions, pages = _behind(wal, max(0, taken))
    if transactions <= 1:  # a power cut leaves one half written, and nobody was told that it is durable
        return
    shutil.copyfile(wal, beside(wal, f".damaged-{time.time_ns()}"))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    with open(file, "r+b") as database:
        for number, page in pages.items():
            database.seek((number - 1) * PAGE_BYTES)
            database.write(page)
        database.flush()
        os.fsync(database.fileno())
    raise apsw.CorruptError(f"its WAL is damaged, {transactions} transactions before its end")


def _behind(wal: Path, taken: int) -> tuple[int, dict[int, bytes]]:
    """How many transactions end behind so many frames, and the pages, by their numbers, as the last of them leaves them."""
    transactions, pages, open_pages = 0, dict[int, bytes](), dict[int, bytes]()
    with contextlib.suppress(FileNotFoundError), open(wal, "rb") as log:
        header, first = log.read(_HEADER_BYTES), log.read(_FRAME_HEADER_BYTES)
        salts = header[_SALTS] if _is_whole(header) else first[_FRAME_SALTS]
        log.seek(_HEADER_BYTES + taken * (_FRAME_HEADER_BYTES + PAGE_BYTES))
        while len(frame := log.read(_FRAME_HEADER_BYTES + PAGE_BYTES)) == _FRAME_HEADER_BYTES + PAGE_BYTES:
            if frame[_FRAME_SALTS] != salts:
                continue
            open_pages[int.from_bytes(frame[_PAGE], "big")] = frame[_FRAME_HEADER_BYTES:]
            if size := int.from_bytes(frame[_PAGES_AT_COMMIT], "big"):
                transactions += 1
                pages |= {number: page for number, page in open_pages.items() if 0 < number <= size}
                open_pages.clear()
    return transactions, pages


def _is_whole(header: bytes) -> bool:
    """Whether a log's header has the checksum that it tells. One that has begins the log anew, whatever frames lie behind."""
    if len(header) < _HEADER_BYTES:
        return False
    order = ">" if header[_ORDER] & 1 else "<"
    first = second = 0
    for one, another in struct.iter_unpack(f"{order}II", header[:_SUMMED]):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + another + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second) == header[_SUMMED:]
