"""When the next part is due: flat out, at a rate, or when a software trigger says so."""

from __future__ import annotations

import queue
import time

from edge_agent.errors import CameraError

_MOST_PENDING = 256


class Pace:
    """Blocks its camera's thread until a part is due. `trigger` may be called from any thread."""

    def __init__(self, camera: str, rate_hz: float, trigger: str) -> None:
        self.is_live = trigger == "software" or rate_hz > 0
        self._camera = camera
        self._is_software = trigger == "software"
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._due = 0.0
        self._pending: queue.Queue[str] = queue.Queue(_MOST_PENDING)

    def wait(self, timeout_s: float) -> str | None:
        """Return the part id of the part that is due ('' without one), or None after the timeout."""
        if self._is_software:
            try:
                return self._pending.get(timeout=timeout_s)
            except queue.Empty:
                return None
        if not self._period_s:
            return ""
        now = time.monotonic()
        self._due = self._due or now
        if self._due > now + timeout_s:
            time.sleep(timeout_s)
            return None
        if self._due > now:
            time.sleep(self._due - now)
        self._due += self._period_s
        return ""

    def trigger(self, part_id: str) -> None:
        """Make one part due. Raises CameraError in another mode, or where triggers come faster than parts are taken."""
        if not self._is_software:
            raise CameraError(f"camera {self._camera} runs free; set cameras.*.trigger: software to trigger it")
        try:
            self._pending.put_nowait(part_id)
        except queue.Full:
            raise CameraError(f"camera {self._camera} has {_MOST_PENDING} triggers waiting, the most; trigger slower") from None
