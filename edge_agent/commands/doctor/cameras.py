"""What a station's cameras need of the machine and of one another, looked at without opening one. What makes a camera impossible is
a problem; what makes it lose pictures, what is not there now, or leaves something unknown, is a warning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_agent.camera.aravis_library import library
from edge_agent.camera.aravis_stream import may_open_packet_socket
from edge_agent.camera_settings import AravisCamera, V4l2Camera
from edge_agent.commands.doctor.service import properties_of, show
from edge_agent.errors import CameraError, Problem
from edge_agent.settings import Station
from edge_agent.strictyaml import Document

_BY_ID = Path("/dev/v4l/by-id")
_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_LEAST_FRAMES = 2  # in the kernel's buffer; see docs/cameras.md
_DROP_IN = "/etc/systemd/system/edge-agent.service.d/packet-socket.conf"
_REMEDY_RAW = (
    f"for the service: sudo install -D /usr/share/doc/edge-agent/systemd/examples/packet-socket.conf {_DROP_IN} && sudo systemctl "
    "daemon-reload && sudo systemctl restart edge-agent; run by hand: sudo setcap cap_net_raw+ep on the python it runs with, which "
    "gives it to all that python runs; or set socket: standard."
)
_UNIT_SAYS = ("LoadState", "AmbientCapabilities", "PrivateUsers", "RestrictAddressFamilies")

_Told = tuple[tuple[str, ...], str, str]  # the key within the camera, the message, the remedy


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of this machine. `rmem_max` in bytes, 0 where unknown; `lacks_library` says why it cannot be loaded.
    `has_net_raw` is about `whose`: the installed service, or else the process that looks."""

    lacks_library: str
    rmem_max: int
    has_net_raw: bool
    whose: str = "this process"


def this_machine() -> Machine:
    """Look at the library, the kernel's limit, and the capabilities of the installed service; without one of this process."""
    lacks = ""
    try:
        library()
    except CameraError as error:
        lacks = str(error)
    try:
        rmem_max = int(_RMEM_MAX.read_text())
    except (OSError, ValueError):
        rmem_max = 0
    of_service = may_unit_open(show(*_UNIT_SAYS))
    if of_service is None:
        return Machine(lacks, rmem_max, may_open_packet_socket())
    return Machine(lacks, rmem_max, of_service, "the service edge-agent")


def may_unit_open(shown: str) -> bool | None:
    """Whether a unit of which `systemctl show` says `shown` may open a packet socket; None where it is not installed.

    The capability alone does not do: it must count for the machine's own network, and the address family be allowed.
    """
    told = properties_of(shown)
    if told.get("LoadState") != "loaded":
        return None
    families = told.get("RestrictAddressFamilies", "")
    is_forbidden = bool(families) and ("AF_PACKET" in families.removeprefix("~").split()) == families.startswith("~")
    has_it = "cap_net_raw" in told.get("AmbientCapabilities", "").lower().split()
    return has_it and told.get("PrivateUsers") != "yes" and not is_forbidden


def check_cameras(station: Station, document: Document, machine: Machine) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings, each with the line of its camera."""
    problems, warnings = _shared(station, document), []
    for i, camera in enumerate(station.settings.cameras):
        if isinstance(camera, V4l2Camera) and (absent := _absent(camera)) is not None:
            key, message, remedy = absent
            warnings.append(document.problem(("cameras", i, *key), message, remedy))
        if not isinstance(camera, AravisCamera):
            continue
        if machine.lacks_library:
            why, _, _ = machine.lacks_library.partition(". Install")
            message = f"is aravis, and this machine lacks that library: {why}."
            problems.append(document.problem(("cameras", i, "kind"), message, "sudo apt-get install -y libaravis-0.8-0"))
        told = (_socket(camera, machine), _room(camera, machine), _counter(camera))
        warnings += [document.problem(("cameras", i, *key), message, remedy) for key, message, remedy in filter(None, told)]
    return problems, warnings


def _socket(camera: AravisCamera, machine: Machine) -> _Told | None:
    if camera.socket != "packet" or machine.has_net_raw:
        return None
    message = (
        f"is packet, which needs CAP_NET_RAW; {machine.whose} has it not, and without it Aravis takes a plain socket silently."
    )
    return ("socket",), message, _REMEDY_RAW


def _room(camera: AravisCamera, machine: Machine) -> _Told | None:
    """The kernel's buffer. A camera by serial number may be a USB one, to which it does not matter."""
    if not machine.rmem_max:
        return None
    if camera.width is None or camera.height is None:
        message = f"has no width and height, so that nobody knows whether {_LEAST_FRAMES} frames fit net.core.rmem_max"
        return (), f"{message}, {machine.rmem_max} bytes.", "give both, or compare by hand; USB3 Vision: never mind."
    needed = _LEAST_FRAMES * frame_bytes(camera.width, camera.height, camera.pixel_format)
    if machine.rmem_max >= needed:
        return None
    message = f"sends frames of {needed // _LEAST_FRAMES} bytes, and net.core.rmem_max is {machine.rmem_max}, less than"
    return (), f"{message} {_LEAST_FRAMES} of them: GigE Vision loses packets of bursts.", _more_room(needed)


