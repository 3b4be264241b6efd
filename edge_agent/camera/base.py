"""The Camera promise: take empty slots, say what happens, close. Whatever may block runs in the camera's own thread."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge_agent.errors import Reason
from edge_agent.records import Pixels


class Exposure(msgspec.Struct, frozen=True):
    """What a camera says of the picture it put into a slot. `frame_id` is the source's own number for it."""

    rows: int
    cols: int
    frame_id: int
    name: str = ""


class Due(msgspec.Struct, frozen=True):
    """A part is due; its picture, or word that there is none, comes next. `part_id` is '' where the source has none, and for
    a software trigger what `trigger` was given."""

    part_id: str = ""


class Picture(msgspec.Struct, frozen=True):
    """A picture is in the lent slot `slot`, which is the line's again. `trigger_ns` (monotonic) is when its part was triggered,
    as well as the source knows; 0 where no more is known than that it is here now."""

    slot: int
    exposure: Exposure
    trigger_ns: int = 0


class Lost(msgspec.Struct, frozen=True):
    """`count` triggers that will get no usable picture, for one reason. The slot, if any, stays with the camera. `trigger_ns`
    (monotonic) is when the last of them was triggered at the latest, as well as the source knows; 0 where it does not. `since_ns`
    is before the first of them, where the source knows no more than two times between which they were; else 0."""

    reason: Reason
    why: str = ""
    count: int = 1
    trigger_ns: int = 0
    since_ns: int = 0


Arrival = Due | Picture | Lost


class Camera(Protocol):
    """A source of pictures. Every method but `trigger` is called by one thread, the camera's own.

    `max_pixels`, known once `open` returned, is the most one picture can have: the size of a frame slot in bytes (gray, 8 bit).
    A source that is not `is_live` waits for a free slot; a live one does not, and a part without a slot is an overrun."""

    name: str
    max_pixels: int
    is_live: bool
    trigger_mode: str  # free_run, software or hardware
    frame_timeout_s: float  # longer than this after its trigger no picture comes any more
    counts_triggers: bool  # hardware: the camera, or a counter of its, tells of triggers that got no picture

    def open(self) -> None:
        """Make ready to deliver. Raises CameraError; may be called again after one, or after `close`."""

    def lend(self, slot: int, memory: Pixels) -> None:
        """Give an empty frame slot, a flat (max_pixels,) uint8 array, to put a picture into. The camera keeps it until it hands it
        over in a Picture; `close` gives all of them back."""

    def wait(self, timeout_s: float) -> Arrival | None:
        """Block until something happened, at most `timeout_s`; None where nothing did.

        Raises EndOfImages when nothing will come any more, CameraError where the camera must be opened anew."""

    def trigger(self, part_id: str) -> None:
        """Software trigger: have one picture taken. Called from other threads; must not block for long. Raises CameraError where
        the mode is not software or the camera cannot take it now."""

    def finish(self) -> bool:
        """The station stops: called before each further `wait` until it says True, when every trigger up to the first call has been
        told, by its picture or as lost, or can no longer be waited for. Later triggers may be told or not. Never raises."""

    def counters(self) -> dict[str, int]:
        """Statistics of the source since `open`, by name: pictures, incomplete, packets resent, ..."""

    def close(self) -> None:
        """Let go of the device and of every lent slot. Never raises; may be called twice."""
