"""List the cameras within reach: GigE Vision and USB3 Vision by Aravis, USB (UVC) and others by V4L2. Each comes with the line to
paste into the settings. `--address` asks one GigE camera directly, where discovery, a broadcast, does not reach it.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from collections import Counter

import msgspec
import yaml
from rich.table import Table

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.aravis_find import Answer, ask_device
from edge_agent.camera.aravis_library import find_devices, library
from edge_agent.camera.aravis_words import held
from edge_agent.camera.gige_discovery import discover
from edge_agent.camera.v4l2_find import Seen, find_all
from edge_agent.commands.output import console
from edge_agent.errors import CameraError, UsageError

_USB3 = "USB3Vision"
_PROTOCOLS = ("GigEVision", _USB3)
_NOT_HEARD = (
    "no GigE camera was heard. Discovery is a broadcast, which reaches neither another network nor 127.x.y.z, where simulated "
    "cameras are: ask one by its address, edge-agent cameras --address IP."
)


class Found(msgspec.Struct, frozen=True):
    """One camera. `settings` is a YAML flow mapping for the list `cameras`; `kind` is what it says there."""

    kind: str
    address: str
    serial: str
    vendor: str
    model: str
    settings: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="IP", action="append", help="ask only the GigE camera with this address; may be given again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object with the cameras and notes")


def run(args: argparse.Namespace) -> int:
    if args.address:
        for address in args.address:
            _require_address(address)
        cameras, notes = _at(args.address)
    else:
        cameras, notes = find_cameras(k.Kernel())
        if not any(camera.kind == "aravis" for camera in cameras):
            notes.append(_NOT_HEARD)
    if args.json:
        print(msgspec.json.encode({"cameras": cameras, "notes": notes}).decode())
    else:
        _show(cameras)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _at(addresses: list[str]) -> tuple[list[Found], list[str]]:
    """The GigE cameras there, and what is the matter with them, or with those not listed. Raises CameraError where none answers."""
    cameras, notes = [], []
    names: set[str] = set()
    for address in dict.fromkeys(addresses):
        try:
            camera, note = _one_at(address, names)
        except CameraError as error:
            notes.append(f"no camera answers at {address}: {error}")
            continue
        cameras.append(camera)
        notes += [note] if note else []
    if not cameras:
        raise CameraError("\n".join(notes))
    return cameras, notes


def _one_at(address: str, names: set[str]) -> tuple[Found, str]:
    """The GigE camera there, and why it cannot be opened now, '' where it can. Raises CameraError where none answers."""
    try:
        asked = ask_device(address)
    except CameraError:
        told = discover(address)
        if told is None:
            raise
        return _of_aravis({"protocol": "GigEVision", "address": address, **told}, names), f"{address}: {held()}."
    return _of_aravis(asked.device, names, asked), f"{address}: {held()}." if asked.is_held else ""


def _require_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise UsageError(f"--address {address} is no IPv4 address. Give the camera's, such as 192.168.1.20.") from None


def find_cameras(kernel: k.Kernel) -> tuple[list[Found], list[str]]:
    """Every camera that answers, and what kept others from it."""
    names: set[str] = set()
    cameras, notes = [], []
    try:
        library()
        cameras = [_of_aravis(device, names, _asked(device)) for device in find_devices() if device["protocol"] in _PROTOCOLS]
    except CameraError as error:
        notes.append(f"GigE Vision and USB3 Vision cameras are not looked for: {error}")
    seen = find_all(kernel)
    serials = Counter(each.serial for each in seen)
    cameras += [_of_v4l2(each, serials[each.serial] == 1, names) for each in seen]
    for each in seen:
        if each.trouble:
            notes.append(f"{each.node}: {each.trouble}. A user of cameras belongs to the group video: sudo usermod -aG video USER")
    return cameras, notes


def _asked(device: dict[str, str]) -> Answer | None:
    """What a camera that was heard says when it is asked; None where it does not answer."""
    try:
        return ask_device(device["id"] if device["protocol"] == _USB3 else device["address"])
    except CameraError:
        return None


def _of_aravis(device: dict[str, str], names: set[str], answer: Answer | None = None) -> Found:
    """With what it says of itself, where it answered, so that `check` can say what it needs of the machine."""
    name = camera_name(device["model"], device["serial"], names)
    key = "serial" if device["protocol"] == _USB3 else "address"
    size = f", width: {answer.cols}, height: {answer.rows}" if answer is not None and answer.cols and answer.rows else ""
    settings = f"{{name: {name}, kind: aravis, {key}: {_quoted(device[key])}{size}, trigger: free_run}}"
    return Found("aravis", device["address"], device["serial"], device["vendor"], device["model"], settings)


def _of_v4l2(seen: Seen, is_only: bool, names: set[str]) -> Found:
    """Named by the best of what stays the same: its own serial number, the port it is in, its model."""
    name = camera_name(seen.model, seen.serial, names)
    found_by = ""
    if seen.serial and is_only:
        found_by = f"serial: {_quoted(seen.serial)}"
    elif seen.by_path:
        found_by = f"path: {_quoted(f'/dev/v4l/by-path/{seen.by_path}')}"
    elif seen.by_id:
        found_by = f"by_id: {_quoted(seen.by_id)}"
    address = f"/dev/v4l/by-id/{seen.by_id}" if seen.by_id else str(seen.node)
    settings = f"{{name: {name}, kind: v4l2, {found_by}}}" if found_by else ""
    return Found("v4l2", address, seen.serial, seen.vendor, seen.model, settings)


def camera_name(model: str, serial: str, taken: set[str]) -> str:
    """A name that settings take, unlike those `taken`, to which it is added."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{model} {serial}".lower()).strip("-")[:56].rstrip("-")
    if not isinstance(yaml.safe_load(plain or "1"), str):  # YAML would read 007 or `yes` as something else
        plain = f"camera-{plain}".rstrip("-")
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name


def _quoted(text: str) -> str:
    """Text as YAML takes it: an address as it is, in double quotes whatever could be read as something else."""
    is_address = re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text)
    return text if is_address else msgspec.json.encode(text).decode()


def _show(cameras: list[Found]) -> None:
    if not cameras:
        print("no camera found")
        return
    table = Table("kind", "address", "serial", "vendor", "model", box=None)
    for camera in cameras:
        table.add_row(camera.kind, camera.address, camera.serial, camera.vendor, camera.model)
    console().print(table)
    print("\nfor the settings, under `cameras:`")
    for camera in cameras:
        print(f"  - {camera.settings}" if camera.settings else f"  # {camera.address} has neither a serial number nor a link")
