"""The stream of one Aravis camera: its options, its sockets, and the buffers that go round between us and it."""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_agent.camera.aravis_library import Library
from edge_agent.camera.aravis_words import of_value
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.errors import CameraError
from edge_agent.records import Pixels

_CAP_NET_RAW = 13
_SO_RCVBUFFORCE = 33
_NO_PACKET_SOCKET = 1  # ARV_GV_STREAM_OPTION_PACKET_SOCKET_DISABLED
_SOURCE_PORT = 0x0D1C  # GigE Vision's register of the port that pictures come from; 0 where the camera does not tell it
_HEARS_ANY_PORT = (0, 8, 26)  # an older Aravis filters a packet socket by that port, told or not
_RESEND_NEVER, _RESEND_ALWAYS = 0, 1
_FRAMES_IN_SOCKET = 3  # the kernel holds so many frames of a camera that sends in bursts


def open_stream(arv: Library, camera: int, settings: Settings, payload: int) -> int:
    """Create the stream with the settings' packets and resends. Raises CameraError."""
    is_gige = bool(arv.call("camera_is_gv_device", camera))
    uses_packets = is_gige and (settings.socket == "packet" or (settings.socket == "auto" and may_open_packet_socket()))
    if is_gige:
        arv.call("camera_gv_set_stream_options", camera, 0 if uses_packets else _NO_PACKET_SOCKET)
        if settings.packet_size == "auto":
            arv.call("camera_gv_auto_packet_size", camera)
        else:
            _set_packet_size(arv, camera, settings.packet_size)
    stream = _stream(arv, camera)
    if uses_packets and _is_deaf(arv, camera):
        arv.unref(stream)
        if settings.socket == "packet":
            version = ".".join(map(str, arv.version()))
            raise CameraError(
                f"socket: packet: Aravis {version} gets nothing so from a camera that tells no GevSCSP. Set standard."
            )
        arv.call("camera_gv_set_stream_options", camera, _NO_PACKET_SOCKET)
        stream = _stream(arv, camera)
    if is_gige:
        resend = _RESEND_ALWAYS if settings.resend else _RESEND_NEVER
        arv.set_property(stream, "packet-resend", resend, "gv_stream_packet_resend_get_type")
        arv.set_property(stream, "frame-retention", int(settings.frame_retention_ms * 1000))
        _widen_socket(arv.call("gv_stream_get_port", stream), _FRAMES_IN_SOCKET * payload)
    return stream


def _stream(arv: Library, camera: int) -> int:
    stream = int(arv.call("camera_create_stream", camera, None, None) or 0)
    if not stream:
        raise CameraError("the camera gives no stream")
    return stream


def _is_deaf(arv: Library, camera: int) -> bool:
    """True where the packet socket of this Aravis lets nothing of this camera through; to be asked with its stream open."""
    if arv.version() >= _HEARS_ANY_PORT:
        return False
    try:
        return arv.register(arv.call("camera_get_device", camera), _SOURCE_PORT) == 0
    except CameraError:  # it has no such register
        return True


def _set_packet_size(arv: Library, camera: int, size: int) -> None:
    try:
        arv.call("camera_gv_set_packet_size", camera, size)
    except CameraError as error:
        how = "Set packet_size: auto, or what the camera takes, often a multiple of 4"
        raise of_value(error, f"packet_size {size}: the camera does not take it. {how}") from None
    given = arv.call("camera_gv_get_packet_size", camera)
    if given != size:
        raise CameraError(f"packet_size was set to {size} and reads {given}. Set what the camera takes.")


def may_open_packet_socket() -> bool:
    """True where this process has CAP_NET_RAW; without it Aravis falls back to a plain socket without a word."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_NET_RAW & 1)
    return False


def _widen_socket(port: int, size: int) -> None:
    """Give the stream's socket a large buffer now: Aravis does so only once the first frame is under way, and loses it."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if not str(link.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(link.name))) as ours:
                is_udp = ours.family == socket.AF_INET and ours.type == socket.SOCK_DGRAM
                if not is_udp or ours.getsockname()[1] != port:
                    continue
                try:
                    ours.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
                except OSError:  # without CAP_NET_ADMIN: up to net.core.rmem_max
                    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


