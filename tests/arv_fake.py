"""The station's Aravis camera against Aravis's own fake one: `python arv_fake.py free_run|software|reconnect`, one JSON line out.

A program of its own, so that it can run in a network namespace of its own: `unshare -rn python arv_fake.py ...`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.base import Arrival, Due, Lost, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError

PROGRAM = "arv-fake-gv-camera-0.8"
ADDRESS = "127.0.0.1"
SIDE = 128
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """In a new namespace even lo is down."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", asked, 16)
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


@contextlib.contextmanager
def fake() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([PROGRAM, "-i", ADDRESS, "-s", "EA-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def opened(camera: AravisCamera, timeout_s: float = 12.0) -> AravisCamera:
    """Open the camera as a grabber does, again and again, and lend it slots."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            camera.open()
            break
        except CameraError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    for slot in range(8):
        camera.lend(slot, np.zeros(camera.max_pixels, np.uint8))
    return camera


def arrivals(camera: AravisCamera, pictures: int, timeout_s: float = 8.0) -> list[Arrival]:
    """What arrives until so many pictures have."""
    heard: list[Arrival] = []
    until = time.monotonic() + timeout_s
    while sum(isinstance(a, Picture) for a in heard) < pictures and time.monotonic() < until:
        arrival = camera.wait(0.1)
        if arrival is None:
            continue
        heard.append(arrival)
        if isinstance(arrival, Picture):
            camera.lend(arrival.slot, np.zeros(camera.max_pixels, np.uint8))
    return heard


def told(heard: list[Arrival]) -> dict[str, Any]:
    shown = [a.exposure for a in heard if isinstance(a, Picture)]
    return {
        "ids": [e.frame_id for e in shown],
        "sizes": sorted({(e.rows, e.cols) for e in shown}),
        "due": [a.part_id for a in heard if isinstance(a, Due)],
        "lost": sum(a.count for a in heard if isinstance(a, Lost)),
    }


def camera(**settings: Any) -> AravisCamera:
    given = {"width": SIDE, "height": SIDE, "socket": "standard", "packet_size": 1400, "resend": False, **settings}
    return AravisCamera(Settings(name="cam", address=ADDRESS, **given))


def free_run() -> dict[str, Any]:
    with fake():
        each = opened(camera(frame_rate_hz=25.0))
        heard = arrivals(each, 12)
        each.close()
    return told(heard)


def software() -> dict[str, Any]:
    with fake():
        each = opened(camera(trigger="software", frame_timeout_ms=1000))
        for word in "ABCDE":
            each.trigger(word)
        heard = arrivals(each, 5)
        each.close()
    return told(heard)


def reconnect() -> dict[str, Any]:
    with fake() as process:
        each = opened(camera(frame_rate_hz=25.0))
        before = told(arrivals(each, 5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        began_s = time.monotonic()
        try:
            arrivals(each, 10_000, 12.0)
            why = ""
        except CameraError as error:
            why = str(error)
        noticed_s = time.monotonic() - began_s
        each.close()
    with fake():
        opened(each)
        after = told(arrivals(each, 5))
        each.close()
    return {"before": before, "why": why, "noticed_s": noticed_s, "after": after}


if __name__ == "__main__":
    raise_loopback()
    print(json.dumps({"free_run": free_run, "software": software, "reconnect": reconnect}[sys.argv[1]]()))
