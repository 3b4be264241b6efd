"""What a camera takes: the limits of its features as its GenICam description has them, for a message that can be acted upon."""

from __future__ import annotations

import ctypes as c
import difflib
import re

from edge_agent.camera.aravis_library import Library
from edge_agent.errors import CameraError

_PROTECTED = "write-protect"  # the library's word for the camera's status
_ONE_OF = "one of "
KEYS = {  # of the settings, by the feature; others stand under `features`
    "PixelFormat": "pixel_format",
    "ExposureTime": "exposure_time_us",
    "Gain": "gain",
    "AcquisitionFrameRate": "frame_rate_hz",
    "GevHeartbeatTimeout": "heartbeat_ms",
    "TriggerSelector": "trigger_selector",
    "TriggerMode": "trigger",
    "TriggerSource": "trigger_source",
    "TriggerActivation": "trigger_activation",
    "TriggerDelay": "trigger_delay_us",
    "CounterSelector": "counter",
    "CounterEventSource": "trigger_source",
    "CounterEventActivation": "trigger_activation",
}


def refusal(arv: Library, device: int, feature: str, value: object, why: str, key: str = "") -> CameraError:
    """That the camera does not take this value, what it takes, and what to do."""
    key = key or KEYS.get(feature, f"features.{feature}")
    shown = str(value).lower() if isinstance(value, bool) else f"{value:.10g}" if isinstance(value, float) else value
    what = f"{key} {shown}" if key != f"features.{feature}" else f"{key} = {shown}"
    if _PROTECTED in why:
        return CameraError(f"{what}: the camera's {feature} can only be read, or not be set now. Take {key} out. ({why})")
    if takes := limits(arv, device, feature):
        how = f"Set {key} to what it takes{_about_quotes(value, takes)}"
        return CameraError(f"{what}: the camera does not take it; its {feature} takes {takes}. {how}. ({why})")
    known = names(arv, device)
    if feature in known:
        fault = f"the camera's {feature} does not take it, or not now: it may be a text, a command or locked"
        return CameraError(f"{what}: {fault}. Mend {key}, or take it out. ({why})")
    near = difflib.get_close_matches(feature, known, 3, 0.5)
    meant = f"; it has {', '.join(near)}" if near else ""
    return CameraError(f"{what}: the camera has no feature {feature}, or not now{meant}. Mend {key}, or take it out. ({why})")


def _about_quotes(value: object, takes: str) -> str:
    """What YAML made of a value of another kind than the camera takes."""
    if isinstance(value, bool) and takes.startswith(_ONE_OF):
        return ', in quotes ("Off"): without them YAML reads Off and No as false, On and Yes as true'
    return ", without quotes" if isinstance(value, str) and not takes.startswith(_ONE_OF) else ""


def limits(arv: Library, device: int, feature: str) -> str:
    """In words what the feature may be set to; '' where the camera does not say."""
    try:
        return _ONE_OF + ", ".join(arv.entries(device, feature))
    except CameraError:
        pass
    for kind in ("integer", "float"):
        try:
            least, most = arv.bounds(device, feature, kind)
        except CameraError:
            continue
        return f"{least:.10g} to {most:.10g}"
    try:
        arv.call("device_get_boolean_feature_value", device, feature)
        return "true or false"
    except CameraError:
        return ""


def names(arv: Library, device: int) -> list[str]:
    """Every feature of the camera's description."""
    size = c.c_size_t()
    text = arv.call("device_get_genicam_xml", device, c.byref(size)) or ""
    return sorted(set(re.findall(r"<pFeature>(\w+)</pFeature>", text)))