class Buffers:
    """Aravis's buffers over our memory: a frame slot each, or `raw` buffers of our own where pictures are converted."""

    def __init__(self, arv: Library, stream: int, payload: int, raw: int) -> None:
        self._arv, self._stream, self._payload = arv, stream, payload
        self._pop = arv.function("stream_timeout_pop_buffer")
        # Asked of a buffer for every picture: bare functions, for each frame of Python around them is dear on that thread.
        self.status: Callable[[int], int] = arv.function("buffer_get_status")
        self.frame_id: Callable[[int], int] = arv.function("buffer_get_frame_id")
        self.system_ns: Callable[[int], int] = arv.function("buffer_get_system_timestamp")  # wall clock, when it began to come
        self.camera_ns: Callable[[int], int] = arv.function("buffer_get_timestamp")  # the camera's time; 0 where it has no clock
        self._region = arv.function("buffer_get_image_region")
        self._data = arv.function("buffer_get_data")
        self._clear_id = arv.function("buffer_set_frame_id")
        self._push = arv.function("stream_push_buffer")
        self._x, self._y, self._cols, self._rows = (c.c_int() for _ in range(4))  # of the picture looked at last
        self._region_at = [c.byref(at) for at in (self._x, self._y, self._cols, self._rows)]
        self._held = c.c_size_t()  # and its bytes
        self._held_at = c.byref(self._held)
        self._memory: dict[int, Pixels] = {}  # by buffer
        self.slot: dict[int, int] = {}  # the frame slot that a buffer is
        self._of_slot: dict[int, int] = {}
        self._ours: set[int] = set()  # popped and not pushed again: we have to let them go
        for _ in range(raw):
            self._add(np.empty(payload, np.uint8), None)

    def _add(self, memory: Pixels, slot: int | None) -> None:
        buffer = int(self._arv.call("buffer_new_full", self._payload, memory.ctypes.data, None, None))
        self._memory[buffer] = memory
        if slot is not None:
            self.slot[buffer], self._of_slot[slot] = slot, buffer
        self.push(buffer)

    def lend(self, slot: int, memory: Pixels) -> None:
        buffer = self._of_slot.get(slot)
        if buffer is None:
            self._add(memory, slot)
        else:
            self.push(buffer)

    def push(self, buffer: int) -> None:
        """Give the buffer to the stream, without the frame id it had: a frame whose leader is lost would show it again."""
        self._clear_id(buffer, 0)
        self._ours.discard(buffer)
        self._push(self._stream, buffer)

    def pop(self, timeout_s: float) -> int:
        """The next buffer, complete or not, or 0."""
        buffer = self._pop(self._stream, max(0, int(timeout_s * 1e6))) or 0
        if buffer:
            self._ours.add(buffer)
        return buffer

    def memory(self, buffer: int) -> Pixels:
        return self._memory[buffer]

    def extent(self, buffer: int) -> tuple[int, int, int]:
        """Rows and cols of a complete picture, and how many bytes came: a torn one whose trailer came early looks complete."""
        self._region(buffer, *self._region_at)
        self._data(buffer, self._held_at)
        return self._rows.value, self._cols.value, self._held.value

    def statistics(self) -> dict[str, int]:
        """The stream's own counters, without their prefix `n_`."""
        names = (
            (self._arv.call("stream_get_info_name", self._stream, i), i)
            for i in range(self._arv.call("stream_get_n_infos", self._stream))
        )
        return {name.removeprefix("n_"): self._arv.call("stream_get_info_uint64", self._stream, i) for name, i in names if name}

    def close(self) -> None:
        """End the stream, which lets go of the buffers it holds, then of ours. The memory is nobody's but ours before and after."""
        stream, self._stream = self._stream, 0
        if stream:
            self._arv.unref(stream)
            for buffer in self._ours:
                self._arv.unref(buffer)
            self._memory.clear()
