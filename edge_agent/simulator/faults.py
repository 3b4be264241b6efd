"""What goes wrong on demand, chosen by a seed, and the truth about it.

A specification is a list such as `loss=0.01,leader=0.001,drop_every=50,freeze_every=500:2s,power_every=1000:1s,seed=7`. Each kind
draws from a random sequence of its own: adding one changes nothing about the others.
"""

from __future__ import annotations

import random
import re
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_agent.errors import UsageError

FRAME_FAULTS = {
    "drop": "the whole picture is lost; its block id is missing",
    "leader": "the leader is lost for good",
    "trailer": "the trailer is lost for good",
    "truncated": "the picture ends after its upper half",
    "wrong_size": "the leader announces half the rows",
    "frozen": "the picture before comes again, under a new block id",
    "black": "every pixel is 0",
    "saturated": "every pixel is full",
    "late": "the picture comes late, by 0.2 s or what is given",
    "ignored": "the trigger is counted but makes no picture",
}
TIMED = {"late": 0.2, "freeze": 2.0, "power": 0.5}  # what lasts, and how long by itself, in seconds
EVENTS = ("freeze", "power")  # happen every so many pictures, never at random
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SINGLE = ("loss", "resend_loss", "resend", "first_id", "held", "seed")


@dataclass(frozen=True, slots=True)
class Truth:
    """What became of one trigger. `trigger` counts all, from 1; `sequence` those that were exposed, 0 where it was not.

    `fate` is good, loss (packets were lost on the way; they can be had on request), the name of a frame fault, ignored (exposing,
    or no room), unarmed (no host had it wait for such a trigger), stopped (the acquisition ended first), no_stream (no host to send
    to), power (power went)."""

    trigger: int
    sequence: int
    block_id: int
    fate: str
    trigger_ns: int
    lost_packets: int = 0


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that befell the camera itself after so many triggers: freeze, power, held, expired."""

    what: str
    trigger: int
    time_ns: int
    duration_s: float = 0


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What is to go wrong: `rates` per picture, `every` so many pictures, `durations_s` of what lasts; `loss` is per packet."""

    rates: dict[str, float] = field(default_factory=dict)
    every: dict[str, int] = field(default_factory=dict)
    durations_s: dict[str, float] = field(default_factory=dict)
    loss: float = 0.0
    resend_loss: float = 0.0
    can_resend: bool = True
    first_id: int = 1
    held_s: float = 0.0
    seed: int = 1


def parse_faults(spec: str) -> FaultPlan:
    """Return what a specification says; an empty one is a camera without faults. Raises UsageError."""
    single: dict[str, float] = {}
    rates: dict[str, float] = {}
    every: dict[str, int] = {}
    durations: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in spec.split(","))):
        key, _, value = item.partition("=")
        name = key.removesuffix("_every")
        value, colon, duration = value.partition(":")
        if key in _SINGLE and not colon:
            single[key] = _single(item, key, value)
        elif key.endswith("_every") and name in (*FRAME_FAULTS, *EVENTS):
            every[name] = int(_number(item, value, 1, 1e9))
        elif key in FRAME_FAULTS:
            rates[key] = _number(item, value, 0, 1)
        else:
            raise UsageError(_unknown(item))
        if colon and name not in TIMED:
            raise UsageError(f"--faults: `{item}`: {name} has no duration; only {', '.join(TIMED)} do. Leave out `:{duration}`.")
        if colon:
            durations[name] = _seconds(item, duration)
    return FaultPlan(
        rates,
        every,
        durations,
        loss=single.get("loss", 0.0),
        resend_loss=single.get("resend_loss", 0.0),
        can_resend=bool(single.get("resend", 1)),
        first_id=int(single.get("first_id", 1)),
        held_s=single.get("held", 0.0),
        seed=int(single.get("seed", 1)),
    )


class Faults:
    """Chooses the fault of each picture; what is injected by hand comes first. Each method is for one thread at a time."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.loss = plan.loss
        self.resend_loss = plan.resend_loss
        self._injected: deque[str] = deque()
        self._draws = {name: random.Random(f"{plan.seed} {name}") for name in (*FRAME_FAULTS, "resend_loss")}
        self._packets = np.random.default_rng(plan.seed)

    def inject(self, name: str, count: int = 1) -> None:
        """The next `count` pictures have this fault. Raises UsageError for one that there is not."""
        if name not in FRAME_FAULTS:
            raise UsageError(_unknown(name))
        self._injected.extend([name] * count)

    def choose_ignored(self, trigger: int) -> bool:
        """Say whether a trigger is to be ignored."""
        if self._injected and self._injected[0] == "ignored":
            self._injected.popleft()
            return True
        return self._is_due("ignored", trigger)

    def choose(self, sequence: int) -> str:
        """Return the fault of a picture, "" for none."""
        if self._injected and self._injected[0] != "ignored":
            return self._injected.popleft()
        due = [name for name in FRAME_FAULTS if name != "ignored" and self._is_due(name, sequence)]
        return due[0] if due else ""

    def event(self, sequence: int) -> str:
        """Return what befalls the camera at this picture, "" for nothing."""
        return next((name for name in EVENTS if self._is_due(name, sequence)), "")

    def duration_s(self, name: str) -> float:
        return self.plan.durations_s.get(name, TIMED[name])

    def choose_lost(self, packets: int) -> npt.NDArray[np.bool_]:
        """Return which of a picture's packets get lost on the way, as a boolean for each."""
        return self._packets.random(packets) < self.loss if self.loss else np.zeros(packets, bool)

    def is_resend_lost(self) -> bool:
        return bool(self.resend_loss) and self._draws["resend_loss"].random() < self.resend_loss

    def _is_due(self, name: str, number: int) -> bool:
        every = self.plan.every.get(name)
        rate = self.plan.rates.get(name, 0.0)
        is_drawn = rate > 0 and self._draws[name].random() < rate
        return is_drawn or (every is not None and number % every == 0)


def _single(item: str, key: str, value: str) -> float:
    if key in ("loss", "resend_loss"):
        return _number(item, value, 0, 1)
    if key == "resend":
        if value not in ("on", "off"):
            raise UsageError(f"--faults: `{item}`: resend is `on` or `off`.")
        return value == "on"
    if key == "held":
        return _seconds(item, value)
    return int(_number(item, value, *((1, 65535) if key == "first_id" else (0, 2**31))))


def _number(item: str, value: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not least <= number <= most:
        raise UsageError(f"--faults: `{item}`: {value or 'nothing'} is no number from {least:g} to {most:g}. Give one.")
    return number


def _seconds(item: str, value: str) -> float:
    match = re.fullmatch(r"([0-9.]+)(us|ms|s)", value)
    if match is None:
        raise UsageError(f"--faults: `{item}`: {value or 'nothing'} is no duration. Give one such as 2s, 300ms or 50us.")
    return _number(item, match[1], 0, 86_400) * _UNITS[match[2]]


def _unknown(item: str) -> str:
    known = ", ".join((*FRAME_FAULTS, *(f"{name}_every" for name in EVENTS), *_SINGLE))
    return f"--faults: `{item}` is none that the camera knows. Name one of {known}; NAME=RATE, or NAME_every=N."
