"""The outbox alone: damage, a full disk, wrong bytes, a disk that fails at any write. Real files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import DeliveryError
from edge_agent.shipping import MOST_MESSAGE_BYTES
from edge_agent.uplink import opening
from edge_agent.uplink.outbox import Outbox, count_records
from edge_agent.uplink.schema import LOST, PICTURE, RECORD

EVERYTHING = (0, 1_000_000, 1 << 40)


def fill(outbox: Outbox, n: int, size: int = 300) -> None:
    for number in range(n):
        assert outbox.put_record(os.urandom(size), number)
    assert outbox.flush(10)


def declared(outbox: Outbox) -> Counter[str]:
    losses: Counter[str] = Counter()
    for row in outbox.read_after(*EVERYTHING):
        if row.kind == LOST:
            loss = msgspec.msgpack.decode(row.body)
            losses[loss["what"]] += loss["n"]
    return losses


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox", 16)
    yield outbox
    outbox.close()


def test_stats_say_what_waits_and_nothing_after_the_acknowledgement(outbox: Outbox) -> None:
    fill(outbox, 50)
    stats = outbox.stats()
    assert (stats.committed, stats.waiting_rows, outbox.waiting()) == (50, 50, 50)
    assert stats.waiting_bytes > 0
    assert stats.oldest_us > 1_600_000_000_000_000
    outbox.acknowledge(30)
    assert outbox.flush(5)
    assert (stats.acknowledged, stats.waiting_rows) == (30, 20)
    outbox.acknowledge(10)  # an old acknowledgement that was overtaken
    outbox.acknowledge(50)
    assert outbox.flush(5)
    assert (stats.acknowledged, stats.records_acknowledged, stats.waiting_rows) == (50, 50, 0)
    assert (stats.waiting_bytes, stats.oldest_us) == (0, 0)


def test_a_restart_goes_on_with_the_same_stream_and_never_reuses_a_number(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox", 16)
    fill(first, 10)
    first.acknowledge(10)
    first.close()
    again = Outbox(tmp_path / "outbox", 16)
    fill(again, 1)
    assert again.stream == first.stream
    assert [row.seq for row in again.read_after(*EVERYTHING)] == [11]
    again.close()


def test_close_commits_everything_that_was_queued(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 16)
    for _ in range(3000):
        assert outbox.put_record(b"x" * 300)
    outbox.close(5)
    assert count_records(tmp_path / "outbox") == 3000


def test_a_row_whose_bytes_have_changed_is_left_out_and_declared_once(outbox: Outbox, tmp_path: Path) -> None:
    fill(outbox, 3)
    beside = apsw.Connection(str(tmp_path / "outbox" / "outbox.db"))
    beside.execute("update rows set body = zeroblob(300) where seq = 2")
    beside.close()
    for _ in range(3):
        rows = outbox.read_after(*EVERYTHING)
        assert [row.seq for row in rows if row.kind == RECORD] == [1, 3]
    assert outbox.flush(5)
    assert declared(outbox) == {RECORD: 1}
    assert outbox.stats().records_lost == 1
    assert outbox.stats().waiting_rows == 3  # two records and the declaration


def test_what_is_too_large_to_be_shipped_is_refused_and_declared(outbox: Outbox) -> None:
    assert not outbox.put_picture(b"note", bytes(MOST_MESSAGE_BYTES), 1)
    assert outbox.flush(5)
    assert declared(outbox) == {PICTURE: 1}


@pytest.mark.parametrize("damage", ["header", "middle", "half", "empty", "garbage"])
def test_a_damaged_file_never_stops_the_start_and_its_numbers_are_not_reused_in_one_stream(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "outbox"
    before = Outbox(folder, 16)
    fill(before, 400)
    before.close()
    file = folder / "outbox.db"
    body = bytearray(file.read_bytes())
    half = len(body) // 2
    match damage:
        case "header":
            body[:100] = b"X" * 100
        case "middle":
            body[half : half + 9000] = os.urandom(9000)
        case "half":
            del body[half:]
        case "empty":
            body.clear()
        case "garbage":
            body[:] = os.urandom(len(body))
    file.write_bytes(body)
    again = Outbox(folder, 16)
    fill(again, 1)
    assert again.stream != before.stream
    assert list(folder.glob("*.damaged-*")) or damage == "empty"
    again.close()


def test_a_file_that_cannot_be_opened_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file, not a folder")
    with pytest.raises(DeliveryError, match=r"outbox\.db cannot be opened"):
        Outbox(tmp_path / "outbox", 16)


def test_records_go_last_and_oldest_first_when_nothing_else_is_left(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", 1)
    for n in range(60):
        fill(outbox, 50, 700)
        outbox.put_picture(b"note", os.urandom(5000), n % 2)
    assert outbox.flush(5)
    rows = outbox.read_after(*EVERYTHING)
    kinds = Counter(row.kind for row in rows)
    stats = outbox.stats()
    assert stats.records_lost > 0
    assert kinds[PICTURE] <= 5, "pictures had to go before records"
    assert kinds[RECORD] + stats.records_lost == 3000
    assert kinds[PICTURE] + stats.pictures_lost == 60
    assert declared(outbox) == {RECORD: stats.records_lost, PICTURE: stats.pictures_lost}
    assert stats.waiting_rows == len(rows)
    kept = [row.seq for row in rows if row.kind == RECORD]
    assert kept[-1] - kept[0] < 1.2 * len(kept), "what is left are the newest"
    outbox.close()
    assert (tmp_path / "outbox" / "outbox.db").stat().st_size <= 1 << 20


def test_somebody_filling_the_disk_for_a_moment_costs_no_row(tmp_path: Path) -> None:
    with on_a_failing_disk(tmp_path) as outbox:
        fill(outbox, 20)
        DISK.failing, DISK.count = {1: apsw.FullError}, 0
        fill(outbox, 5)
        assert outbox.stats().writer_failures == 1
        assert [row.kind for row in outbox.read_after(*EVERYTHING)] == [RECORD] * 25, "a loss of nothing was declared"
        assert outbox.stats().records_lost == 0


FILL_A_DISK = """
import contextlib, os, sys
from collections import Counter
from pathlib import Path
import msgspec
from edge_agent.uplink.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]) / "outbox", 256)
for n in range(800):
    assert outbox.put_record(os.urandom(300))
    outbox.put_picture(b"note", os.urandom(20_000), int(n % 5 == 0))
    if n % 50 == 49:
        assert outbox.flush(10), "the writer is stuck on the full disk"
