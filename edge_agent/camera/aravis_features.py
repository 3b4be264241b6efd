"""Setting up a GenICam camera: features in SFNC terms from the settings, each read back."""

from __future__ import annotations

import ctypes as c
import time
from dataclasses import dataclass

from edge_agent.camera.aravis_library import Library
from edge_agent.camera.aravis_limits import refusal
from edge_agent.camera.aravis_words import is_of_camera, of_value
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.camera_settings import Feature
from edge_agent.errors import CameraError

_LATCHES = (  # command, value, frequency of its ticks, nanoseconds without
    ("GevTimestampControlLatch", "GevTimestampValue", "GevTimestampTickFrequency"),
    ("TimestampLatch", "TimestampLatchValue", ""),
)
_USUAL_PERIOD_S = 0.05  # of a camera that does not tell its rate
_ANOTHER_KIND = "Not a ArvGc"  # in the library's words where a feature is no integer
_NEARLY = 0.02  # a camera rounds a time or a rate to its own steps


@dataclass(frozen=True, slots=True)
class Latch:
    """The features by which a camera tells its time."""

    command: str
    value: str
    ns_per_tick: float

    def ask(self, arv: Library, camera: int) -> tuple[int, int, int]:
        """The camera's time, and ours before and after, ns. Raises CameraError."""
        device = arv.call("camera_get_device", camera)
        asked_ns = time.monotonic_ns()
        arv.call("device_execute_command", device, self.command)
        answered_ns = time.monotonic_ns()
        ticks = arv.call("device_get_integer_feature_value", device, self.value)
        return int(ticks * self.ns_per_tick), asked_ns, answered_ns


def require(feature: str, wanted: object, given: object) -> None:
    """Raise CameraError where the camera did not take what was set."""
    is_close = (
        isinstance(wanted, float) and isinstance(given, (int, float)) and abs(given - wanted) <= _NEARLY * max(abs(wanted), 1e-9)
    )
    if wanted != given and not is_close:
        raise CameraError(f"{feature} was set to {wanted} and reads {given}. Set what the camera takes.")


def set_region(arv: Library, camera: int, settings: Settings) -> tuple[int, int, int]:
    """Set the region of interest where one is given, else all there is; return its rows, cols and bytes. After binning: that
    changes it."""
    most_rows, most_cols = most_pixels(arv, camera)
    cols, rows = settings.width or most_cols - settings.x, settings.height or most_rows - settings.y
    if settings.x >= most_cols or settings.y >= most_rows:
        raise CameraError(
            f"x {settings.x}, y {settings.y} is outside its {most_cols}x{most_rows}. Set x and y to what fits, after binning."
        )
    region = f"{cols}x{rows} pixels from x {settings.x}, y {settings.y} on"
    if settings.x + cols > most_cols or settings.y + rows > most_rows:
        raise CameraError(
            f"{region} do not fit into its {most_cols}x{most_rows}. Set x, y, width and height to what fits, after binning."
        )
    try:
        arv.call("camera_set_region", camera, settings.x, settings.y, cols, rows)
    except CameraError as error:
        raise of_value(error, f"{region}: the camera does not take them. Set x, y, width and height to what it takes") from None
    require_region(arv, camera, settings, rows, cols)
    bits = arv.call("camera_get_pixel_format", camera) >> 16 & 0xFF  # of a pixel, by the code of its format
    return rows, cols, rows * cols * bits // 8


def require_region(arv: Library, camera: int, settings: Settings, rows: int, cols: int) -> None:
    """Raise CameraError where the camera's region is not what was set."""
    got = [c.c_int() for _ in range(4)]
    arv.call("camera_get_region", camera, *(c.byref(value) for value in got))
    require("the region (x, y, width, height)", (settings.x, settings.y, cols, rows), tuple(v.value for v in got))


def most_pixels(arv: Library, camera: int) -> tuple[int, int]:
    """Rows and cols of the whole sensor, as binned."""
    device = arv.call("camera_get_device", camera)
    if all(has_feature(arv, device, name) for name in ("WidthMax", "HeightMax")):
        rows, cols = (arv.call("device_get_integer_feature_value", device, name) for name in ("HeightMax", "WidthMax"))
        return int(rows), int(cols)
    width, height = c.c_int(), c.c_int()
    arv.call("camera_get_sensor_size", camera, c.byref(width), c.byref(height))
    return height.value, width.value


def set_up(arv: Library, camera: int, settings: Settings) -> None:
    """Pixel format, exposure, gain, rate and every other feature named. Raises CameraError for one the camera does not take."""
    device = arv.call("camera_get_device", camera)
    try:
        arv.call("camera_set_pixel_format_from_string", camera, settings.pixel_format)
    except CameraError as error:
        raise _refusal(arv, device, "PixelFormat", settings.pixel_format, error) from None
    require("pixel_format", settings.pixel_format, arv.call("camera_get_pixel_format_as_string", camera))
    if settings.trigger == "free_run":
        arv.call("camera_clear_triggers", camera)
        if settings.frame_rate_hz is not None:
            _set_number(arv, camera, "frame_rate", "frame_rate_hz", settings.frame_rate_hz)
    if settings.exposure_time_us is not None:
        _set_number(arv, camera, "exposure_time", "exposure_time_us", settings.exposure_time_us)
    if settings.gain is not None:
        _set_number(arv, camera, "gain", "gain", settings.gain)
    if settings.heartbeat_ms is not None and arv.call("camera_is_gv_device", camera):
        set_feature(arv, device, "GevHeartbeatTimeout", settings.heartbeat_ms)
    for name, value in settings.features.items():
        set_feature(arv, device, name, value, f"features.{name}")


