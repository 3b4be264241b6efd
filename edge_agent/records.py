"""The nouns that travel through the station.

msgspec structs, because they are cheap to make, and `Blob` and `Finding` cross the wire exactly as they are. Arrays are
`(row, col)`; everything here says `x, y` in frame pixels.
"""

from __future__ import annotations

import os

import msgspec
import numpy as np
import numpy.typing as npt

from edge_agent.errors import Reason

Pixels = npt.NDArray[np.uint8]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of stations, lines, cameras, recipes: fit for topics, files and columns

PASS, NG, FAULT = "PASS", "NG", "FAULT"
OUTCOMES = (PASS, NG, FAULT)


def in_utf8(name: str) -> str:
    """A file's name as text that every file and screen can hold: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Blob(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"class_name": "class"}):
    """One connected region of defect pixels, in frame coordinates; scores are probabilities 0..1."""

    class_name: str
    area_px: float
    x: float
    y: float
    width: float
    height: float
    centroid_x: float
    centroid_y: float
    peak: float
    mean: float
    area_mm2: float | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What one rule says of one part. `margin` is the distance to the limit in the value's unit: negative is NG. `unit` is that of
    areas, `px` or `mm2`."""

    rule: str
    value: float
    limit: float
    margin: float
    ok: bool
    unit: str = ""


class Identity(msgspec.Struct, frozen=True):
    """By what a part is judged; every record carries it. `generation` counts the bundles of a line since the start."""

    recipe: str
    recipe_hash: str
    model_hash: str
    engine_id: str
    deadline_ms: float
    generation: int


class Part(msgspec.Struct):
    """A trigger that got its number. Owned by the publisher; others only read it."""

    line: str
    epoch: int
    seq: int
    part_id: str
    trigger_time_us: int
    trigger_ns: int
    deadline_ns: int
    identity: Identity
    shadow: bool = False
    challenge: str = ""  # the master part this is; then it is a shadow result, too
    is_brought: bool = False  # that master part came to the line itself; else it is a stored picture
    journal_ticket: int = -1  # by which the journal knows it, whichever slot it has


class Frame(msgspec.Struct):
    """One exposure in its slot. `pixels` is a view of the slot: (rows, cols) uint8, valid until the slot returns."""

    slot: int
    pixels: Pixels
    frame_id: int
    name: str  # the image's file name, where there is one
    is_live: bool = True  # False where the source waits for the station: it may well show the same picture twice


class Judgement(msgspec.Struct, frozen=True):
    """What the middle of the line says of one part, before the publisher makes it an outcome."""

    outcome: str
    reasons: tuple[str, ...] = ()
    blobs: tuple[Blob, ...] = ()
    findings: tuple[Finding, ...] = ()
    stages_ms: dict[str, float] = {}
    map_ns: int = 0  # monotonic time at which the probability map was complete; 0 where there was none


def fault_of(reason: Reason) -> Judgement:
    """The judgement of a part that cannot be judged."""
    return Judgement(FAULT, (reason.value,))


LATE = fault_of(Reason.LATE)


def late_instead(judgement: Judgement) -> Judgement:
    """A result after the deadline is no verdict; its findings stay for the record."""
    if judgement.reasons == LATE.reasons:
        return judgement
    return Judgement(FAULT, LATE.reasons, judgement.blobs, judgement.findings, judgement.stages_ms, judgement.map_ns)
