"""What a shift and a lot came to: PASS, NG by rule, FAULT by reason, for each line; exact through kill -9. And what was asked of
the line, which has to outlive a start just as well.

A line has a small memory-mapped file with two places. Each part is counted into the older place, before its outcome goes into the
journal and to the PLC; the newer place with a good CRC counts. So a part that the journal knows as decided is counted, and one that
was counted and not decided is the last one: the next start goes back to the other place, and counts it as FAULT interrupted.
Nothing is flushed: a power cut may take the last half minute of a count with it, though never of the records.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import UNREADABLE, EdgeAgentError, Reason, remedy_within
from edge_agent.events import say
from edge_agent.plc.journal import Entry
from edge_agent.records import FAULT, NG, PASS

FOLDER = "counters"  # of the state folder, a file for each line
PLACE_BYTES = 32 << 10
_HEADER = struct.Struct("<IIQ")  # CRC-32 of the rest, length of the body, generation
_MOST_REASONS = 40  # told apart, of each outcome; more are counted together
_OTHER = "other"
_NOBODY = (0, 0)
_UNKNOWN = "what became of the last challenge is not known: the counters were damaged"


class Tally(msgspec.Struct):
    """One shift's or lot's parts. `since_us` is UTC microseconds; `rules` are those broken, `faults` the reasons."""

    since_us: int
    name: str = ""
    passed: int = 0
    ng: int = 0
    fault: int = 0
    rules: dict[str, int] = {}
    faults: dict[str, int] = {}

    def add(self, outcome: str, reasons: tuple[str, ...]) -> None:
        if outcome == PASS:
            self.passed += 1
        elif outcome == NG:
            self.ng += 1
            _add(self.rules, reasons)
        else:
            self.fault += 1
            _add(self.faults, reasons)

    def told(self) -> dict[str, Any]:
        """For whoever asks; `yield` is PASS of all parts, None without parts."""
        parts = self.passed + self.ng + self.fault
        share = round(self.passed / parts, 6) if parts else None
        counts = {"parts": parts, PASS: self.passed, NG: self.ng, FAULT: self.fault, "yield": share}
        return {"name": self.name, "since_us": self.since_us, **counts, "rules": self.rules.copy(), "faults": self.faults.copy()}


def _add(counts: dict[str, int], reasons: tuple[str, ...]) -> None:
    for reason in reasons:
        key = reason[:128] if reason in counts or len(counts) < _MOST_REASONS else _OTHER
        counts[key] = counts.get(key, 0) + 1


class Standing(msgspec.Struct):
    """Recipe and mode asked for over the control socket, and what the settings named then: until they name another, these hold."""

    recipe: str = ""
    instead_of_recipe: str = ""
    mode: str = ""
    instead_of_mode: str = ""

    def under(self, recipe: str, mode: str) -> Standing:
        """What stands where the settings name this recipe and mode."""
        return Standing(
            self.recipe if self.instead_of_recipe == recipe else recipe,
            recipe,
            self.mode if self.instead_of_mode == mode else mode,
            mode,
        )


class Kept(msgspec.Struct):
    """What a place holds. `last` is the part counted last (epoch, seq); of the epoch `recovered` all that was left is counted."""

    shift: Tally
    lot: Tally
    last: tuple[int, int] = _NOBODY
    recovered: int = 0
    challenged_us: int = 0  # when the last challenge with master parts was passed
    challenge_failed: str = ""
    challenge_brought: bool = False  # a master part that was brought failed: stored pictures do not end that
    asked: Standing = msgspec.field(default_factory=Standing)
    line: str = ""  # whose this is; '' of a release that did not say


_OUT = msgspec.json.Encoder()
_IN = msgspec.json.Decoder(Kept)


class LineCounters:
    """One line's shift and lot. Used by the publisher thread alone, once it runs."""

    def __init__(self, file: Path, now_us: int) -> None:
        """Raises EdgeAgentError where the file cannot be made."""
        was_there = True
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            was_there = file.exists()
            with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, 2 * PLACE_BYTES)
                self._map = mmap.mmap(handle.fileno(), 2 * PLACE_BYTES)
        except OSError as error:
            if not was_there:
                file.unlink(missing_ok=True)  # an empty one would be taken for damaged
            raise EdgeAgentError(f"the counters {file} cannot be kept: {error.strerror}. {remedy_within(error)}") from None
        self._line = file.name
        places = _places(self._map, self._line)
        if not places and was_there:  # of zeros, too, which is what a power cut leaves
            say("counters.replaced", file=str(file))
        failed = _UNKNOWN if was_there else ""  # that the master parts came out right is not known any more
        self._generation = places[0][0] if places else 0
        self._before = places[1][1] if len(places) > 1 else None
        self.kept = places[0][1] if places else Kept(Tally(now_us), Tally(now_us), challenge_failed=failed)

    def recover(self, left: Iterable[Entry]) -> None:
        """Bring the count in line with what the last run left in its journal. May run again, should this start be cut short."""
        undecided = {(entry.epoch, entry.seq): entry for entry in left if entry.body is None and not entry.shadow}
        if self.kept.last in undecided and self._before is not None:
            self.kept = self._before
        uncounted = [epoch for epoch, _ in undecided if epoch > self.kept.recovered]  # the disk may not have taken older ones yet
        if uncounted:
            for _ in uncounted:
                self._tally(FAULT, (Reason.INTERRUPTED.value,))
            self.kept.last, self.kept.recovered = _NOBODY, max(uncounted)
            self._keep()
        self._before = None

    def begin(self, recipe: str, mode: str) -> Standing:
        """What to begin with, where the settings name this recipe and mode: what was asked for instead of them outlives a start."""
        stands = self.kept.asked.under(recipe, mode)
        if stands != self.kept.asked:
            self.kept.asked = stands
            self._keep()
        return stands

    def ask_recipe(self, recipe: str) -> None:
        """Keep that the line is to judge by another recipe than the settings'."""
        self.kept.asked.recipe = recipe
        self._keep()

    def ask_mode(self, mode: str) -> None:
        """Keep that the line is to be in another mode than the settings'."""
        self.kept.asked.mode = mode
        self._keep()

    def give_up(self, mode: str) -> None:
        """Keep that the line is in this mode, by the settings' recipe, both at once: what was asked for cannot be used any more."""
        self.kept.asked.recipe, self.kept.asked.mode = self.kept.asked.instead_of_recipe, mode
        self._keep()

    def name_recipe(self, recipe: str) -> None:
        """The settings name a recipe anew: whatever was asked for before is over."""
        self.kept.asked.instead_of_recipe = recipe
        self.ask_recipe(recipe)

    def count(self, epoch: int, seq: int, outcome: str, reasons: tuple[str, ...]) -> None:
        """Count one part, before anybody hears of it."""
        self._tally(outcome, reasons)
        self.kept.last = (epoch, seq)
        self._keep()

    def begin_shift(self, line: str, now_us: int) -> None:
        say("counters.shift_ended", line=line, **_said(self.kept.shift))
        self.kept.shift = Tally(now_us)
        self._keep()

    def begin_lot(self, line: str, name: str, now_us: int) -> None:
        say("counters.lot_ended", line=line, **_said(self.kept.lot))
        self.kept.lot = Tally(now_us, name)
        self._keep()

    def pass_challenge(self, now_us: int) -> None:
        """Keep that all master parts came out right."""
        self.kept.challenged_us, self.kept.challenge_failed, self.kept.challenge_brought = now_us, "", False
        self._keep()

    def fail_challenge(self, why: str, is_brought: bool) -> None:
        """Keep what failed since a challenge was passed last, and whether any part of it was a brought one."""
        self.kept.challenge_failed, self.kept.challenge_brought = why, self.kept.challenge_brought or is_brought
        self._keep()

    def keep_behind(self, now_us: int) -> None:
        """Nothing that was lies ahead of the clock, which may have been set back since: a challenge would never be due again."""
        kept, shift, lot = self.kept, self.kept.shift, self.kept.lot
        if max(shift.since_us, lot.since_us, kept.challenged_us) > now_us:
            is_due = shift.since_us > kept.challenged_us  # a challenge at the shift's begin has yet to be passed
            kept.challenged_us = min(kept.challenged_us, now_us - is_due)
            shift.since_us, lot.since_us = min(shift.since_us, now_us), min(lot.since_us, now_us)
            self._keep()

    def close(self) -> None:
        """Write the file to its disk and let it go; what a disk that fails does not take is told."""
        try:
            self._map.flush()
        except OSError as error:
            say("counters.unwritten", line=self._line, why=str(error.strerror))
        self._map.close()

    def _tally(self, outcome: str, reasons: tuple[str, ...]) -> None:
        self.kept.shift.add(outcome, reasons)
        self.kept.lot.add(outcome, reasons)

    def _keep(self) -> None:
        self.kept.line = self._line
        body = _OUT.encode(self.kept)
        self._generation += 1
        rest = _HEADER.pack(0, len(body), self._generation)[4:] + body
        at = self._generation % 2 * PLACE_BYTES
        self._map[at : at + 4 + len(rest)] = zlib.crc32(rest).to_bytes(4, "little") + rest


