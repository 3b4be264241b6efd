"""A whole daemon with a hardware-triggered camera, a simulated one, pulsed and hurt at random; and everything both sides noted.

What a picture shows depends on its exposure alone: the simulator's sequence number as a pattern that the network takes for good,
and on every `DEFECT_EVERY`th a bright square that it does not. So whoever has a frame knows which exposure it is of.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.daemon import Daemon
from edge_agent.records import Judgement, Pixels
from edge_agent.settings import load_station
from edge_agent.simulator import Happening, SimulatedCamera, Truth
from edge_agent.wire import Verdict

SIDE = 64
DEFECT_EVERY = 10
FRAME_TIMEOUT_S = 0.3
PACKET = 576
FAULTS = (
    "loss=0.002,drop=0.004,leader=0.004,trailer=0.004,truncated=0.004,wrong_size=0.004,frozen=0.006,black=0.004,"
    "saturated=0.004,ignored=0.006,late=0.001:450ms"
)
POWER_EVERY, OFF_S = 1500, 0.3
FREEZE_EVERY, FREEZE_S = 700, 0.4
_BLOCK = 4  # pixels of one bit of the pattern
_BITS = SIDE // _BLOCK
_ZERO, _ONE, _SURFACE, _DEFECT = 90, 150, 110, 250


def show(sequence: int, rows: int, cols: int) -> Pixels:
    """Return what the exposure shows, (rows, cols): its number along the upper edge, and where it is defective, a square."""
    pixels = np.full((rows, cols), _SURFACE, np.uint8)
    bits = np.array([sequence >> bit & 1 for bit in range(_BITS)], bool)
    pixels[:_BLOCK] = np.repeat(np.where(bits, _ONE, _ZERO), _BLOCK)
    if is_defective(sequence):
        pixels[30:40, 30:40] = _DEFECT
    return pixels


def is_defective(sequence: int) -> bool:
    return sequence % DEFECT_EVERY == 0


def read_number(pixels: Pixels) -> int:
    """Return the sequence number that a picture shows; some number where it shows none."""
    bits = pixels[_BLOCK // 2, _BLOCK // 2 :: _BLOCK] > (_ZERO + _ONE) // 2
    return sum(int(bit) << index for index, bit in enumerate(bits))


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as the line judged it: for part `seq`, with the camera's `frame_id`, of the exposure `number`."""

    seq: int
    frame_id: int
    number: int
    trigger_ns: int


@dataclass(slots=True)
class Session:
    """From one start of the camera to its end. `pulses` is what its counter stood at when it ended."""

    began_ns: int
    ended_ns: int = 0
    pulses: int = 0
    ended_by: str = ""


@dataclass(slots=True)
class Record:
    """Everything noted in one run: of the simulator, of the station, and of whoever pulsed."""

    pulses: int = 0
    truths: list[Truth] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    seen: dict[int, Seen] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    wall_ns: int = field(default_factory=lambda: time.time_ns() - time.monotonic_ns())
    seconds: float = 0.0

    def note_truth(self, truth: Truth | Happening) -> None:
        (self.truths if isinstance(truth, Truth) else self.happenings).append(truth)  # type: ignore[arg-type]

    def note_judged(self, inspection: Any, _judgement: Judgement) -> None:
        part, frame = inspection.part, inspection.frame
        if part.line == "line":
            self.seen[part.seq] = Seen(part.seq, frame.frame_id, read_number(frame.pixels), part.trigger_ns)

    def trigger_ns(self, verdict: Verdict) -> int:
        """The verdict's trigger time on the simulator's clock."""
        return verdict.trigger_time_us * 1000 - self.wall_ns


def make_station(folder: Path, address: str) -> Any:
    """Return a StationFolder of the tests with the camera and the recipe of a soak; `write()` makes its files."""
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    folder.mkdir(parents=True, exist_ok=True)
    station = importlib.import_module("stations").StationFolder(folder)
    station.settings["cameras"] = [camera_settings(address)]
    station.settings["lines"] = [{"name": "line", "camera": "camera", "recipe": "part", "frames": 64}]
    station.recipe["deadline_ms"] = 1500
    station.recipe["quality"] = {"min_mean_gray": 40, "saturated_above": 250, "max_saturated_share": 0.5, "frozen": True}
    del station.recipe["presence"]
    return station


def camera_settings(address: str) -> dict[str, Any]:
    return {
        "name": "camera",
        "kind": "aravis",
        "address": address,
        "trigger": "hardware",
        "counter": "Counter0",
        "frame_timeout_ms": FRAME_TIMEOUT_S * 1000,
        "packet_size": PACKET,
        "socket": "standard",
    }


