"""What was decided survives kill -9; what was not comes back without an outcome; no (epoch, seq) comes twice."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.errors import EdgeAgentError
from edge_agent.plc.journal import BODY_BYTES, SLOT_BYTES, Entry, Journal

STREAM = """
import sys
from pathlib import Path
from edge_agent.plc.journal import Journal
journal = Journal(Path(sys.argv[1]), 4096)
journal.adopt()
committed = []
for seq in range(1, 1_000_000):
    ticket = journal.open_part(seq, 1000 + seq, b"one", b"part%d" % seq)
    print("o", seq, flush=True)
    if seq % 3:
        journal.decide(ticket, b"outcome of %d " % seq * 20)
        print("d", seq, flush=True)
    if seq % 5 == 1:
        journal.commit([ticket])
        print("c", seq, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal"


def adopted(file: Path, slots: int = 64) -> Journal:
    journal = Journal(file, slots)
    journal.adopt()
    return journal


def reopened(file: Path, slots: int = 64) -> list[Entry]:
    journal = Journal(file, slots)
    journal.close()
    return journal.unfinished


def test_a_trial_part_comes_back_as_one(file: Path) -> None:
    journal = adopted(file)
    journal.open_part(1, 1000, b"one", b"A", True)
    journal.open_part(2, 1001, b"one", b"B", False)
    journal.close()
    assert [(entry.part_id, entry.shadow) for entry in reopened(file)] == [("A", True), ("B", False)]


def test_a_new_journal_holds_nothing(file: Path) -> None:
    journal = adopted(file)
    assert journal.unfinished == []
    assert file.stat().st_size == 4096 + 64 * SLOT_BYTES
    journal.close()


def test_open_and_decided_parts_come_back_and_committed_ones_do_not(file: Path) -> None:
    journal = adopted(file)
    tickets = [journal.open_part(seq, seq * 10, b"one", f"p{seq}".encode()) for seq in (1, 2, 3)]
    journal.decide(tickets[1], b"two")
    journal.decide(tickets[2], b"three")
    journal.commit([tickets[2]])
    journal.close()
    assert [(e.epoch, e.seq, e.trigger_time_us, e.line, e.part_id, e.body) for e in reopened(file)] == [
        (journal.epoch, 1, 10, "one", "p1", None),
        (journal.epoch, 2, 20, "one", "p2", b"two"),
    ]


def test_after_kill_9_everything_decided_is_there(file: Path) -> None:
    command = [sys.executable, "-c", STREAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(1500)]
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.read().splitlines()
        assert process.wait() == -signal.SIGKILL
    words = [line.split() for line in said if len(line.split()) == 2]
    opened, decided, committed = ({int(seq) for kind, seq in words if kind == wanted} for wanted in "odc")
    journal = Journal(file, 4096)
    journal.close()
    found = {entry.seq: entry for entry in journal.unfinished}
    last = max(opened)
    assert len(decided) > 400
    for seq in opened - committed - {last, last + 1}:
        entry = found[seq]
        assert entry.part_id == f"part{seq}"
        assert entry.trigger_time_us == 1000 + seq
        assert entry.body == (b"outcome of %d " % seq * 20 if seq in decided else None)
    assert not committed & set(found)
    assert set(found) <= opened | {last + 1}
    assert [entry.seq for entry in journal.unfinished] == sorted(found)
    assert all(entry.epoch < journal.epoch for entry in journal.unfinished)


def test_the_epoch_grows_with_every_start_also_within_one_second(file: Path) -> None:
    epochs = []
    for _ in range(5):
        journal = adopted(file)
        epochs.append(journal.epoch)
        journal.close()
    assert epochs == sorted(set(epochs))


def test_the_epoch_grows_even_where_the_clock_was_set_back(file: Path) -> None:
    adopted(file).close()
    header = struct.Struct("<8sIIQ")
    data = bytearray(file.read_bytes())
    magic, slot_bytes, slots, _ = header.unpack_from(data)
    header.pack_into(data, 0, magic, slot_bytes, slots, 2**31 + 5)
    file.write_bytes(data)
    journal = Journal(file, 64)
    journal.close()
    assert journal.epoch == 2**31 + 6


def test_a_clock_beyond_the_year_2106_gives_an_epoch_that_travels_in_32_bits(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 6.2e9)  # 2166, as a clock says whose battery is empty
    epochs = []
    for _ in range(2):
        journal = adopted(file)
        epochs.append(journal.epoch)
        journal.close()
    assert 1 < epochs[0] < epochs[1] < 1 << 32


def test_what_a_clock_beyond_the_year_2106_left_before_takes_no_later_epoch_there(file: Path) -> None:
    """An epoch of more bits ended a daemon at its first outcome, and that part is still in its journal."""
    journal = adopted(file)
    journal.epoch = 6_200_000_000
    journal.open_part(1, 0, b"one", b"p")
    journal.close()
    journal = adopted(file)
    assert [(entry.seq, entry.epoch < 1 << 32) for entry in journal.unfinished] == [(1, True)]
    assert journal.unfinished[0].epoch < journal.epoch < 1 << 32


def test_what_a_run_left_stays_through_every_start_until_it_is_committed(file: Path) -> None:
    journal = adopted(file)
    journal.decide(journal.open_part(1, 0, b"one", b"p"), b"body")
    journal.open_part(2, 0, b"one", b"q")
    journal.close()
    assert [entry.body for entry in reopened(file)] == [b"body", None], "a start that died before adopting"
    second = adopted(file)
    second.decide(second.open_part(1, 0, b"one", b"r"), b"new")
    second.close()
    third = adopted(file)
    assert [(e.epoch, e.part_id, e.body) for e in third.unfinished] == [
        (journal.epoch, "p", b"body"),
        (journal.epoch, "q", None),
        (second.epoch, "r", b"new"),
    ]
    third.commit([0, 2])  # an entry's ticket is its place in `unfinished`
    third.close()
    assert [entry.part_id for entry in reopened(file)] == ["q"]


def test_beside_all_that_was_left_there_is_room_for_new_parts(file: Path) -> None:
    journal = adopted(file, 64)
    for seq in range(1, 65):
        journal.open_part(seq, 0, b"one", b"old")
    journal.close()
    for slots in (64, 16):  # as many as before, or fewer by the settings
        again = adopted(file, slots)
        assert len(again.unfinished) == 64
        if slots == 64:
            for seq in range(1, 17):
                again.open_part(seq, 0, b"one", b"new")
            assert again.overwritten == 0
            again.commit(list(range(64, 80)))
        again.close()
    assert len(reopened(file)) == 64


def test_where_nothing_can_be_stored_start_after_start_the_oldest_gives_way(file: Path) -> None:
    for _ in range(12):
        journal = adopted(file, 64)
        for seq in range(1, 61):
            journal.open_part(seq, 0, b"one", b"p")
        journal.close()
        assert file.stat().st_size <= 4096 + 128 * SLOT_BYTES
    assert [entry.seq for entry in reopened(file) if entry.epoch == journal.epoch] == list(range(1, 61))


@pytest.mark.parametrize(
    "damage", [b"", b"short", b"x" * 10_000, b"EAJRNL01" + b"\xff" * 64], ids=["empty", "short", "foreign", "absurd"]
)
def test_a_file_that_is_no_journal_is_put_aside(file: Path, damage: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(damage)
    journal = adopted(file)
    assert journal.unfinished == []
    journal.close()
    aside = list(file.parent.glob("journal.damaged-*"))
    assert [kept.read_bytes() for kept in aside] == [damage]


def test_a_truncated_journal_is_put_aside(file: Path) -> None:
    adopted(file).close()
    os.truncate(file, 8192)
    journal = adopted(file)
    assert journal.unfinished == []
    journal.close()
    assert len(list(file.parent.glob("journal.damaged-*"))) == 1


def with_parts_left(file: Path) -> bytes:
    """The file of a run that left parts 1 to 3 in the first of 64 slots, where the clock was ahead."""
    journal = adopted(file)
    journal.epoch += 1000
    for seq in (1, 2, 3):
        journal.decide(journal.open_part(seq, 0, b"one", b"p"), b"outcome of %d" % seq)
    journal.close()
    return file.read_bytes()


@pytest.mark.parametrize("at", [0, 9, 12, 13], ids=["magic", "slot size", "slots", "more slots"])
def test_a_damaged_header_costs_no_part(file: Path, at: int) -> None:
    data = bytearray(with_parts_left(file))
    data[at] ^= 64 if at <= 12 else 1
    file.write_bytes(data)
    journal = Journal(file, 64)
    epoch = journal.unfinished[0].epoch
    assert [(entry.seq, entry.body) for entry in journal.unfinished] == [(seq, b"outcome of %d" % seq) for seq in (1, 2, 3)]
    assert journal.epoch > epoch
    assert file.read_bytes() == data, "until the new one is adopted, a kill must find all of it"
    journal.adopt()
    journal.close()
    assert [kept.read_bytes() for kept in file.parent.glob("journal.damaged-*")] == [data]
    assert [entry.seq for entry in reopened(file)] == [1, 2, 3]


def test_a_journal_that_is_cut_off_gives_what_it_still_holds(file: Path) -> None:
    file.write_bytes(with_parts_left(file)[: 4096 + 2 * SLOT_BYTES + 7])
    assert [entry.seq for entry in reopened(file)] == [1, 2]


def test_a_slot_with_a_wrong_crc_is_not_believed(file: Path) -> None:
    journal = adopted(file)
    tickets = [journal.open_part(seq, 0, b"one", b"p") for seq in (1, 2)]
    for ticket in tickets:
        journal.decide(ticket, b"outcome")
    journal.close()
    data = bytearray(file.read_bytes())
    data[4096 + 20] ^= 1  # in the trigger of the first
    at = data.index(b"outcome", 4096 + SLOT_BYTES)
    data[at] ^= 1  # in the outcome of the second
    file.write_bytes(data)
    journal = adopted(file)
    assert [(entry.seq, entry.body) for entry in journal.unfinished] == [(2, None)]
    assert len(journal.unreadable) == 1
    journal.close()
    assert adopted(file).unreadable == [], "told once"


def test_a_body_of_the_most_bytes_fits_and_a_longer_one_is_refused(file: Path) -> None:
    journal = adopted(file)
    ticket = journal.open_part(1, 0, b"one", b"p")
    with pytest.raises(ValueError, match="does not fit"):
        journal.decide(ticket, bytes(BODY_BYTES + 1))
    journal.decide(ticket, b"\xaa" * BODY_BYTES)
    journal.open_part(2, 0, b"one", b"q")
    journal.close()
    assert [(entry.seq, entry.body) for entry in reopened(file)] == [(1, b"\xaa" * BODY_BYTES), (2, None)]


def test_the_ring_goes_round_and_counts_what_it_had_to_overwrite(file: Path) -> None:
    journal = adopted(file, 64)
    tickets = [journal.open_part(seq, 0, b"one", b"p") for seq in range(1, 65)]
    journal.commit(tickets[:10])
    for seq in range(65, 77):
        journal.open_part(seq, 0, b"one", b"p")
    assert journal.overwritten == 2
    journal.close()
    assert [entry.seq for entry in reopened(file)] == list(range(13, 77))


def test_a_part_whose_slot_was_taken_does_not_touch_the_one_that_has_it(file: Path) -> None:
    journal = adopted(file, 64)
    first = journal.open_part(1, 0, b"one", b"p")
    for seq in range(2, 66):
        journal.open_part(seq, 0, b"one", b"p")
    journal.decide(first, b"an old outcome")
    journal.commit([first])
    journal.close()
    assert [(entry.seq, entry.body) for entry in reopened(file)] == [(seq, None) for seq in range(2, 66)]


def test_the_number_of_slots_may_change_between_runs(file: Path) -> None:
    journal = adopted(file, 64)
    for seq in range(1, 61):
        journal.open_part(seq, 0, b"one", b"p")
    journal.close()
    assert len(reopened(file, 128)) == 60


def test_no_room_for_the_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / "journal.new").mkdir()
    with pytest.raises(EdgeAgentError, match=r"cannot be made: Is a directory\. Something else lies in its place"):
        Journal(tmp_path / "journal", 64)


@pytest.fixture
def full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of 64 parts with one open, one decided and one delivered part, on a disk that has no room for a second file."""
    journal = adopted(file)
    tickets = [journal.open_part(seq, 1000, b"one", b"old") for seq in (1, 2, 3)]
    journal.decide(tickets[1], b"outcome of 2")
    journal.decide(tickets[2], b"outcome of 3")
    journal.commit(tickets[2:])
    journal.close()

    def no_room(handle: int, *_: object) -> None:
        if Path(f"/proc/self/fd/{handle}").stat().st_ino != file.stat().st_ino:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge_agent.plc.journal.os.posix_fallocate", no_room)
    return file


def test_on_a_full_disk_a_copy_with_holes_is_not_written_to(full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge_agent.plc.journal.os.posix_fallocate", no_room)
    before = full_disk.read_bytes()
    with pytest.raises(EdgeAgentError, match=r"cannot be made: No space left on device\. Free space there\."):
        Journal(full_disk, 64)
    assert full_disk.read_bytes() == before


def test_on_a_full_disk_the_last_runs_file_is_gone_on_with(full_disk: Path) -> None:
    before = reopened(full_disk)
    assert [(entry.seq, entry.body) for entry in before] == [(1, None), (2, b"outcome of 2")]
    again = Journal(full_disk, 64)
    assert again.unfinished == before, "a start that died before adopting has lost nothing"
    assert again.epoch > before[0].epoch + 1, "and its epoch is never used again"
    again.adopt()
    for seq in range(1, 63):
        again.open_part(seq, 2000, b"one", b"new")
    assert again.overwritten == 0, "what was left has two places"
    again.commit([0, 1])
    for seq in (63, 64):
        again.open_part(seq, 2000, b"one", b"new")
    assert again.overwritten == 0, "every slot is free again"
    again.close()
    assert {(entry.epoch, entry.part_id) for entry in reopened(full_disk)} == {(again.epoch, "new")}
    assert not full_disk.with_suffix(".new").exists()


def test_on_a_full_disk_the_last_runs_file_keeps_the_slots_it_has(full_disk: Path) -> None:
    journal = adopted(full_disk, 128)
    for seq in range(1, 63):
        journal.open_part(seq, 2000, b"one", b"new")
    assert journal.overwritten == 0
    journal.close()
    assert len(reopened(full_disk)) == 64


def test_a_full_disk_is_said_where_there_was_no_run(full_disk: Path) -> None:
    full_disk.unlink()
    with pytest.raises(EdgeAgentError, match="cannot be made"):
        Journal(full_disk, 64)
