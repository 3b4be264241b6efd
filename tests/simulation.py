"""What tests with simulated cameras share."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_agent.simulator import SimulatedCamera

Simulate = Callable[..., SimulatedCamera]


def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> bool:
    """Say whether the condition came true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
