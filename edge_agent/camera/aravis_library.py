"""libaravis 0.8 by ctypes: the calls a camera needs, no more. GigE Vision and USB3 Vision devices speak through it.

Debian and JetPack have it as the package libaravis-0.8-0. It is loaded at first use, since many stations have no such camera. Every
call that may wait lets go of the interpreter lock. Reference: https://aravisproject.github.io/aravis/aravis-stable/
"""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from edge_agent.errors import CameraError

SUCCESS = 0  # of ArvBufferStatus
STATUS = (
    "complete",
    "cleared",
    "timed out",
    "packets missing",
    "packet ids wrong",
    "larger than its buffer",
    "still filling",
    "aborted",
    "of an unknown payload",
)
_POINTER, _TEXT, _INT, _UINT, _U64, _DOUBLE, _SIZE = c.c_void_p, c.c_char_p, c.c_int, c.c_uint, c.c_uint64, c.c_double, c.c_size_t
_G_TYPE_UINT = 7 << 2
_LISTING = threading.Lock()  # the library has one list of devices, and an update frees the words in it
_ON_SIGNAL = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)


class _Error(c.Structure):
    _fields_ = (("domain", c.c_uint32), ("code", c.c_int), ("message", c.c_char_p))


class _Value(c.Structure):
    _fields_ = (("type", c.c_ulong), ("data", c.c_uint64 * 2))


# name: (result, arguments); those of _MAY_FAIL take a GError** at the end and raise.
_NEVER_FAIL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_get_major_version": (_UINT, ()),
    "arv_get_minor_version": (_UINT, ()),
    "arv_get_micro_version": (_UINT, ()),
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (_UINT, ()),
    "arv_get_device_id": (_TEXT, (_UINT,)),
    "arv_get_device_address": (_TEXT, (_UINT,)),
    "arv_get_device_vendor": (_TEXT, (_UINT,)),
    "arv_get_device_model": (_TEXT, (_UINT,)),
    "arv_get_device_serial_nbr": (_TEXT, (_UINT,)),
    "arv_get_device_protocol": (_TEXT, (_UINT,)),
    "arv_device_get_genicam_xml": (_TEXT, (_POINTER, _POINTER)),
    "arv_camera_gv_set_stream_options": (None, (_POINTER, _INT)),
    "arv_buffer_new_full": (_POINTER, (_SIZE, _POINTER, _POINTER, _POINTER)),
    "arv_stream_timeout_pop_buffer": (_POINTER, (_POINTER, _U64)),
    "arv_stream_get_n_infos": (_UINT, (_POINTER,)),
    "arv_stream_get_info_name": (_TEXT, (_POINTER, _UINT)),
    "arv_stream_get_info_uint64": (_U64, (_POINTER, _UINT)),
    "arv_gv_stream_get_port": (c.c_uint16, (_POINTER,)),
    "arv_gv_stream_packet_resend_get_type": (c.c_ulong, ()),
}
# Those of every picture, which only read or write a field: they keep the interpreter lock, for letting go of it ten times a picture
# costs more than they do, and each time another thread may take it for 5 ms.
_AT_ONCE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_gv_device_is_controller": (_INT, (_POINTER,)),
    "arv_camera_is_gv_device": (_INT, (_POINTER,)),
    "arv_camera_get_device": (_POINTER, (_POINTER,)),
    "arv_buffer_get_status": (_INT, (_POINTER,)),
    "arv_buffer_get_frame_id": (_U64, (_POINTER,)),
    "arv_buffer_set_frame_id": (None, (_POINTER, _U64)),
    "arv_buffer_get_timestamp": (_U64, (_POINTER,)),
    "arv_buffer_get_system_timestamp": (_U64, (_POINTER,)),
    "arv_buffer_get_image_region": (None, (_POINTER,) * 5),
    "arv_buffer_get_data": (_POINTER, (_POINTER, _POINTER)),
    "arv_stream_push_buffer": (None, (_POINTER, _POINTER)),
}
_MAY_FAIL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_camera_new": (_POINTER, (_TEXT,)),
    "arv_camera_get_vendor_name": (_TEXT, (_POINTER,)),
    "arv_camera_get_model_name": (_TEXT, (_POINTER,)),
    "arv_camera_get_device_serial_number": (_TEXT, (_POINTER,)),
    "arv_camera_get_payload": (_UINT, (_POINTER,)),
    "arv_camera_get_sensor_size": (None, (_POINTER, _POINTER, _POINTER)),
    "arv_camera_set_region": (None, (_POINTER, _INT, _INT, _INT, _INT)),
    "arv_camera_get_region": (None, (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER)),
    "arv_camera_set_pixel_format_from_string": (None, (_POINTER, _TEXT)),
    "arv_camera_get_pixel_format": (c.c_uint32, (_POINTER,)),
    "arv_camera_get_pixel_format_as_string": (_TEXT, (_POINTER,)),
    "arv_camera_set_exposure_time": (None, (_POINTER, _DOUBLE)),
    "arv_camera_get_exposure_time": (_DOUBLE, (_POINTER,)),
    "arv_camera_set_gain": (None, (_POINTER, _DOUBLE)),
    "arv_camera_get_gain": (_DOUBLE, (_POINTER,)),
    "arv_camera_set_frame_rate": (None, (_POINTER, _DOUBLE)),
    "arv_camera_get_frame_rate": (_DOUBLE, (_POINTER,)),
    "arv_camera_get_exposure_time_bounds": (None, (_POINTER, _POINTER, _POINTER)),
    "arv_camera_get_gain_bounds": (None, (_POINTER, _POINTER, _POINTER)),
    "arv_camera_get_frame_rate_bounds": (None, (_POINTER, _POINTER, _POINTER)),
    "arv_camera_set_trigger": (None, (_POINTER, _TEXT)),
    "arv_camera_clear_triggers": (None, (_POINTER,)),
    "arv_camera_software_trigger": (None, (_POINTER,)),
    "arv_camera_start_acquisition": (None, (_POINTER,)),
    "arv_camera_stop_acquisition": (None, (_POINTER,)),
    "arv_camera_gv_set_packet_size": (None, (_POINTER, _INT)),
    "arv_camera_gv_get_packet_size": (_UINT, (_POINTER,)),
    "arv_camera_gv_auto_packet_size": (_UINT, (_POINTER,)),
    "arv_camera_create_stream": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "arv_device_read_register": (_INT, (_POINTER, _U64, _POINTER)),
    "arv_device_is_feature_available": (_INT, (_POINTER, _TEXT)),
    "arv_device_get_integer_feature_bounds": (None, (_POINTER, _TEXT, _POINTER, _POINTER)),
    "arv_device_get_float_feature_bounds": (None, (_POINTER, _TEXT, _POINTER, _POINTER)),
    "arv_device_dup_available_enumeration_feature_values_as_strings": (c.POINTER(_TEXT), (_POINTER, _TEXT, _POINTER)),
    "arv_device_execute_command": (None, (_POINTER, _TEXT)),
    "arv_device_set_boolean_feature_value": (None, (_POINTER, _TEXT, _INT)),
    "arv_device_get_boolean_feature_value": (_INT, (_POINTER, _TEXT)),
    "arv_device_set_integer_feature_value": (None, (_POINTER, _TEXT, c.c_int64)),
    "arv_device_get_integer_feature_value": (c.c_int64, (_POINTER, _TEXT)),
    "arv_device_set_float_feature_value": (None, (_POINTER, _TEXT, _DOUBLE)),
    "arv_device_get_float_feature_value": (_DOUBLE, (_POINTER, _TEXT)),
    "arv_device_set_string_feature_value": (None, (_POINTER, _TEXT, _TEXT)),
    "arv_device_get_string_feature_value": (_TEXT, (_POINTER, _TEXT)),
}


