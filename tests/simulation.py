"""What tests of whole stations share: patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from edge_agent.plc import gateway
from edge_agent.simulator import SimulatedCamera

Simulate = Callable[..., SimulatedCamera]


_PATIENCE = 4  # a machine may be busy with others' work
ask = partial(gateway.ask, timeout_s=30)  # a daemon that has just been started may take long to answer


def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> bool:
    """Say whether the condition came true; `timeout_s` is for a machine of our own."""
    end = time.monotonic() + timeout_s * _PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
