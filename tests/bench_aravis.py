"""A camera with twelve slots on a simulated GigE Vision camera; what arrives, with the pictures' copies."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from simulation import wait_for

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.base import Arrival, Due, Lost, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.simulator import SimulatedCamera

SIDE = 64
_ADDRESSES = (f"127.{3 + os.getpid() % 90}.{block}.{number}" for block in range(1, 250) for number in range(1, 250))


class Bench:
    """A camera with twelve slots, on a simulated one; what arrives, with the pictures' copies."""

    def __init__(self, settings: dict[str, Any], simulated: dict[str, Any]) -> None:
        address = next(_ADDRESSES)
        self.simulated = SimulatedCamera(address, rows=SIDE, cols=SIDE, exposure_us=100.0, **simulated)
        self.simulated.open()
        self.camera = AravisCamera(Settings(**{"name": "cam", "address": address, "socket": "standard"} | settings))
        self.memory: list[np.ndarray] = []
        self.pictures: list[np.ndarray] = []

    def open(self) -> Bench:
        self.camera.open()
        self.memory = [np.zeros(self.camera.max_pixels, np.uint8) for _ in range(12)]
        for slot, memory in enumerate(self.memory):
            self.camera.lend(slot, memory)
        assert wait_for(lambda: self.simulated.is_acquiring)
        return self

    def arrivals(self, count: int, timeout_s: float = 5) -> list[Arrival]:
        """So many arrivals, a Lost of n counting n times; slots go back to the camera at once."""
        heard: list[Arrival] = []
        until = time.monotonic() + timeout_s
        while sum(a.count if isinstance(a, Lost) else 1 for a in heard if not isinstance(a, Due)) < count:
            assert time.monotonic() < until, f"only {heard}"
            arrival = self.camera.wait(0.05)
            if arrival is None:
                continue
            heard.append(arrival)
            if isinstance(arrival, Picture):
                rows, cols = arrival.exposure.rows, arrival.exposure.cols
                self.pictures.append(self.memory[arrival.slot][: rows * cols].reshape(rows, cols).copy())
                self.camera.lend(arrival.slot, self.memory[arrival.slot])
        return heard

    def close(self) -> None:
        self.camera.close()
        self.simulated.close()


@contextmanager
def benches() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(simulated: dict[str, Any] | None = None, **settings: Any) -> Bench:
        made.append(Bench(settings, simulated or {}))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.close()


def reasons(arrivals: list[Arrival]) -> Counter[str]:
    return Counter(itertools.chain.from_iterable([a.reason.value] * a.count for a in arrivals if isinstance(a, Lost)))
