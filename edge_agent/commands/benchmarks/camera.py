"""A GigE Vision camera read by AravisCamera, beside the C library with nothing around it, in the same run.

The simulated camera sends from a process of its own, as fast as it can or at a given rate; or a real one is named by its address.
The bare side is the least a C program does: pop, look at status and frame id, push. The sides take turns, so that a machine's
moods meet both.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.aravis_clock import Clock
from edge_agent.camera.aravis_library import library
from edge_agent.camera.aravis_stream import may_open_packet_socket
from edge_agent.camera.aravis_words import connect
from edge_agent.camera.base import Lost, Picture
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError, EdgeAgentError, UsageError
from edge_agent.ring import Ring

_ROUNDS = 5
_SLOTS = 16  # for either side
_RATE_HZ = 10_000  # more than the simulated camera can
_FIRST_S = 10.0  # for the first picture
_LAST_ID = 65_535
_POP_US = 100_000
_NO_PACKET_SOCKET = 1  # ARV_GV_STREAM_OPTION_PACKET_SOCKET_DISABLED


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side did: complete pictures, bad ones, its length, the thread's own time, and how long after its trigger, by the
    camera's clock, each picture was there (ms)."""

    frames: int
    bad: int
    seconds: float
    cpu_s: float
    latencies_ms: list[float]

    @property
    def fps(self) -> float:
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / max(1, self.frames)


def measure_camera(size: str, seconds: float, address: str, rate_hz: float = 0) -> dict[str, Any]:
    """Take turns of `seconds`, five each, either side first by turns; return the figures. The ratio is the rounds' median."""
    cols, rows = parse_size(size)
    if address and rate_hz:
        raise UsageError("--rate is the simulated camera's; set a real one's own rate, or take --address out")
    with contextlib.nullcontext(address) if address else simulated(size, rate_hz or _RATE_HZ) as at:
        rounds = [_round(at, cols, rows, seconds, number % 2 == 0) for number in range(_ROUNDS)]
    bare, ours = zip(*rounds, strict=True)
    ratios = [own.fps / other.fps for other, own in rounds]
    delays = [statistics.median(own.latencies_ms) / statistics.median(other.latencies_ms) for other, own in rounds]
    return {
        "fps": _median(turn.fps for turn in ours),
        "bare_fps": _median(turn.fps for turn in bare),
        "ratio": _median(ratios),
        "bad_frames": sum(turn.bad for turn in ours),
        "bare_bad_frames": sum(turn.bad for turn in bare),
        "cpu_ms_per_frame": _median(turn.cpu_ms for turn in ours),
        "bare_cpu_ms_per_frame": _median(turn.cpu_ms for turn in bare),
        "latency_ms": _median(statistics.median(turn.latencies_ms) for turn in ours),
        "bare_latency_ms": _median(statistics.median(turn.latencies_ms) for turn in bare),
        "latency_ratio": _median(delays),
        "frames": sum(turn.frames for turn in ours),
        "size": size,
        "rate_hz": rate_hz,
        "socket": "packet" if may_open_packet_socket() else "standard",
        "camera": address or "simulated",
        "rounds": [[round(other.fps, 1), round(own.fps, 1)] for other, own in rounds],
        "seconds": seconds,
    }


def parse_size(size: str) -> tuple[int, int]:
    """Cols and rows of WxH. Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if match is None:
        raise UsageError(f"--size {size} is no WxH, such as 2448x2048")
    return int(match[1]), int(match[2])


def _round(address: str, cols: int, rows: int, seconds: float, is_bare_first: bool) -> tuple[Turn, Turn]:
    """One turn of either side, the bare one's first in the result."""
    if is_bare_first:
        return _bare_turn(address, cols, rows, seconds), _our_turn(address, cols, rows, seconds)
    ours = _our_turn(address, cols, rows, seconds)
    return _bare_turn(address, cols, rows, seconds), ours


def _median(values: Iterable[float]) -> float:
    return round(float(statistics.median(values)), 4)


