"""What the tests of V4L2 cameras share: a bench that opens cameras over a fake kernel and lends them slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from fake_v4l2 import FakeKernel

from edge_agent.camera.base import Arrival, Lost, Picture
from edge_agent.camera.v4l2 import V4l2Camera
from edge_agent.camera_settings import V4l2Camera as V4l2Settings


@contextmanager
def bench_over(kernel: FakeKernel) -> Iterator[Bench]:
    """A bench whose cameras are closed at the end, after which nothing may be open or mapped."""
    bench = Bench(kernel)
    yield bench
    for camera in bench.cameras:
        camera.close()
    assert kernel.is_clean


class Bench:
    """Opens cameras and lends them slots."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.cameras: list[V4l2Camera] = []
        self.memory: dict[int, np.ndarray] = {}

    def open(self, slots: int = 8, **changes: object) -> V4l2Camera:
        found = {} if {"serial", "by_id", "path"} & set(changes) else {"serial": "ABC123"}
        camera = V4l2Camera(V4l2Settings(name="cam", **found, **changes), self.kernel)  # type: ignore[arg-type]
        self.cameras.append(camera)
        camera.open()
        for slot in range(slots):
            self.lend(camera, slot)
        return camera

    def lend(self, camera: V4l2Camera, slot: int) -> None:
        self.memory[slot] = np.full(camera.max_pixels, 99, np.uint8)
        camera.lend(slot, self.memory[slot])

    def gray(self, arrival: Arrival | None) -> int:
        """The gray level of a picture, all over."""
        assert isinstance(arrival, Picture), arrival
        pixels = self.memory[arrival.slot][: arrival.exposure.rows * arrival.exposure.cols]
        assert pixels.min() == pixels.max()
        return int(pixels[0])


def arrivals(camera: V4l2Camera, timeout_s: float = 0.2) -> list[Arrival]:
    """Everything until nothing happens any more."""
    out = []
    while (arrival := camera.wait(timeout_s)) is not None:
        out.append(arrival)
    return out


def kinds(found: list[Arrival]) -> list[str]:
    return [arrival.reason.value if isinstance(arrival, Lost) else type(arrival).__name__ for arrival in found]
