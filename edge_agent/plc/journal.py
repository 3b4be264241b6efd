"""The memory-mapped file that kill -9 cannot empty.

Every part has a slot: its trigger is stored before it is inspected, its outcome before it is published. Nothing is
flushed, since the page cache outlives the process; only the epoch, one number per start, is flushed, so that not even a
power cut makes an (epoch, seq) pair come twice. A slot is believed only where its CRCs hold.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import FULL, EdgeAgentError, remedy_within
from edge_agent.events import say

_HEADER = struct.Struct("<8sIIQ")  # magic, slot size, slots, epoch
_MAGIC = b"EAJRNL02"
_FIRST = 4096  # slots begin on the second page
SLOT_BYTES = 4096
_TRIGGER = struct.Struct("<QQQ64s64s?")  # epoch, seq, trigger time in us, line, part id, shadow
_STATE, _TRIGGER_CRC, _BODY_CRC, _BODY_LENGTH, _TRIGGER_AT = 0, 4, 8, 12, 16
_BODY_AT = _TRIGGER_AT + _TRIGGER.size
BODY_BYTES = SLOT_BYTES - _BODY_AT
_EMPTY, _OPEN, _DECIDED, _COMMITTED = 0, 1, 2, 3
_MOST_EPOCH = (1 << 32) - 1  # it travels in 32 bits; a larger one is damage
_U32 = struct.Struct("<I")
_PAIR = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a slot held when the last run ended. `body` is the outcome's record, None for a part without one."""

    slot: int
    epoch: int
    seq: int
    trigger_time_us: int
    line: str
    part_id: str
    body: bytes | None
    shadow: bool = False


class Journal:
    """A file of `slots` parts. `open_part` runs under the publisher's lock; `decide` on its thread; `commit` on the outbox's.

    What the last run left is in `unfinished`, and stays in the file like any part until it is committed: the ticket of an entry is
    its place in that list. So a station starts, and may be killed again, though the disk takes nothing. Of the parts in
    `unreadable` slots nothing can be told but how many they are."""

    def __init__(self, file: Path, slots: int) -> None:
        """Raises EdgeAgentError where the file cannot be read or made."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            data = file.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise EdgeAgentError(f"the journal {file} cannot be read: {error.strerror}. {remedy_within(error)}") from None
        self._is_damaged = file.exists() and not _is_sound(data)
        self.unfinished, self.unreadable = _left_in(data)
        previous = max([_previous_epoch(data), *(entry.epoch for entry in self.unfinished)])
        left = len(self.unfinished)
        self._slots = max(slots, left, min(left + slots // 4, 2 * slots))  # room for new parts beside what is left
        self.epoch = max(previous + 1, int(time.time()) & _MOST_EPOCH)  # a clock that lost its battery may say 2165
        self.overwritten = 0
        self._lock = threading.Lock()
        self._next = left
        self._slot_of = dict(enumerate(range(left)))  # by ticket, oldest first; a later part may have taken the slot
        self._map = self._create(file)
        kept = set(self._slot_of.values())
        # last freed, first used: few pages stay warm, rather than all cold
        self._free = [slot for slot in reversed(range(self._slots)) if slot not in kept]

    def _create(self, file: Path) -> mmap.mmap:
        """Lay the new journal beside the old one, durably, with what the last run left. Where the disk has no room for both, go on
        in the old file: a station must start on a full disk, too."""
        size = _FIRST + self._slots * SLOT_BYTES
        fresh = file.with_suffix(".new")
        try:
            with open(fresh, "wb") as out:
                os.posix_fallocate(out.fileno(), 0, size)
                out.write(_HEADER.pack(_MAGIC, SLOT_BYTES, self._slots, self.epoch).ljust(_FIRST, b"\0"))
                out.writelines(_slots_of(file, self.unfinished))
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            if error.errno in FULL and file.exists() and not self._is_damaged:
                return self._reuse(file)
            raise _cannot_be_made(fresh, size, error) from None
        self._fresh, self._file = fresh, file
        with open(fresh, "r+b") as handle:
            return mmap.mmap(handle.fileno(), size)

    def _reuse(self, file: Path) -> mmap.mmap:
        """Take the last run's file with the slots it has: its unfinished entries keep theirs, and their own epoch."""
        self._fresh = self._file = file
        self._slot_of = {ticket: entry.slot for ticket, entry in enumerate(self.unfinished)}
        size = file.stat().st_size
        try:
            with open(file, "r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, size)  # a copy may have holes, and to write into one is SIGBUS now
                found = mmap.mmap(handle.fileno(), size)
        except OSError as error:
            raise _cannot_be_made(file, size, error) from None
        self._slots = (len(found) - _FIRST) // SLOT_BYTES
        for slot in self.unreadable:
            found[_FIRST + slot * SLOT_BYTES] = _EMPTY  # told once
        _HEADER.pack_into(found, 0, _MAGIC, SLOT_BYTES, self._slots, self.epoch)
        found.flush()
        return found

    def adopt(self) -> None:
        """Replace the last run's file: from here on parts may be opened, for they outlive this process. A damaged one is put aside,
        loudly, when what could be read of it is in the new one."""
        if self.unreadable:
            say("journal.unreadable", file=str(self._file), parts=len(self.unreadable))
        if self._fresh == self._file:
            return
        if self._is_damaged:
            aside = self._file.with_suffix(f".damaged-{time.time_ns()}")
            self._file.replace(aside)
            say("journal.replaced", file=str(aside), parts=len(self.unfinished))
        self._fresh.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def open_part(self, seq: int, trigger_time_us: int, line: bytes, part_id: bytes, shadow: bool = False) -> int:
        """Store a trigger; return its ticket, by which `decide` and `commit` know it."""
        with self._lock:
            ticket = self._next
            self._next += 1
            slot = self._free.pop() if self._free else self._take_oldest()
            self._slot_of[ticket] = slot
            at = _FIRST + slot * SLOT_BYTES
            trigger = _TRIGGER.pack(self.epoch, seq, trigger_time_us, line, part_id, shadow)
            self._map[at] = _EMPTY
            self._map[at + _TRIGGER_AT : at + _BODY_AT] = trigger
            _U32.pack_into(self._map, at + _TRIGGER_CRC, zlib.crc32(trigger))
            self._map[at] = _OPEN
        return ticket

    def _take_oldest(self) -> int:
        if not self.overwritten:
            say("journal.overwritten", file=str(self._file), slots=self._slots)
        self.overwritten += 1
        return self._slot_of.pop(next(iter(self._slot_of)))

    def decide(self, ticket: int, body: bytes) -> None:
        """Store an outcome of at most BODY_BYTES. Raises ValueError for a longer one: the caller shortens it.

        A part whose slot was taken by a later one is left out: it must not be mistaken for that one."""
        if len(body) > BODY_BYTES:
            raise ValueError(f"a record of {len(body)} bytes does not fit a journal slot of {BODY_BYTES}")
        with self._lock:
            slot = self._slot_of.get(ticket)
            if slot is None:
                return
            at = _FIRST + slot * SLOT_BYTES
            self._map[at + _BODY_AT : at + _BODY_AT + len(body)] = body
            _PAIR.pack_into(self._map, at + _BODY_CRC, zlib.crc32(body), len(body))
            self._map[at] = _DECIDED

    def commit(self, tickets: list[int]) -> None:
        """Mark outcomes that are durable elsewhere; nothing once it is closed: a stop may not have waited for a commit."""
        with self._lock:
            if self._map.closed:
                return
            for ticket in tickets:
                slot = self._slot_of.pop(ticket, None)
                if slot is not None:
                    self._map[_FIRST + slot * SLOT_BYTES] = _COMMITTED
                    self._free.append(slot)

    def close(self) -> None:
        """Write the file to its disk and let it go; what a disk that fails does not take is in memory alone, and told."""
        with self._lock:
            try:
                self._map.flush()
            except OSError as error:
                say("journal.unwritten", file=str(self._file), parts=len(self._slot_of), why=str(error.strerror))
            self._map.close()


def _slots_of(file: Path, entries: list[Entry]) -> Iterator[bytes]:
    """Yield the slots of these entries as they lie in the file."""
    if entries:
        with open(file, "rb") as handle:
            for entry in entries:
                handle.seek(_FIRST + entry.slot * SLOT_BYTES)
                yield handle.read(SLOT_BYTES)


def _cannot_be_made(file: Path, size: int, error: OSError) -> EdgeAgentError:
    return EdgeAgentError(f"the journal {file} of {size} bytes cannot be made: {error.strerror}. {remedy_within(error)}")


def _is_sound(data: bytes) -> bool:
    """True for a journal of this format that has the length its header says."""
    magic, slot_bytes, slots, _ = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0, 0)
    return bool(magic == _MAGIC and slot_bytes == SLOT_BYTES and len(data) == _FIRST + slots * SLOT_BYTES)