def standing_in(file: Path) -> Standing:
    """What the line of this file was asked for, read beside a station that may be running. Raises OSError."""
    places = _places(file.read_bytes().ljust(2 * PLACE_BYTES, b"\0"), file.name)
    return places[0][1].asked if places else Standing()


def _places(memory: mmap.mmap | bytes, line: str) -> list[tuple[int, Kept]]:
    """The places that can be believed to be this line's, the newer one first."""
    found = [place for at in (0, PLACE_BYTES) if (place := _read(memory, at)) and place[1].line in ("", line)]
    return sorted(found, key=lambda place: -place[0])


def _read(memory: mmap.mmap | bytes, at: int) -> tuple[int, Kept] | None:
    """Generation and content of a place; None where it is empty or was not written to its end."""
    crc, length, generation = _HEADER.unpack_from(memory, at)
    end = at + _HEADER.size + length
    if not generation or length > PLACE_BYTES - _HEADER.size or zlib.crc32(memory[at + 4 : end]) != crc:
        return None
    try:
        return generation, _IN.decode(memory[at + _HEADER.size : end])
    except UNREADABLE:
        return None


def _said(tally: Tally) -> dict[str, Any]:
    told = tally.told()
    return {"lot" if key == "name" else key: value for key, value in told.items()}


