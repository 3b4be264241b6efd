"""A host of GigE Vision cameras for tests: the real Aravis 0.8 library, as much of it as the tests need, by ctypes.

Absent library: `require_aravis` skips by name. Every camera is opened by its address and with the standard socket, for the packet
socket needs CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

LIBRARY = "libaravis-0.8.so.0"
SUCCESS, TIMEOUT, MISSING_PACKETS, SIZE_MISMATCH = 0, 2, 3, 5
_PTR, _TEXT, _INT, _U64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64
_SOCKET_BYTES = 4 << 20
_LOST = ctypes.CFUNCTYPE(None, _PTR, _PTR)


def require_aravis() -> None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip(f"needs the Aravis library {LIBRARY} (Debian: libaravis-0.8-0)", allow_module_level=True)


class _Error(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_uint32), ("code", _INT), ("message", _TEXT)]


class _Value(ctypes.Structure):
    _fields_ = [("type", ctypes.c_ulong), ("data", _U64 * 2)]


class HostError(Exception):
    """What Aravis says went wrong."""


@dataclass(frozen=True)
class Frame:
    """One buffer as the host got it. Only with `status` SUCCESS are the others to be believed."""

    status: int
    frame_id: int = 0
    rows: int = 0
    cols: int = 0
    pixel_format: int = 0
    content: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    @property
    def pixels(self) -> np.ndarray:
        return self.content.reshape(self.rows, self.cols)


class _Library:
    def __init__(self) -> None:
        self.aravis = ctypes.CDLL(LIBRARY)
        self.gobject = ctypes.CDLL("libgobject-2.0.so.0")

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call a function that reports no errors."""
        function = getattr(self.aravis if name.startswith("arv") else self.gobject, name)
        function.restype = result
        return function(*arguments)

    def ask(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call a function whose last argument takes an error. Raises HostError."""
        error = ctypes.POINTER(_Error)()
        answer = self.call(name, result, *arguments, ctypes.byref(error))
        if error:
            raise HostError(error.contents.message.decode())
        return answer


class Host:
    """One application with one camera: open, set, start, pop, stop, close."""

    def __init__(self, address: str) -> None:
        self._lib = _Library()
        self._camera = _PTR(self._lib.ask("arv_camera_new", _PTR, address.encode()))
        self._device = _PTR(self._lib.call("arv_camera_get_device", _PTR, self._camera))
        self._lib.call("arv_camera_gv_set_stream_options", None, self._camera, 1)  # the standard socket
        self._stream: ctypes.c_void_p | None = None
        self.is_lost = False
        self._on_lost = _LOST(self._note_lost)
        self._lib.call("g_signal_connect_data", ctypes.c_ulong, self._device, b"control-lost", self._on_lost, None, None, 0)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self, feature: str) -> str:
        value: bytes = self._lib.ask("arv_device_get_string_feature_value", _TEXT, self._device, feature.encode())
        return value.decode()

    def integer(self, feature: str) -> int:
        return int(self._lib.ask("arv_device_get_integer_feature_value", ctypes.c_int64, self._device, feature.encode()))

    def number(self, feature: str) -> float:
        return float(self._lib.ask("arv_device_get_float_feature_value", ctypes.c_double, self._device, feature.encode()))

    def set(self, **features: str | int | float) -> None:
        for name, value in features.items():
            self.set_one(name, value)

    def set_one(self, feature: str, value: str | int | float) -> None:
        kind, given = {
            str: ("string", lambda: _TEXT(str(value).encode())),
            int: ("integer", lambda: ctypes.c_int64(int(value))),
            float: ("float", lambda: ctypes.c_double(float(value))),
        }[type(value)]
        self._lib.ask(f"arv_device_set_{kind}_feature_value", None, self._device, feature.encode(), given())

    def execute(self, command: str) -> None:
        self._lib.ask("arv_device_execute_command", None, self._device, command.encode())

    def set_trigger(self, source: str) -> None:
        self._lib.ask("arv_camera_set_trigger", None, self._camera, source.encode())

    def set_region(self, left: int, top: int, cols: int, rows: int) -> None:
        self._lib.ask("arv_camera_set_region", None, self._camera, left, top, cols, rows)

    def set_frame_rate(self, hz: float) -> None:
        self._lib.ask("arv_camera_set_frame_rate", None, self._camera, ctypes.c_double(hz))

    def software_trigger(self) -> None:
        self._lib.ask("arv_camera_software_trigger", None, self._camera)

    def find_packet_size(self) -> int:
        """Let Aravis find by test packets what the way to the camera carries."""
        return int(self._lib.ask("arv_camera_gv_auto_packet_size", ctypes.c_uint, self._camera))

    def start(self, buffers: int = 10, packet_size: int = 8000, resend: bool = True) -> None:
        if packet_size:
            self._lib.ask("arv_camera_gv_set_packet_size", None, self._camera, packet_size)
        self._stream = _PTR(self._lib.ask("arv_camera_create_stream", _PTR, self._camera, None, None))
        self._set_property(b"socket-buffer", "arv_gv_stream_socket_buffer_get_type", 0)
        self._set_property(b"socket-buffer-size", None, _SOCKET_BYTES)
        if not resend:
            self._set_property(b"packet-resend", "arv_gv_stream_packet_resend_get_type", 0)
        payload = self._lib.ask("arv_camera_get_payload", ctypes.c_uint, self._camera)
        for _ in range(buffers):
            buffer = _PTR(self._lib.call("arv_buffer_new_allocate", _PTR, ctypes.c_size_t(payload)))
            self._lib.call("arv_stream_push_buffer", None, self._stream, buffer)
        self._lib.ask("arv_camera_start_acquisition", None, self._camera)

    def pop(self, timeout_s: float = 1.0) -> Frame | None:
        """Return the next buffer's content, copied; None where none came in time."""
        got = self._lib.call("arv_stream_timeout_pop_buffer", _PTR, self._stream, _U64(int(timeout_s * 1e6)))
        if not got:
            return None
        buffer = _PTR(got)
        status = int(self._lib.call("arv_buffer_get_status", _INT, buffer))
        frame = Frame(status) if status != SUCCESS else self._frame(buffer)
        self._lib.call("arv_stream_push_buffer", None, self._stream, buffer)
        return frame

    def grab(self, count: int, timeout_s: float = 1.0) -> list[Frame]:
        """Return as many frames as come, `count` at most."""
        frames = []
        while len(frames) < count and (frame := self.pop(timeout_s)) is not None:
            frames.append(frame)
        return frames

    def stop(self) -> None:
        self._lib.ask("arv_camera_stop_acquisition", None, self._camera)

    def statistics(self) -> dict[str, int]:
        number = self._lib.call("arv_stream_get_n_infos", ctypes.c_uint, self._stream)
        return {
            self._lib.call("arv_stream_get_info_name", _TEXT, self._stream, n).decode(): self._lib.call(
                "arv_stream_get_info_uint64", _U64, self._stream, n
            )
            for n in range(number)
        }

    def close(self) -> None:
        for owned in (self._stream, self._camera):
            if owned:
                self._lib.call("g_object_unref", None, owned)
        self._stream = self._camera = None  # type: ignore[assignment]

    def _note_lost(self, _device: object, _data: object) -> None:
        self.is_lost = True

    def _frame(self, buffer: ctypes.c_void_p) -> Frame:
        size = ctypes.c_size_t()
        address = self._lib.call("arv_buffer_get_data", _PTR, buffer, ctypes.byref(size))
        content = np.frombuffer(ctypes.string_at(address, size.value), np.uint8)
        numbers = (
            self._lib.call("arv_buffer_get_frame_id", _U64, buffer),
            self._lib.call("arv_buffer_get_image_height", _INT, buffer),
            self._lib.call("arv_buffer_get_image_width", _INT, buffer),
            self._lib.call("arv_buffer_get_image_pixel_format", ctypes.c_uint32, buffer),
        )
        return Frame(SUCCESS, *numbers, content)

    def _set_property(self, name: bytes, enumeration: str | None, value: int) -> None:
        held = _Value()
        kind = self._lib.call(enumeration, ctypes.c_ulong) if enumeration else 6 << 2  # G_TYPE_INT
        self._lib.call("g_value_init", _PTR, ctypes.byref(held), ctypes.c_ulong(kind))
        setter = "g_value_set_enum" if enumeration else "g_value_set_int"
        self._lib.call(setter, None, ctypes.byref(held), _INT(value))
        self._lib.call("g_object_set_property", None, self._stream, name, ctypes.byref(held))