rows = outbox.read_after(0, 10**6, 1 << 40)
stats = outbox.stats()
kinds = Counter(row.kind for row in rows)
lost = sum(msgspec.msgpack.decode(row.body)["n"] for row in rows if row.kind == "lost")
assert kinds["record"] == 800, (kinds, stats)
assert 0 < lost == stats.pictures_lost == 800 - kinds["picture"], (kinds, lost, stats)
outbox.acknowledge(rows[-1].seq)
assert outbox.flush(5)
hog = Path(sys.argv[1]) / "hog"
with open(hog, "wb", buffering=0) as out, contextlib.suppress(OSError):  # now somebody else fills the disk to the last byte
    while True:
        out.write(bytes(1 << 16))
for n in range(300):
    assert outbox.put_record(os.urandom(20_000)), "a put never waits and the queue has room"
outbox.flush(1)
hog.unlink()
assert outbox.flush(10), "the writer did not recover when space came back"
rows = outbox.read_after(0, 10**6, 1 << 40)
stats = outbox.stats()
assert sum(row.kind == "record" for row in rows) + stats.records_lost == 300, stats
outbox.close()
"""


BALLAST = """
import contextlib, sys
from pathlib import Path
from edge_agent.uplink.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]) / "outbox", 64)
for n in range(300):
    assert outbox.put_record(bytes(500))
    if n == 200:
        assert outbox.flush(10)
        with open(Path(sys.argv[1]) / "hog", "wb", buffering=0) as out:
            for size in (1 << 16, 512):
                with contextlib.suppress(OSError):
                    while True:
                        out.write(bytes(size))