def _more_room(needed: int) -> str:
    """How to raise the limit: in a file that is read after the package's own."""
    return f"echo net.core.rmem_max={needed} | sudo tee /etc/sysctl.d/70-edge-agent.conf && sudo sysctl --system"


def _shared(station: Station, document: Document) -> list[Problem]:
    """A camera has one master: of two that are the same one, the second can never be opened."""
    problems: list[Problem] = []
    first: dict[tuple[str, str, str], str] = {}
    for i, camera in enumerate(station.settings.cameras):
        if not isinstance(camera, (AravisCamera, V4l2Camera)):
            continue
        for key in ("address", "serial", "by_id", "path"):
            value = getattr(camera, key, None)
            if not value:
                continue
            other = first.setdefault((type(camera).__name__, key, value), camera.name)
            if other != camera.name:
                message = f"is {value}, as is that of {other}: one camera cannot be two."
                problems.append(
                    document.problem(("cameras", i, key), message, f"give {camera.name} its own {key}, or take it out.")
                )
    return problems


def _absent(camera: V4l2Camera) -> _Told | None:
    """A link that is not there. One that has only a serial number is known when it is opened."""
    link = Path(camera.path) if camera.path else _BY_ID / camera.by_id if camera.by_id else None
    if link is None or link.exists():
        return None
    beside = sorted(each.name for each in link.parent.iterdir()) if link.parent.is_dir() else []
    there = f"{link.parent} has {', '.join(beside) or 'nothing'}" if link.parent.is_dir() else f"{link.parent} does not exist"
    message = f"is {link.name}, which is not there: {there}. The line is not ready until the camera is plugged in."
    return ("path" if camera.path else "by_id",), message, "plug it in, or name the camera as edge-agent cameras shows it."


def _counter(camera: AravisCamera) -> _Told | None:
    if camera.counter is not None and camera.trigger != "hardware":
        message = f"is {camera.counter}, and the trigger is {camera.trigger}: only pulses of trigger hardware are counted."
        return ("counter",), message, "set trigger: hardware, or take counter out."
    if camera.trigger != "hardware" or camera.counter is not None:
        return None
    message = "is hardware without a counter: a pulse that the camera ignores stays unknown, the line is unverified."
    return ("trigger",), message, "set counter: Counter0, or what the camera calls its counter."


def frame_bytes(width: int, height: int, pixel_format: str) -> int:
    """Bytes of one frame; of a format that is not known, as for 16 bits a pixel."""
    return -(-width * height * _bits(pixel_format) // 8)


def _bits(pixel_format: str) -> int:
    match = re.fullmatch(r"([A-Za-z]+?)(\d+)(p|Packed)?", pixel_format)
    if match is None:
        return 16
    channels = 3 if match[1] in ("RGB", "BGR") else 1
    depth = int(match[2])
    if match[3] == "p":
        return channels * depth
    if match[3] == "Packed" and channels == 1:
        return 12  # GigE Vision's packed formats: two pixels in three bytes, of 10 bits, too
    return channels * (8 if depth <= 8 else 16)
