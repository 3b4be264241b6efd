"""What goes when the outbox is full: pictures of PASS, then pictures of NG, then records, oldest first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from edge_agent.uplink.rows import first_of
from edge_agent.uplink.schema import BALLAST, LOST_PRIORITY, PAGE_BYTES, Put, free_bytes

_NEAR_CAP = 0.85
_PORTION = 0.05
_BALLAST_BYTES = 12 << 20  # kept back on the disk, so that shedding and the WAL still work when it is full
_RESERVE_BYTES = 8 << 20  # of the disk that the database leaves alone: the WAL and its checkpoint need room to shed at all
_MOST_ROWS = 2000
_OVERHEAD_BYTES = 64


class Shedder:
    """Knows the outbox's size and what to let go. Runs on the writer thread, inside its transactions."""

    def __init__(self, connection: apsw.Connection, file: Path, cap_mb: int) -> None:
        self._connection, self._file = connection, file
        self.is_squeezed = False  # a full disk lets the database grow less than the cap
        self._cap_bytes = cap_mb << 20
        self.portion_bytes = int(self._cap_bytes * _PORTION)
        self._ballast = file.with_suffix(BALLAST)
        self._lay_ballast()

    def portions(self, puts: list[Put]) -> list[list[Put]]:
        """Split a batch so that no transaction is larger than what shedding frees at a time."""
        portions: list[list[Put]] = [[]]
        room = self.portion_bytes
        for put in puts:
            size = len(put.body) + len(put.data)
            if size > room and portions[-1]:
                portions.append([])
                room = self.portion_bytes
            portions[-1].append(put)
            room -= size
        return portions

    def used_bytes(self) -> int:
        pages = self._connection.pragma("page_count") - self._connection.pragma("freelist_count")
        return int(pages) * PAGE_BYTES

    def is_near_cap(self) -> bool:
        return self.used_bytes() > self._cap_bytes * _NEAR_CAP

    def fit_to_disk(self) -> None:
        """Never grow into the last `_RESERVE_BYTES` of the disk: on a full one not even shedding can be committed."""
        free = free_bytes(self._file)
        if free >= 4 * _RESERVE_BYTES and not self.is_squeezed:
            return
        most, pages = self._cap_bytes // PAGE_BYTES, first_of(self._connection, "pragma page_count")
        limit = min(most, pages + max(0, free - _RESERVE_BYTES) // PAGE_BYTES)
        self._connection.pragma("max_page_count", limit)
        self.portion_bytes = int(limit * PAGE_BYTES * _PORTION)  # as large a share as of the cap
        self.is_squeezed = limit < most

    def free_ballast(self) -> None:
        """Give the reserve back to the disk, and with it to the WAL."""
        with contextlib.suppress(OSError):
            self._ballast.unlink()
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _lay_ballast(self) -> None:
        size = min(_BALLAST_BYTES, self._cap_bytes // 4)
        if self._ballast.exists() or free_bytes(self._ballast) < 4 * size:
            return
        with contextlib.suppress(OSError), open(self._ballast, "wb") as out:
            os.posix_fallocate(out.fileno(), 0, size)

    def shed(self, wanted_bytes: int) -> Iterator[dict[str, Any]]:
        """Delete until `wanted_bytes` are free; yield one declaration for each kind let go."""
        for priority in range(LOST_PRIORITY):
            if wanted_bytes <= 0:
                return
            loss = self._shed_priority(priority, wanted_bytes)
            if loss is not None:
                wanted_bytes -= int(loss["bytes"])
                yield loss

    def _shed_priority(self, priority: int, wanted_bytes: int) -> dict[str, Any] | None:
        query = (
            "select r.seq, cast(r.kind as blob), length(r.body) + coalesce(length(p.data), 0) "
            "from rows r left join pictures p using(seq) where r.prio = ? order by r.seq limit ?"
        )
        gone: list[int] = []
        kind, freed = "", 0
        for seq, of, size in self._connection.execute(query, (priority, _MOST_ROWS)):
            gone.append(seq)
            kind, freed = of.decode(errors="replace"), freed + size + _OVERHEAD_BYTES
            if freed >= wanted_bytes:
                break
        if not gone:
            return None
        self._connection.executemany("delete from pictures where seq = ?", [(seq,) for seq in gone])
        self._connection.executemany("delete from rows where seq = ?", [(seq,) for seq in gone])
        return {"what": kind, "n": len(gone), "bytes": freed, "why": "cap", "first_seq": gone[0], "last_seq": gone[-1]}