class Counters:
    """The lines' counters; `shifts` are times of day, HH:MM in local time, at which a shift begins. `recover` comes first."""

    def __init__(self, folder: Path, lines: Iterable[str], shifts: tuple[str, ...], now_us: int) -> None:
        self._shifts = shifts
        self.lines = {name: LineCounters(folder / name, now_us) for name in lines}
        self._next_us = next_shift_us(shifts, now_us)
        self._looked_us = now_us

    def recover(self, left: Iterable[Entry], now_us: int) -> None:
        """Bring the counts in line with what the last run left in its journal; only then begin a shift that has come since."""
        entries = list(left)
        began = shift_began_us(self._shifts, now_us)
        for name, line in self.lines.items():
            line.recover(entry for entry in entries if entry.line == name)
            line.keep_behind(now_us)
            if line.kept.shift.since_us < began:  # it changed while nobody was here
                line.begin_shift(name, now_us)

    def look(self, now_us: int) -> None:
        """Begin a shift where its time has come."""
        if now_us < self._looked_us:  # the clock was set back, and the next may be sooner
            self._next_us = next_shift_us(self._shifts, now_us)
            for line in self.lines.values():
                line.keep_behind(now_us)
        self._looked_us = now_us
        if now_us >= self._next_us:
            self._next_us = next_shift_us(self._shifts, now_us)
            for name, line in self.lines.items():
                line.begin_shift(name, now_us)

    def told(self) -> dict[str, dict[str, Any]]:
        return {name: {"shift": line.kept.shift.told(), "lot": line.kept.lot.told()} for name, line in self.lines.items()}

    def close(self) -> None:
        for line in self.lines.values():
            line.close()


def next_shift_us(shifts: tuple[str, ...], now_us: int) -> int:
    """When the next shift begins, UTC microseconds; never, without shifts."""
    return min((at for at in _changes_us(shifts, now_us) if at > now_us), default=1 << 62)


def shift_began_us(shifts: tuple[str, ...], now_us: int) -> int:
    """When the current shift began; 0 without shifts."""
    return max((at for at in _changes_us(shifts, now_us) if at <= now_us), default=0)


def _changes_us(shifts: tuple[str, ...], now_us: int) -> list[int]:
    """The changes of yesterday, today and tomorrow, by the machine's local time."""
    today = datetime.fromtimestamp(now_us / 1e6)
    days = [today + timedelta(days=days) for days in (-1, 0, 1)]
    times = [(int(shift[:2]), int(shift[3:])) for shift in shifts]
    begins = [day.replace(hour=hour, minute=minute, second=0, microsecond=0) for day in days for hour, minute in times]
    return [int(begin.timestamp() * 1e6) for begin in begins]