class Library:
    """The loaded library. `call("camera_new", ...)` is arv_camera_new(...); text goes in and comes out as str."""

    def __init__(self) -> None:
        """Raises CameraError where the library is not installed."""
        try:
            self._gobject = c.CDLL("libgobject-2.0.so.0")
            self._glib = c.CDLL("libglib-2.0.so.0")
            arv, at_once = c.CDLL("libaravis-0.8.so.0"), c.PyDLL("libaravis-0.8.so.0")
        except OSError as error:
            raise CameraError(f"{error}. Install Aravis: sudo apt-get install -y libaravis-0.8-0") from None
        self._glib.g_error_free.argtypes = (c.POINTER(_Error),)
        self._glib.g_free.argtypes = (_POINTER,)
        self._glib.g_free.restype = None
        self._gobject.g_object_unref.argtypes = (_POINTER,)
        self._gobject.g_object_unref.restype = None
        self._gobject.g_value_init.argtypes = (c.POINTER(_Value), c.c_ulong)
        self._gobject.g_object_set_property.argtypes = (_POINTER, _TEXT, c.POINTER(_Value))
        self._gobject.g_signal_connect_data.argtypes = (_POINTER, _TEXT, _ON_SIGNAL, _POINTER, _POINTER, _INT)
        self._gobject.g_signal_connect_data.restype = c.c_ulong
        self._gobject.g_signal_handler_disconnect.argtypes = (_POINTER, c.c_ulong)
        self._calls: dict[str, Callable[..., Any]] = {
            name.removeprefix("arv_"): _bound(arv, name, result, arguments) for name, (result, arguments) in _NEVER_FAIL.items()
        }
        for name, (result, arguments) in _AT_ONCE.items():
            self._calls[name.removeprefix("arv_")] = _bound(at_once, name, result, arguments)
        for name, (result, arguments) in _MAY_FAIL.items():
            self._calls[name.removeprefix("arv_")] = self._raising(
                _bound(arv, name, result, (*arguments, c.POINTER(c.POINTER(_Error))))
            )

    def function(self, name: str) -> Callable[..., Any]:
        """The bare function, for what is called once per picture."""
        return self._calls[name]

    def call(self, name: str, *arguments: Any) -> Any:
        """Raises CameraError with the library's own words."""
        raw = [argument.encode() if isinstance(argument, str) else argument for argument in arguments]
        result = self._calls[name](*raw)
        return result.decode(errors="replace") if isinstance(result, bytes) else result

    def _raising(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            error = c.POINTER(_Error)()
            result = function(*arguments, c.byref(error))
            if error:
                words = error.contents.message.decode(errors="replace")
                self._glib.g_error_free(error)
                raise CameraError(words)
            return result

        return checked

    def version(self) -> tuple[int, int, int]:
        major, minor, micro = (int(self._calls[f"get_{which}_version"]()) for which in ("major", "minor", "micro"))
        return major, minor, micro

    def register(self, device: int, address: int) -> int:
        """What a register of 4 bytes holds. Raises CameraError."""
        value = c.c_uint32()
        self.call("device_read_register", device, address, c.byref(value))
        return value.value

    def entries(self, device: int, feature: str) -> list[str]:
        """What an enumeration may be set to. Raises CameraError, where the feature is none, too."""
        count = c.c_uint()
        words = self.call("device_dup_available_enumeration_feature_values_as_strings", device, feature, c.byref(count))
        found = [words[i].decode(errors="replace") for i in range(count.value)] if words else []
        self._glib.g_free(words)
        return found

    def bounds(self, device: int, feature: str, kind: str) -> tuple[float, float]:
        """Least and most of a feature of `kind` integer or float. Raises CameraError."""
        least, most = (c.c_int64(), c.c_int64()) if kind == "integer" else (c.c_double(), c.c_double())
        self.call(f"device_get_{kind}_feature_bounds", device, feature, c.byref(least), c.byref(most))
        return least.value, most.value

    def camera_bounds(self, camera: int, feature: str) -> tuple[float, float]:
        """Least and most of exposure_time (us), gain or frame_rate (1/s). Raises CameraError."""
        least, most = c.c_double(), c.c_double()
        self.call(f"camera_get_{feature}_bounds", camera, c.byref(least), c.byref(most))
        return least.value, most.value

    def unref(self, thing: int) -> None:
        self._gobject.g_object_unref(thing)

    def set_property(self, thing: int, name: str, value: int, enumeration: str = "") -> None:
        """Set an integer property of a GObject, or one of an enumeration whose type function is named."""
        held = _Value()
        if enumeration:
            self._gobject.g_value_init(c.byref(held), self._calls[enumeration]())
            self._gobject.g_value_set_enum(c.byref(held), c.c_int(value))
        else:
            self._gobject.g_value_init(c.byref(held), _G_TYPE_UINT)
            self._gobject.g_value_set_uint(c.byref(held), c.c_uint(value))
        self._gobject.g_object_set_property(thing, name.encode(), c.byref(held))

    def connect(self, thing: int, signal: str, function: Callable[[], None]) -> tuple[int, Any]:
        """Have `function` called, on a thread of the library's, at the signal. Keep the result until `disconnect`."""
        trampoline = _ON_SIGNAL(lambda _thing, _data: function())
        return self._gobject.g_signal_connect_data(thing, signal.encode(), trampoline, None, None, 0), trampoline

    def disconnect(self, thing: int, connection: tuple[int, Any]) -> None:
        self._gobject.g_signal_handler_disconnect(thing, connection[0])


def _bound(library: c.CDLL, name: str, result: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise CameraError(f"this libaravis lacks {name}; install version 0.8.20 or newer") from None
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


@cache
def library() -> Library:
    """The library, loaded once. Raises CameraError where it is not installed."""
    return Library()


def find_devices() -> list[dict[str, str]]:
    """What answers on the networks and on USB: protocol, address, vendor, model, serial, id."""
    arv = library()
    names = {"protocol": "protocol", "address": "address", "vendor": "vendor", "model": "model", "serial": "serial_nbr", "id": "id"}
    with _LISTING:
        arv.call("update_device_list")
        return [
            {key: arv.call(f"get_device_{name}", index) or "" for key, name in names.items()}
            for index in range(arv.call("get_n_devices"))
        ]
