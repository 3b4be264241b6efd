"""The Camera promise: open, fill this slot, trigger, close. Everything that may block runs in the camera's own thread."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge_agent.records import Pixels


class Exposure(msgspec.Struct, frozen=True):
    """What a camera says of the picture it put into a slot."""

    rows: int
    cols: int
    frame_id: int
    name: str = ""


class Camera(Protocol):
    """A source of pictures. `max_pixels` is the most one picture can have: the size of a frame slot. A source that is not
    `is_live` waits for a free slot; a live one does not, and a part without a slot is an overrun."""

    name: str
    max_pixels: int
    is_live: bool

    def open(self) -> None:
        """Make ready to deliver. Raises CameraError; may be called again after one."""

    def wait_for_trigger(self, timeout_s: float) -> str | None:
        """Block until the next part is due; return its part id ('' where the source has none), None after the timeout.

        Raises EndOfImages when there will be no more."""

    def fill(self, slot: Pixels) -> Exposure:
        """Put the due picture into `slot`, a flat (max_pixels,) uint8 array. Raises CameraError; the part is then FAULT."""

    def trigger(self, part_id: str) -> None:
        """Software trigger: make one part due. Called from other threads. Raises CameraError where the mode is not software."""

    def close(self) -> None: ...
