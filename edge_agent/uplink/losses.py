"""What was let go or refused: counted until the outbox declares it, and then in few rows, however long that goes on."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable
from typing import Any

import apsw
import msgspec

from edge_agent.uplink.rows import delete_row, insert_plain
from edge_agent.uplink.schema import LOST, LOST_PRIORITY, RECORD, Put

_MOST = (1 << 31) - 1  # of one row: what a collector's table takes
_OPEN = "select seq, body, crc from rows where prio = ? and seq > ? order by seq limit 10000"  # a file may have any number


class Losses:
    """Losses not yet in the ledger, by kind, and the tokens of what was lost: once declared, nobody else must deliver it."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._tokens: list[Any] = []
        self._lock = threading.Lock()

    def add(self, kind: str, n: int = 1, tokens: Iterable[Any] = ()) -> None:
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + n
            self._tokens += [token for token in tokens if token is not None]

    def take(self) -> tuple[dict[str, int], list[Any]]:
        with self._lock:
            counts, self.counts = self.counts, {}
            tokens, self._tokens = self._tokens, []
        return counts, tokens


class GivenUp:
    """What a stop had no time to commit. Records with a token stay where that is from, the journal, which has them until it comes
    back; the rest is declared."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._kept = self._lost = 0

    def add(self, puts: Iterable[Put]) -> None:
        for put in puts:
            if put.kind == RECORD and put.token is not None:
                self._kept += 1
            else:
                self._lost += 1
                self._losses.add(put.kind)

    def told(self, queued: int, is_stuck: bool) -> str:
        """What becomes of it, and of the rows still `queued` where a commit does not end; '' where nothing was given up."""
        told = f"{self._kept} records stay in the journal for the next start, {self._lost} other rows are declared lost"
        if is_stuck:
            return f"the disk does not end a commit; {told}; of {queued} more, records stay in the journal and pictures are gone."
        return f"the disk does not take everything in time; {told}." if self._kept or self._lost else ""


def declare(connection: apsw.Connection, losses: Iterable[dict[str, Any]], after: int) -> int:
    """Make each loss a row, to be shipped like any other; return how many rows there are more, or fewer where it is below 0.

    Losses of one kind and cause are one row, as long as that is beyond `after`, up to which a collector may have the rows: these
    rows never go, and one for each loss would in the end take the room of everything else. Begins no transaction."""
    standing = [(seq, body) for seq, body, crc in connection.execute(_OPEN, (LOST_PRIORITY, after)) if zlib.crc32(body) == crc]
    told = [(seq, msgspec.msgpack.decode(body)) for seq, body in standing] + [(0, dict(loss)) for loss in losses]
    rows: list[tuple[int, dict[str, Any]]] = []
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for seq, loss in told:
        of_its_kind = last.get((loss["what"], loss["why"]))
        if of_its_kind is not None and of_its_kind["n"] + loss["n"] <= _MOST:
            _join(of_its_kind, loss)
            if seq:
                delete_row(connection, seq)
        else:
            last[loss["what"], loss["why"]] = loss
            rows.append((seq, loss))
    before = dict(standing)
    for seq, loss in rows:
        body = msgspec.msgpack.encode(loss)
        if not seq:
            insert_plain(connection, [(LOST, LOST_PRIORITY, body)])
        elif body != before[seq]:
            connection.execute("update rows set body = ?, crc = ? where seq = ?", (body, zlib.crc32(body), seq))
    return len(rows) - len(standing)


def _join(loss: dict[str, Any], another: dict[str, Any]) -> None:
    loss["n"] += another["n"]
    loss["bytes"] += another["bytes"]
    loss["first_seq"] = min(loss["first_seq"], another["first_seq"])
    loss["last_seq"] = max(loss["last_seq"], another["last_seq"])
