"""Which camera answers where, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.camera.aravis_features import most_pixels
from edge_agent.camera.aravis_library import find_devices, library
from edge_agent.camera.aravis_words import is_held, look
from edge_agent.errors import CameraError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a camera says it is, as in `find_devices`; its whole sensor's size, 0 where it does not say; has it a master already?"""

    device: dict[str, str]
    rows: int
    cols: int
    is_held: bool


def ask_device(address: str) -> Answer:
    """Ask the camera at this address; nothing of it is set. Blocks for 2.5 s where none answers. Raises CameraError."""
    arv = library()
    camera = look(arv, address)
    names = {"vendor": "vendor_name", "model": "model_name", "serial": "device_serial_number"}
    try:
        told = {key: arv.call(f"camera_get_{name}", camera) or "" for key, name in names.items()}
        is_gige = bool(arv.call("camera_is_gv_device", camera))
        rows, cols = most_pixels(arv, camera)
        device = {"protocol": "GigEVision" if is_gige else "USB3Vision", "address": address, **told, "id": address}
        return Answer(device, rows, cols, is_held(arv, camera))
    finally:
        arv.unref(camera)


def address_of(serial: str) -> str:
    """Where the camera with this serial number answers. Raises CameraError where there is none, or two."""
    found = find_devices()
    its = sorted({_where(device) for device in found if device["serial"] == serial})
    if len(its) > 1:
        raise CameraError(f"{len(its)} cameras have the serial number {serial}: {', '.join(its)}. Give the address of one instead.")
    if its:
        return its[0]
    known = ", ".join(device["serial"] for device in found) or "none"
    raise CameraError(f"no camera has the serial number {serial} (found: {known}). Look at its cable, or give its address.")


def _where(device: dict[str, str]) -> str:
    """By what the library opens it."""
    return device["id"] if device["protocol"] == "USB3Vision" else device["address"]