def set_trigger(arv: Library, camera: int, settings: Settings) -> None:
    """Software or hardware trigger. Last of all: other features may undo it."""
    if settings.trigger == "free_run":
        return
    device = arv.call("camera_get_device", camera)
    source = "Software" if settings.trigger == "software" else settings.trigger_source
    try:
        arv.call("camera_set_trigger", camera, source)
    except CameraError as error:
        raise _refusal(arv, device, "TriggerSource", source, error) from None
    wanted: dict[str, Feature] = {"TriggerSelector": settings.trigger_selector, "TriggerMode": "On", "TriggerSource": source}
    if settings.trigger == "hardware":
        wanted["TriggerActivation"] = settings.trigger_activation
        if settings.trigger_delay_us is not None:
            wanted["TriggerDelay"] = settings.trigger_delay_us
    for name, value in wanted.items():
        set_feature(arv, device, name, value)
    _require_time(arv, camera, settings)


def set_counter(arv: Library, camera: int, settings: Settings) -> None:
    """Have the counter count from 0 the edges that trigger. Raises CameraError where it can only count others."""
    device = arv.call("camera_get_device", camera)
    set_feature(arv, device, "CounterSelector", settings.counter or "")
    set_feature(arv, device, "CounterEventSource", settings.trigger_source)
    if has_feature(arv, device, "CounterEventActivation"):
        set_feature(arv, device, "CounterEventActivation", settings.trigger_activation)
    elif settings.trigger_activation == "AnyEdge":  # of a pulse's two edges it counts one, whichever it is
        raise CameraError(
            f"{settings.counter} has no CounterEventActivation and cannot count AnyEdge. "
            "Set trigger_activation to one edge, or take counter out."
        )
    arv.call("device_execute_command", device, "CounterReset")


def _require_time(arv: Library, camera: int, settings: Settings) -> None:
    """Raise CameraError where a picture is still being exposed when it is given up."""
    exposed_ms = (settings.trigger_delay_us or 0) / 1000 + exposure_us(arv, camera) / 1000
    if exposed_ms >= settings.frame_timeout_ms:
        raise CameraError(
            f"trigger delay and exposure take {exposed_ms:g} ms, frame_timeout_ms is "
            f"{settings.frame_timeout_ms:g}: no picture comes in time. Expose for less, or wait longer."
        )


def exposure_us(arv: Library, camera: int) -> float:
    """The exposure time the camera has; 0 where it does not say."""
    try:
        return float(arv.call("camera_get_exposure_time", camera))
    except CameraError:
        return 0.0


def frame_period_s(arv: Library, camera: int) -> float:
    """From one picture to the next in free run: by the camera's rate, whoever set it, and not less than its exposure."""
    try:
        rate_hz = float(arv.call("camera_get_frame_rate", camera))
    except CameraError:
        rate_hz = 0.0
    return max(1 / rate_hz if rate_hz > 0 else _USUAL_PERIOD_S, exposure_us(arv, camera) / 1e6)


def find_latch(arv: Library, camera: int) -> Latch | None:
    """How the camera is asked for its time, in the words of GigE Vision or of SFNC; None where it cannot tell it."""
    device = arv.call("camera_get_device", camera)
    for command, value, frequency in _LATCHES:
        if not (has_feature(arv, device, command) and has_feature(arv, device, value)):
            continue
        hz = arv.call("device_get_integer_feature_value", device, frequency) if frequency else 1_000_000_000
        return Latch(command, value, 1e9 / hz) if hz else None
    return None


def has_feature(arv: Library, device: int, name: str) -> bool:
    try:
        return bool(arv.call("device_is_feature_available", device, name))
    except CameraError:
        return False


def _set_number(arv: Library, camera: int, feature: str, key: str, value: float) -> None:
    """Set what cameras call by several names, and the library by one."""
    try:
        arv.call(f"camera_set_{feature}", camera, value)
        require(key, float(value), arv.call(f"camera_get_{feature}", camera))
    except CameraError as error:
        if is_of_camera(error):
            raise
        takes = "{:.10g} to {:.10g}".format(*arv.camera_bounds(camera, feature))
        raise CameraError(
            f"{key} {value:.10g}: the camera does not take it; it takes {takes}. Set {key} to that. ({error})"
        ) from None


def set_feature(arv: Library, device: int, name: str, value: Feature, key: str = "") -> None:
    """Set one GenICam feature by its name and read it back: text is an enumeration or a string. `key` is the settings'."""
    kind = {bool: "boolean", int: "integer", float: "float", str: "string"}[type(value)]
    try:
        arv.call(f"device_set_{kind}_feature_value", device, name, value)
        got = arv.call(f"device_get_{kind}_feature_value", device, name)
        require(name, value, bool(got) if kind == "boolean" else got)
    except CameraError as error:
        if kind == "integer" and _ANOTHER_KIND in str(error):
            return set_feature(arv, device, name, float(value), key)  # YAML's 5 may be a float to the camera
        raise _refusal(arv, device, name, value, error, key) from None
    return None


def _refusal(arv: Library, device: int, feature: str, value: object, error: CameraError, key: str = "") -> CameraError:
    """Of a value, unless the camera is another's, or gone: then none would do."""
    if is_of_camera(error):
        return error
    return refusal(arv, device, feature, value, str(error), key)