@contextlib.contextmanager
def simulated(size: str, rate_hz: float, faults: str = "") -> Iterator[str]:
    """A simulated camera in a process of its own; yields its address."""
    pid = os.getpid()
    address = f"127.{200 + pid % 50}.{pid // 50 % 250}.{1 + pid // 12_500 % 250}"
    words = [
        "simulate-camera",
        "--address",
        address,
        "--size",
        size,
        "--rate",
        f"{rate_hz:g}",
        "--exposure-us",
        "10",
        "--faults",
        faults,
    ]
    process = subprocess.Popen([sys.executable, "-m", "edge_agent", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if "is ready" not in process.stdout.readline():
            raise EdgeAgentError(f"the simulated camera at {address} did not start; see above")
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=10)


# --- ours ---------------------------------------------------------------------------------------------------------
def _our_turn(address: str, cols: int, rows: int, seconds: float) -> Turn:
    """AravisCamera with its slots lent and lent again, as the daemon's grab thread does."""
    camera = AravisCamera(Settings(name="benchmark", address=address, width=cols, height=rows))
    camera.open()
    try:
        ring = Ring(_SLOTS, camera.max_pixels)
        for _ in range(_SLOTS):
            slot = ring.lease()
            assert slot is not None
            camera.lend(slot, ring.view(slot))
        first_until_s = time.monotonic() + _FIRST_S
        while not isinstance(arrival := camera.wait(0.1), Picture):
            if time.monotonic() > first_until_s:
                raise CameraError(f"the camera at {address} sent no picture within {_FIRST_S:g} s")
        camera.lend(arrival.slot, ring.view(arrival.slot))
        return _count(camera, ring, seconds)
    finally:
        camera.close()


def _count(camera: AravisCamera, ring: Ring, seconds: float) -> Turn:
    bad = 0
    delays_ms: list[float] = []
    begun_s, cpu_s = time.monotonic(), time.thread_time()
    until_s = begun_s + seconds
    while (now := time.monotonic()) < until_s:
        arrival = camera.wait(0.1)
        if isinstance(arrival, Picture):
            delays_ms.append((time.monotonic_ns() - arrival.trigger_ns) / 1e6)
            camera.lend(arrival.slot, ring.view(arrival.slot))
        elif isinstance(arrival, Lost):
            bad += arrival.count
    return Turn(len(delays_ms), bad, now - begun_s, time.thread_time() - cpu_s, delays_ms)


# --- bare ---------------------------------------------------------------------------------------------------------
class _Bare:
    """The C library's calls by ctypes, no wrapper around any."""

    def __init__(self) -> None:
        try:
            self._arv = c.CDLL("libaravis-0.8.so.0")
            self._gobject = c.CDLL("libgobject-2.0.so.0")
        except OSError as error:
            raise CameraError(f"{error}. Install Aravis: sudo apt-get install -y libaravis-0.8-0") from None
        self.status = self._arv.arv_buffer_get_status
        self.status.argtypes = (c.c_void_p,)
        self.frame_id = self._arv.arv_buffer_get_frame_id
        self.frame_id.restype, self.frame_id.argtypes = c.c_uint64, (c.c_void_p,)
        self.sent_ns = self._arv.arv_buffer_get_system_timestamp
        self.sent_ns.restype, self.sent_ns.argtypes = c.c_uint64, (c.c_void_p,)
        self.camera_ns = self._arv.arv_buffer_get_timestamp
        self.camera_ns.restype, self.camera_ns.argtypes = c.c_uint64, (c.c_void_p,)
        self.push = self._arv.arv_stream_push_buffer
        self.push.restype, self.push.argtypes = None, (c.c_void_p, c.c_void_p)
        self.pop = self._arv.arv_stream_timeout_pop_buffer
        self.pop.restype, self.pop.argtypes = c.c_void_p, (c.c_void_p, c.c_uint64)

    def ask(self, name: str, result: Any, *arguments: Any) -> Any:
        """A call that takes a GError** at its end. Raises CameraError."""
        error = c.c_void_p()
        function = getattr(self._arv, name)
        function.restype = result
        answer = function(*arguments, c.byref(error))
        if error:
            raise CameraError(f"the C library's {name} failed at the camera of this benchmark. Look at its cable and its power.")
        return answer

    def tell(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._arv, name)
        function.restype = result
        return function(*arguments)

    def unref(self, thing: c.c_void_p) -> None:
        self._gobject.g_object_unref(thing)


def _bare_turn(address: str, cols: int, rows: int, seconds: float) -> Turn:
    bare = _Bare()
    arv = library()
    arv.unref(connect(arv, address))  # says what is the matter, where the bare library says no more than that it failed
    camera = c.c_void_p(bare.ask("arv_camera_new", c.c_void_p, address.encode()))
    stream = None
    try:
        bare.ask("arv_camera_stop_acquisition", None, camera)
        bare.ask("arv_camera_set_region", None, camera, 0, 0, cols, rows)
        bare.ask("arv_camera_set_pixel_format_from_string", None, camera, b"Mono8")
        bare.ask("arv_camera_clear_triggers", None, camera)
        if bare.tell("arv_camera_is_gv_device", c.c_int, camera):
            options = 0 if may_open_packet_socket() else _NO_PACKET_SOCKET
            bare.tell("arv_camera_gv_set_stream_options", None, camera, options)
            bare.ask("arv_camera_gv_auto_packet_size", c.c_uint, camera)
        stream = c.c_void_p(bare.ask("arv_camera_create_stream", c.c_void_p, camera, None, None))
        payload = bare.ask("arv_camera_get_payload", c.c_uint, camera)
        for _ in range(_SLOTS):
            bare.push(stream, bare.tell("arv_buffer_new_allocate", c.c_void_p, c.c_size_t(payload)))
        bare.ask("arv_camera_start_acquisition", None, camera)
        first = bare.pop(stream, int(_FIRST_S * 1e6))
        if not first:
            raise CameraError(f"the camera at {address} sent no picture within {_FIRST_S:g} s")
        first_ns = (bare.camera_ns(first), bare.sent_ns(first))
        bare.push(stream, first)
        exposure_ms = bare.ask("arv_camera_get_exposure_time", c.c_double, camera) / 1000
        turn = _bare_loop(bare, stream, seconds, exposure_ms, first_ns)
        bare.ask("arv_camera_stop_acquisition", None, camera)
        return turn
    finally:
        if stream is not None:
            bare.unref(stream)
        bare.unref(camera)


def _bare_loop(bare: _Bare, stream: c.c_void_p, seconds: float, exposure_ms: float, first_ns: tuple[int, int]) -> Turn:
    """A picture that found no free buffer shows only as a gap in the frame ids, of which the last is 65535 and the next 1.

    `first_ns`: the first picture's time by the camera's clock, and when it came; the other side's clock knows its first, too."""
    times_ns: list[tuple[int, int, int]] = []
    pop, push, status, frame_id = bare.pop, bare.push, bare.status, bare.frame_id
    last_id = first_id = turns = 0
    begun_s, cpu_s = time.monotonic(), time.thread_time()
    until_s = begun_s + seconds
    while (now := time.monotonic()) < until_s:
        buffer = pop(stream, _POP_US)
        if not buffer:
            continue
        if status(buffer) == 0:
            times_ns.append((bare.camera_ns(buffer), bare.sent_ns(buffer), time.time_ns()))
            this_id = frame_id(buffer)
            first_id = first_id or this_id
            turns += this_id < last_id
            last_id = this_id
        push(stream, buffer)
    cpu_s = time.thread_time() - cpu_s
    frames, clock = len(times_ns), Clock()
    clock.taken(*first_ns)
    sent = last_id - first_id + 1 + turns * _LAST_ID if frames else 0
    delays_ms = [(here - clock.taken(camera, came).likely_ns) / 1e6 + exposure_ms for camera, came, here in times_ns]
    return Turn(frames, sent - frames, now - begun_s, cpu_s, delays_ms)
