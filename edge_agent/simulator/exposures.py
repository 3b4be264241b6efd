"""Which trigger becomes an exposure, and when: free run, software or Line0, with the few places a real camera has.

A pulse while the sensor exposes, or while no place is free, makes no picture; the Line0 counter counts it all the same.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.simulator.faults import Faults, Truth
from edge_agent.simulator.registers import ANY_EDGE, FALLING, RISING, RegisterMap

SOFTWARE, LINE0 = 0, 1  # TriggerSource
CONTINUOUS, SINGLE = 0, 1  # AcquisitionMode


@dataclass(frozen=True, slots=True)
class Shot:
    """One accepted trigger; its exposure ends at `ready_ns`. `run` is the acquisition it belongs to."""

    trigger: int
    trigger_ns: int
    ready_ns: int
    run: int


class Exposures:
    """The queue from triggers to pictures. `changed` is the whole camera's lock; whoever takes it may wait on it."""

    def __init__(self, registers: RegisterMap, faults: Faults, depth: int, record: Callable[[Truth], None]) -> None:
        self.changed = threading.Condition()
        self.triggers = 0
        self.ended_by = "stopped"  # the fate of what the last acquisition left
        self._registers = registers
        self._faults = faults
        self._depth = depth
        self._record = record
        self._waiting: deque[Shot] = deque()
        self._in_hand: Shot | None = None
        self._run = 0
        self._left = 0
        self._exposed_ns = 0  # until then the sensor is busy
        self._tick_ns = 0

    def arm(self) -> None:
        """Triggers are taken from now on."""
        with self.changed:
            self.disarm()
            mode = self._registers["AcquisitionMode"]
            self._left = -1 if mode == CONTINUOUS else 1 if mode == SINGLE else self._registers["AcquisitionFrameCount"]
            self._tick_ns = time.monotonic_ns()
            self._registers.is_acquiring = True
            self.changed.notify_all()

    def disarm(self, fate: str = "stopped") -> None:
        """No trigger is taken any more; what waited, or is being exposed, comes to nothing."""
        with self.changed:
            self._run += 1
            self.ended_by = fate
            self._registers.is_acquiring = False
            for shot in self._waiting:
                self._record(Truth(shot.trigger, 0, 0, fate, shot.trigger_ns))
            self._waiting.clear()
            self._exposed_ns = 0
            self.changed.notify_all()

    def edge(self, is_rising: bool, has_power: bool = True) -> bool:
        """Line0 rises or falls, and the counter and the trigger each look for theirs; say whether the camera took a picture."""
        with self.changed:
            wanted = (RISING if is_rising else FALLING, ANY_EDGE)
            if has_power and self._registers["CounterEventSource"] and self._registers["CounterEventActivation"] in wanted:
                self._registers["CounterValue"] = self._registers["CounterValue"] + 1 & 0xFFFF_FFFF
            return self._registers["TriggerActivation"] in wanted and self.pulse(LINE0, has_power)

    def pulse(self, source: int, has_power: bool = True) -> bool:
        """One trigger from Line0 or by software; say whether the camera took it."""
        with self.changed:
            now_ns = time.monotonic_ns()
            if not has_power:
                self.triggers += 1
                self._record(Truth(self.triggers, 0, 0, "power", now_ns))
                return False
            self.triggers += 1
            is_armed = (
                self._registers.is_acquiring and self._registers["TriggerMode"] and self._registers["TriggerSource"] == source
            )
            is_free = now_ns >= self._exposed_ns and len(self._waiting) + (self._in_hand is not None) < self._depth
            is_taken = bool(is_armed and is_free and self._left) and not self._faults.choose_ignored(self.triggers)
            if is_taken:
                self._accept(now_ns)
            else:
                self._record(Truth(self.triggers, 0, 0, "ignored" if is_armed else "unarmed", now_ns))
            return is_taken

    def take(self, timeout_s: float) -> Shot | None:
        """Wait for the next exposure and for its end; None where there is none so far, or it came to nothing."""
        with self.changed:
            if not self._is_due():
                self.changed.wait(min(timeout_s, self._until_tick_s()))
            if not self._is_due():
                return None
            shot = self._in_hand = self._waiting.popleft()
            while (wait_s := (shot.ready_ns - time.monotonic_ns()) / 1e9) > 0 and self.is_current(shot):
                self.changed.wait(wait_s)
            if self.is_current(shot):
                return shot
            self._record(Truth(shot.trigger, 0, 0, self.ended_by, shot.trigger_ns))
            self._in_hand = None
            return None

    def is_current(self, shot: Shot) -> bool:
        """Say whether the acquisition the shot belongs to still runs."""
        return shot.run == self._run

    def done(self) -> None:
        """The picture in hand has been sent, or has come to nothing. The last one of a limited acquisition ends it."""
        with self.changed:
            self._in_hand = None
            if self._left == 0 and not self._waiting:
                self._registers.is_acquiring = False

    def _accept(self, now_ns: int) -> None:
        self._left -= self._left > 0
        delay_us = self._registers.number("TriggerDelay") if self._registers["TriggerMode"] else 0
        self._exposed_ns = now_ns + int((delay_us + self._registers.number("ExposureTime")) * 1000)
        self._waiting.append(Shot(self.triggers, now_ns, self._exposed_ns, self._run))
        self.changed.notify_all()

    def _is_free_running(self) -> bool:
        return self._registers.is_acquiring and not self._registers["TriggerMode"] and self._left != 0

    def _until_tick_s(self) -> float:
        return max((self._tick_ns - time.monotonic_ns()) / 1e9, 0) if self._is_free_running() else threading.TIMEOUT_MAX

    def _is_due(self) -> bool:
        """Say whether an exposure waits; in free run, make the one that is due."""
        now_ns = time.monotonic_ns()
        if not self._waiting and self._is_free_running() and now_ns >= self._tick_ns:
            period_ns = int(max(1e9 / self._registers.number("AcquisitionFrameRate"), self._registers.number("ExposureTime") * 1e3))
            self._tick_ns = max(self._tick_ns + period_ns, now_ns)  # a camera that cannot keep the rate does not catch up
            self.triggers += 1
            self._accept(now_ns)
        return bool(self._waiting)
