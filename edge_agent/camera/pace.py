"""When the next part is due: flat out, at a rate, or when a software trigger says so."""

from __future__ import annotations

import time

from edge_agent.camera.triggers import Triggers


class Pace:
    """Blocks its camera's thread until a part is due. `trigger` may be called from any thread."""

    def __init__(self, camera: str, rate_hz: float, trigger: str) -> None:
        self.is_live = trigger == "software" or rate_hz > 0
        self._is_software = trigger == "software"
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._due = 0.0
        self._triggers = Triggers(camera, trigger)

    def wait(self, timeout_s: float) -> str | None:
        """Return the part id of the part that is due ('' without one), or None after the timeout."""
        if self._is_software:
            return self._triggers.next(timeout_s)
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
        self._triggers.put(part_id)

    def forget(self) -> None:
        """No trigger given so far makes a part due."""
        self._triggers.forget()
