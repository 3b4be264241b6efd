"""An event of CUDA's that is looked at as it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class HookedEvent:
    """Calls `before` with the stream in front of each recording."""

    def __init__(self, event: Any, before: Callable[[Any], None]) -> None:
        self._event, self._before = event, before
        self.query = event.query

    def record(self, stream: Any) -> None:
        self._before(stream)
        self._event.record(stream)
