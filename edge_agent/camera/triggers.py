"""Software triggers that wait for their camera: given by any thread, taken by the camera's own."""

from __future__ import annotations

import contextlib
import queue

from edge_agent.errors import CameraError

MOST_PENDING = 256


def not_by_software(camera: str, mode: str) -> CameraError:
    return CameraError(f"camera {camera} has trigger {mode}; set cameras.*.trigger: software to trigger it")


def too_many(camera: str) -> CameraError:
    return CameraError(f"camera {camera} has {MOST_PENDING} triggers waiting, the most; trigger slower")


class Triggers:
    """First in, first out."""

    def __init__(self, camera: str, mode: str) -> None:
        self._camera = camera
        self._mode = mode
        self._waiting: queue.Queue[str] = queue.Queue(MOST_PENDING)

    def put(self, part_id: str) -> None:
        """Have one wait. Raises CameraError where the camera has another mode, or too many wait."""
        if self._mode != "software":
            raise not_by_software(self._camera, self._mode)
        try:
            self._waiting.put_nowait(part_id)
        except queue.Full:
            raise too_many(self._camera) from None

    def next(self, timeout_s: float) -> str | None:
        """Take the oldest; None where none came in time."""
        try:
            return self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def forget(self) -> None:
        """None waits any more: what a camera did not take before it was closed is not its next opening's."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
