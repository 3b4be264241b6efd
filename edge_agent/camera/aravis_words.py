"""What the library says went wrong, in words that name the cause and the remedy."""

from __future__ import annotations

from edge_agent.camera.aravis_library import Library
from edge_agent.camera.gige_discovery import discover
from edge_agent.errors import CameraError

_HEARTBEAT_MS = 3000  # by which a camera's master is given up, where nobody sets another
_LOOK = "Look at its cable, its power and its address"


def held(heartbeat_ms: int | None = None) -> str:
    """Another program is the camera's master, or was until it died."""
    wait = f"{heartbeat_ms} ms (heartbeat_ms)" if heartbeat_ms else f"its heartbeat, often {_HEARTBEAT_MS} ms"
    return (
        "control is denied: another program holds the camera, perhaps a running edge-agent. Stop that program; where it died, the "
        f"camera lets go after {wait}"
    )


def in_words(error: str, heartbeat_ms: int | None = None) -> str:
    """The library's words with their cause before them, where it is known."""
    if "access-denied" in error:
        return f"{held(heartbeat_ms)} ({error})."
    if "timeout" in error:
        return f"it does not answer any more ({error}). {_LOOK}."
    return error


def is_of_camera(error: CameraError) -> bool:
    """True where the camera is another's, or gone: then no value would do."""
    return in_words(str(error)) != str(error)


def of_value(error: CameraError, words: str) -> CameraError:
    """The words with the library's behind them, unless the error is of the camera."""
    return error if is_of_camera(error) else CameraError(f"{words}. ({error})")


def counts_something_else(counter: str | None) -> str:
    return (
        f"it sent more pictures than {counter} counted pulses: it counts something else, and is not used any more. "
        "Look at trigger_source, trigger_activation and the camera's other triggers."
    )


def connect(arv: Library, address: str, heartbeat_ms: int | None = None) -> int:
    """Open the camera at the address and be its master. Raises CameraError, where another program is, too."""
    camera = look(arv, address, heartbeat_ms)
    if is_held(arv, camera):
        arv.unref(camera)
        raise CameraError(f"{held(heartbeat_ms)}.")
    return camera


def look(arv: Library, address: str, heartbeat_ms: int | None = None) -> int:
    """Open the camera at the address, where another program is its master, too. Raises CameraError."""
    try:
        return int(arv.call("camera_new", address))
    except CameraError as error:
        is_gige = address.replace(".", "").isdigit()
        if is_gige and discover(address) is not None:
            raise CameraError(f"{held(heartbeat_ms)} ({error}).") from None
        how = f", and ask it: edge-agent cameras --address {address}" if is_gige else ""
        raise CameraError(f"no camera answers there ({error}). {_LOOK}{how}.") from None


def is_held(arv: Library, camera: int) -> bool:
    """True where a GigE camera has another master than this process, or none."""
    return bool(
        arv.call("camera_is_gv_device", camera) and not arv.call("gv_device_is_controller", arv.call("camera_get_device", camera))
    )