assert outbox.flush(10)
stats = outbox.stats()
assert (stats.records_committed, stats.records_lost) == (300, 0), stats
assert stats.writer_failures, "the disk was not full"
outbox.close()
"""


@pytest.mark.parametrize(("size", "script"), [("20m", FILL_A_DISK), ("100m", BALLAST)], ids=["to the end", "but for the ballast"])
def test_a_full_disk_sheds_pictures_keeps_records_and_recovers(tmp_path: Path, size: str, script: str) -> None:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, for a small disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size={size} tmpfs {disk} || exit 77; exec {sys.executable} -c "$0" {disk}'
    run = subprocess.run(["unshare", "-m", "bash", "-c", command, script], capture_output=True, text=True, timeout=60)
    if run.returncode == 77:
        pytest.skip("mounting a tmpfs is not allowed here")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


class FailingFile(apsw.VFSFile):
    """Fails the writes and flushes whose numbers are in `DISK.failing`."""

    def __init__(self, name: str, flags: list[int]) -> None:
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        DISK.tick()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        DISK.tick()
        super().xSync(flags)


class FailingDisk(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("failing", "", makedefault=False)
        self.failing: dict[int, type[apsw.Error]] = {}
        self.count = 0

    def tick(self) -> None:
        self.count += 1
        if self.count in self.failing:
            raise self.failing[self.count]("injected")

    def xOpen(self, name: str, flags: list[int]) -> FailingFile:
        return FailingFile(name, flags)


DISK = FailingDisk()


@contextlib.contextmanager
def on_a_failing_disk(folder: Path, on_committed: Callable[[list[Any]], None] | None = None) -> Iterator[Outbox]:
    """An outbox whose writer works on `DISK`."""
    Outbox(folder, 16).close()
    DISK.failing = {}
    real = apsw.Connection
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edge_agent.uplink.schema.apsw.Connection", lambda file: real(file, vfs="failing"))
        outbox = Outbox(folder, 16, on_committed=on_committed)
    try:
        yield outbox
    finally:
        DISK.failing = {}
        outbox.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failing=st.dictionaries(st.integers(1, 60), st.sampled_from([apsw.IOError, apsw.FullError]), max_size=12))
def test_whatever_write_fails_every_record_is_there_or_declared(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, failing: dict[int, type[apsw.Error]]
) -> None:
    folder = tmp_path_factory.mktemp("failing")
    monkeypatch.setattr("edge_agent.uplink.outbox._RETRY_S", 0.001)
    committed: list[int] = []
    with on_a_failing_disk(folder, committed.extend) as outbox:
        DISK.failing, DISK.count = dict(failing), 0
        for number in range(40):
            assert outbox.put_record(b"%04d" % number * 100, number)
            if number % 8 == 0:
                outbox.flush(0.5)
        assert outbox.flush(10)
    again = Outbox(folder, 16)
    bodies = Counter(row.body[:4] for row in again.read_after(*EVERYTHING) if row.kind == RECORD)
    lost = declared(again)[RECORD]
    again.close()
    there = {int(body) for body in bodies}
    assert len(set(committed) - there) <= lost, "told as committed, and neither there nor declared"
    if apsw.FullError not in failing.values():
        assert lost == 0, "only a full disk lets anything go"
    assert len(there) + lost == 40
    assert max(bodies.values()) == 1, "a batch that was tried again came twice"


WRITER = """
import os, sys
from pathlib import Path
from edge_agent.uplink.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), 64, on_committed=lambda tokens: os.write(1, b"".join(b"%d\\n" % token for token in tokens)))
start = int(sys.argv[2])
for number in range(start, start + 10**6):
    outbox.put_record(b"%010d" % number + b"x" * 500, number)
    outbox.put_picture(b"note", bytes(3000), 0)
    if number % 20 == 0:
        outbox.flush(5)
"""


def test_kill_9_again_and_again_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    told: set[int] = set()
    for turn in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "outbox"), str(turn * 10**6)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(50 + 37 * turn)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        told |= {int(line) for line in lines if line.endswith("\n")}
    outbox = Outbox(tmp_path / "outbox", 64)
    there = {int(row.body[:10]) for row in outbox.read_after(*EVERYTHING) if row.kind == RECORD}
    outbox.close()
    assert len(told) > 150
    assert told <= there


def test_a_copied_outbox_goes_on_under_a_stream_of_its_own(tmp_path: Path) -> None:
    """The image of a disk, put into several machines: two stations that number rows of one stream would lose one's."""
    image = Outbox(tmp_path / "image", 16, owner="master@1")
    fill(image, 3)
    image.close()
    streams = {image.stream}
    for owner in ("a@1", "b@1", "b@2"):
        shutil.copytree(tmp_path / "image", tmp_path / owner)
        here = Outbox(tmp_path / owner, 16, owner=owner)
        fill(here, 2)
        assert [row.seq for row in here.read_after(*EVERYTHING)] == [1, 2, 3, 4, 5]
        here.close()
        again = Outbox(tmp_path / owner, 16, owner=owner)
        assert again.stream == here.stream
        again.close()
        streams.add(here.stream)
    assert len(streams) == 4


def test_an_outbox_without_an_owner_gets_one_and_keeps_its_stream(tmp_path: Path) -> None:
    before = Outbox(tmp_path / "outbox", 16)
    before.close()
    again = Outbox(tmp_path / "outbox", 16, owner="hall3@1")
    again.close()
    assert again.stream == before.stream


def test_a_kill_as_a_copy_begins_its_stream_leaves_it_to_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Outbox(tmp_path / "outbox", 16, owner="master@1")
    image.close()

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(opening.uuid, "uuid4", killed)
        with pytest.raises(KeyboardInterrupt):
            Outbox(tmp_path / "outbox", 16, owner="a@1")
    copy = Outbox(tmp_path / "outbox", 16, owner="a@1")
    copy.close()
    assert copy.stream != image.stream
