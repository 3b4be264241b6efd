"""Setting up a GenICam camera: features in SFNC terms from the settings, each read back."""

from __future__ import annotations

import ctypes as c

from edge_agent.camera.aravis_library import Library
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.camera_settings import Feature
from edge_agent.errors import CameraError

_NEARLY = 0.02  # a camera rounds a time or a rate to its own steps


def require(camera: str, feature: str, wanted: object, given: object) -> None:
    """Raise CameraError where the camera did not take what was set."""
    is_close = (
        isinstance(wanted, float) and isinstance(given, (int, float)) and abs(given - wanted) <= _NEARLY * max(abs(wanted), 1e-9)
    )
    if wanted != given and not is_close:
        raise CameraError(f"camera {camera}: {feature} was set to {wanted} and reads {given}. Set what the camera takes.")


def set_region(arv: Library, camera: int, settings: Settings) -> tuple[int, int]:
    """Set the region of interest where one is given, else the whole sensor; return rows, cols."""
    width, height = c.c_int(), c.c_int()
    arv.call("camera_get_sensor_size", camera, c.byref(width), c.byref(height))
    cols, rows = settings.width or width.value, settings.height or height.value
    arv.call("camera_set_region", camera, settings.x, settings.y, cols, rows)
    got = [c.c_int() for _ in range(4)]
    arv.call("camera_get_region", camera, *(c.byref(value) for value in got))
    require(settings.name, "the region (x, y, width, height)", (settings.x, settings.y, cols, rows), tuple(v.value for v in got))
    return rows, cols


def set_up(arv: Library, camera: int, settings: Settings) -> None:
    """Pixel format, exposure, gain, rate and every other feature named. Raises CameraError for one the camera does not take."""
    arv.call("camera_set_pixel_format_from_string", camera, settings.pixel_format)
    got = arv.call("camera_get_pixel_format_as_string", camera)
    require(settings.name, "pixel_format", settings.pixel_format, got)
    if settings.trigger == "free_run":
        arv.call("camera_clear_triggers", camera)
        if settings.frame_rate_hz is not None:
            _set_number(arv, camera, settings.name, "frame_rate", settings.frame_rate_hz)
    if settings.exposure_time_us is not None:
        _set_number(arv, camera, settings.name, "exposure_time", settings.exposure_time_us)
    if settings.gain is not None:
        _set_number(arv, camera, settings.name, "gain", settings.gain)
    device = arv.call("camera_get_device", camera)
    if settings.heartbeat_ms is not None and arv.call("camera_is_gv_device", camera):
        set_feature(arv, device, settings.name, "GevHeartbeatTimeout", settings.heartbeat_ms)
    for name, value in settings.features.items():
        set_feature(arv, device, settings.name, name, value)


def set_trigger(arv: Library, camera: int, settings: Settings) -> None:
    """Software or hardware trigger, and a counter of its pulses where one is named. Last of all: other features may undo it."""
    if settings.trigger == "free_run":
        return
    device = arv.call("camera_get_device", camera)
    source = "Software" if settings.trigger == "software" else settings.trigger_source
    arv.call("camera_set_trigger", camera, source)
    wanted: dict[str, Feature] = {"TriggerSelector": settings.trigger_selector, "TriggerMode": "On", "TriggerSource": source}
    if settings.trigger == "hardware":
        wanted["TriggerActivation"] = settings.trigger_activation
        if settings.trigger_delay_us is not None:
            wanted["TriggerDelay"] = settings.trigger_delay_us
    for name, value in wanted.items():
        set_feature(arv, device, settings.name, name, value)
    if settings.trigger == "hardware" and settings.counter is not None:
        set_feature(arv, device, settings.name, "CounterSelector", settings.counter)
        set_feature(arv, device, settings.name, "CounterEventSource", settings.trigger_source)
        arv.call("device_execute_command", device, "CounterReset")


def _set_number(arv: Library, camera: int, name: str, feature: str, value: float) -> None:
    arv.call(f"camera_set_{feature}", camera, value)
    require(name, feature, float(value), arv.call(f"camera_get_{feature}", camera))


def set_feature(arv: Library, device: int, camera: str, name: str, value: Feature) -> None:
    """Set one GenICam feature by its name and read it back: text is an enumeration or a string."""
    kind = {bool: "boolean", int: "integer", float: "float", str: "string"}[type(value)]
    try:
        arv.call(f"device_set_{kind}_feature_value", device, name, value)
        got = arv.call(f"device_get_{kind}_feature_value", device, name)
    except CameraError as error:
        if kind != "integer":
            raise CameraError(f"camera {camera}: {name} = {value}: {error}") from None
        return set_feature(arv, device, camera, name, float(value))  # YAML's 5 may be a float to the camera
    require(camera, name, value, bool(got) if kind == "boolean" else got)
    return None