def _previous_epoch(data: bytes) -> int:
    magic, _, _, epoch = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0, 0)
    return int(epoch) if magic == _MAGIC and epoch < _MOST_EPOCH else 0


def _left_in(data: bytes) -> tuple[list[Entry], list[int]]:
    """What the last run left undelivered, oldest first, and the slots of parts that cannot be read. Slots are believed by their
    CRCs alone, whatever became of the header or of the file's end."""
    slots = max(0, len(data) - _FIRST) // SLOT_BYTES
    open_slots = [slot for slot in range(slots) if data[_FIRST + slot * SLOT_BYTES] in (_OPEN, _DECIDED)]
    entries = {slot: _entry(data, slot) for slot in open_slots}
    found = [entry for entry in entries.values() if entry is not None]
    return sorted(found, key=lambda e: (e.epoch, e.line, e.seq)), [slot for slot, entry in entries.items() if entry is None]


def _entry(data: bytes, slot: int) -> Entry | None:
    """The part of a slot that holds one; None where its trigger has not its CRC."""
    at = _FIRST + slot * SLOT_BYTES
    state = data[at]
    trigger = data[at + _TRIGGER_AT : at + _BODY_AT]
    if zlib.crc32(trigger) != _U32.unpack_from(data, at + _TRIGGER_CRC)[0]:
        return None
    epoch, seq, trigger_us, line, part_id, shadow = _TRIGGER.unpack(trigger)
    crc, length = _PAIR.unpack_from(data, at + _BODY_CRC)
    body: bytes | None = data[at + _BODY_AT : at + _BODY_AT + length]
    if state != _DECIDED or length > BODY_BYTES or body is None or zlib.crc32(body) != crc:
        body = None
    name, part = line.rstrip(b"\0").decode(errors="replace"), part_id.rstrip(b"\0").decode(errors="replace")
    return Entry(slot, epoch & _MOST_EPOCH, seq, trigger_us, name, part, body, shadow)  # earlier releases gave larger epochs, too
