"""Simulated cameras at addresses of their own, and Aravis as their host."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from simulation import Simulate

from edge_agent.simulator import SimulatedCamera

_numbers = itertools.count(1)


@pytest.fixture
def address() -> str:
    """An address that no other test, nor another run beside this one, uses."""
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{next(_numbers) % 250 + 1}"


@pytest.fixture
def simulate(address: str) -> Iterator[Simulate]:
    """`simulate(**settings)` opens a small camera; it is closed after the test."""
    with ExitStack() as stack:

        def start(**settings: Any) -> SimulatedCamera:
            given = {"rows": 120, "cols": 160, "exposure_us": 100.0} | settings
            return stack.enter_context(SimulatedCamera(address, **given))

        yield start
