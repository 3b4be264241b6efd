"""Is a camera still ours? One that began anew has no master; a USB camera may be pulled."""

from __future__ import annotations

from typing import Any

from edge_agent.camera.aravis_library import Library
from edge_agent.camera.aravis_words import is_held


class Control:
    """Begins when a camera is open. `close` comes before the camera is let go of.

    Of USB the library tells. A GigE camera is looked at instead: where the thread of its heartbeat still told of the loss while we
    let go, it would be the last to hold the device, and end the process as it waits for itself.
    """

    def __init__(self, arv: Library, camera: int) -> None:
        self._arv, self._camera = arv, camera
        self._is_pulled = False
        self._connection: tuple[int, Any] | None = None
        if not arv.call("camera_is_gv_device", camera):
            self._connection = arv.connect(arv.call("camera_get_device", camera), "control-lost", self._on_pulled)

    def _on_pulled(self) -> None:
        self._is_pulled = True  # on a thread of the library's

    @property
    def is_lost(self) -> bool:
        return self._is_pulled or is_held(self._arv, self._camera)

    def close(self) -> None:
        if self._connection is not None:
            self._arv.disconnect(self._arv.call("camera_get_device", self._camera), self._connection)
            self._connection = None
