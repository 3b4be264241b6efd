"""What a daemon keeps, damaged between two runs: it starts, and tells what was lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import numpy as np
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.plc.journal import Journal
from edge_agent.settings import load_station
from edge_agent.uplink.schema import open_reader


def test_a_part_that_cannot_be_read_is_declared_lost(station: StationFolder, images: Callable[[int], list[np.ndarray]]) -> None:
    station.add_images(images(1))
    file = station.folder / "state" / "journal"
    journal = Journal(file, 64)
    journal.adopt()
    for seq in (1, 2):
        journal.open_part(seq, 0, b"line", b"p")
    journal.close()
    data = bytearray(file.read_bytes())
    data[4096 + 20] ^= 1  # in the trigger of the first
    file.write_bytes(data)
    summary = Daemon(load_station(station.write()), parts=1).run()
    assert summary["lost"] == 1
    with contextlib.closing(open_reader(station.folder / "state" / "outbox" / "outbox.db")) as reader:
        rows = [(kind, body) for kind, body in reader.execute("select kind, body from rows where kind != 'picture'")]
    assert sorted(kind for kind, _ in rows) == ["lost", "record", "record"]
    loss = msgspec.msgpack.decode(next(body for kind, body in rows if kind == "lost"))
    assert (loss["what"], loss["n"]) == ("record", 1)