def simulate(address: str, record: Record, seed: int, faults: str = FAULTS) -> SimulatedCamera:
    spec = f"{faults},seed={seed}" if faults else ""
    return SimulatedCamera(
        address, rows=SIDE, cols=SIDE, exposure_us=100.0, pictures=show, faults=spec, on_record=record.note_truth
    )


class Pulses:
    """Pulses Line0 at a rate, and now and then freezes the control channel or takes the power away; notes the sessions."""

    def __init__(self, camera: SimulatedCamera, record: Record, rate_hz: float, seed: int) -> None:
        self._camera, self._record, self._rate_hz = camera, record, rate_hz
        self._draws = random.Random(seed)
        self._idle_ns = time.monotonic_ns()
        self._session: Session | None = None

    def give(
        self, count: int, *, power_every: int = 0, freeze_every: int = 0, tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """So many pulses, the time between two drawn from half to one and a half of its mean."""
        power_at, freeze_at = self._next(power_every), self._next(freeze_every)
        due_s = time.monotonic()
        for number in range(1, count + 1):
            due_s += self._draws.uniform(0.5, 1.5) / self._rate_hz
            time.sleep(max(0.0, due_s - time.monotonic()))
            self.look()
            self._camera.pulse()
            self._record.pulses += 1
            if number == freeze_at:
                self._camera.freeze_control(FREEZE_S)
                freeze_at += self._next(freeze_every)
            if number >= power_at and self._session is not None:
                self.cut_power()
                power_at = number + self._next(power_every)
            if number % 1000 == 0:
                tell(number)

    def look(self) -> None:
        """Note whether the camera takes pictures for the station."""
        now_ns = time.monotonic_ns()
        if not self._camera.is_acquiring:
            self._idle_ns = now_ns
            if self._session is not None:
                self.end("closed")
        elif self._session is None:
            self._session = Session(self._idle_ns)
            self._record.sessions.append(self._session)

    def cut_power(self, off_s: float = OFF_S) -> None:
        self.end("power")
        self._camera.power_cycle(off_s)
        self._idle_ns = time.monotonic_ns()

    def end(self, how: str) -> None:
        """The session is over: its pulses are those that the camera's counter has counted since the station set it up."""
        session, self._session = self._session, None
        if session is not None:
            session.pulses = int(self._camera.register("CounterValue"))
            session.ended_ns, session.ended_by = time.monotonic_ns(), how

    def _next(self, every: int) -> int:
        return self._draws.randint(every * 3 // 4, every * 5 // 4) if every else sys.maxsize


class Running:
    """The daemon between its start and its end, in this process."""

    def __init__(self, station: Any, record: Record) -> None:
        self.record = record
        self.daemon = Daemon(load_station(station.write()), observe=record.note_judged)
        self.daemon.publisher.on_verdict = record.verdicts.append

    @property
    def book(self) -> Any:
        return self.daemon.publisher.book.lines["line"]

    def __enter__(self) -> Running:
        self.daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.record.counters = self.daemon.lines[0].grabber.camera.counters()
        self.record.summary = self.daemon.close()

    def wait_until(self, is_true: Callable[[], object], timeout_s: float = 10.0) -> bool:
        end = time.monotonic() + timeout_s
        while not is_true():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def settle(self) -> None:
        """Wait until nothing more comes: longer than a trigger without a picture stays unknown."""
        time.sleep(3 * FRAME_TIMEOUT_S)
        self.wait_until(lambda: not self.daemon.publisher.book.open_parts())


def soak(
    folder: Path, parts: int, seed: int, rate_hz: float, address: str, tell: Callable[[int], None] = lambda _: None, **events: int
) -> Record:
    """Run the station for so many pulses; return what everybody noted."""
    record = Record()
    began_s = time.monotonic()
    with simulate(address, record, seed) as camera, Running(make_station(folder, address), record) as running:
        if not running.wait_until(lambda: running.book.ready and camera.is_acquiring):
            raise RuntimeError(f"the line did not become ready: {running.book.why_not_ready}")
        pulses = Pulses(camera, record, rate_hz, seed)
        pulses.look()
        pulses.give(parts, tell=tell, **events)
        running.wait_until(lambda: running.book.ready and camera.is_acquiring)
        pulses.look()
        running.settle()
        pulses.end("end")
    record.seconds = time.monotonic() - began_s
    return record
