"""What a daemon keeps, damaged between two runs: it starts, and tells what was lost."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import numpy as np
import pytest
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.errors import EdgeAgentError
from edge_agent.plc.journal import Journal
from edge_agent.process import StateLock
from edge_agent.settings import load_station
from edge_agent.uplink.schema import open_reader


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lock", r"state folder .*lock: Is a directory\. Something else lies in its place"),
        ("journal", r"the journal .* cannot be read: Is a directory\. Something else lies in its place"),
        ("counters/line", r"the counters .* cannot be kept: Is a directory\. Something else lies in its place"),
        ("outbox", r"outbox\.db cannot be opened: .*File exists.* Something else lies in its place"),
        ("outbox/outbox.db", r"outbox\.db cannot be opened: .* move away what is no file"),
    ],
)
def test_what_lies_in_the_place_of_a_file_is_named(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], name: str, says: str
) -> None:
    station.add_images(images(1))
    place = station.folder / "state" / name
    place.parent.mkdir(parents=True)
    if name == "outbox":
        place.write_text("no folder")
    else:
        place.mkdir()
    with pytest.raises(EdgeAgentError, match=says):
        Daemon(load_station(station.write()))


def test_an_outbox_of_another_release_is_named(station: StationFolder, images: Callable[[int], list[np.ndarray]]) -> None:
    station.add_images(images(1))
    file = station.folder / "state" / "outbox" / "outbox.db"
    file.parent.mkdir(parents=True)
    with contextlib.closing(apsw.Connection(str(file))) as connection:
        connection.execute("create table rows(number integer primary key)")
    with pytest.raises(EdgeAgentError, match=r"outbox\.db cannot be opened: .*no such column.* of another release"):
        Daemon(load_station(station.write()))


def test_a_lock_that_cannot_be_written_on_a_full_disk_is_held_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge_agent.process.os.write", no_room)
    with contextlib.closing(StateLock(tmp_path)), pytest.raises(EdgeAgentError, match="in use by process unknown"):
        StateLock(tmp_path)


def test_a_folder_whose_lock_was_removed_is_in_use_all_the_same(tmp_path: Path) -> None:
    with contextlib.closing(StateLock(tmp_path)):
        (tmp_path / "lock").unlink()
        with pytest.raises(EdgeAgentError, match="in use by process unknown"):
            StateLock(tmp_path)
    StateLock(tmp_path).close()


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
