"""Looks at what the settings name outside their files: the running station, ports, cameras, the collector. Nothing is opened
that a running station holds, and nothing is set."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from edge_agent.camera.aravis_library import find_devices
from edge_agent.camera.folder import list_images
from edge_agent.camera.gige_discovery import discover
from edge_agent.camera.v4l2_find import find_by_link, find_by_serial
from edge_agent.camera.v4l2_kernel import Kernel
from edge_agent.camera.video import file_of, require_file
from edge_agent.camera_settings import (
    AravisCamera,
    CameraSettings,
    FolderCamera,
    SyntheticCamera,
    V4l2Camera,
    VideoCamera,
    is_stream,
)
from edge_agent.commands.doctor.holders import holder_of, is_one_of, runs_of
from edge_agent.commands.doctor.looks import Look, note, problem, well
from edge_agent.commands.doctor.service import Service
from edge_agent.commands.reach import of_this_machine
from edge_agent.errors import CameraError, ConfigurationError, DeliveryError, Problem, Refused
from edge_agent.events import UNPASSABLE, alarm_event
from edge_agent.listening import is_here
from edge_agent.plc.counters import FOLDER, Standing, standing_in
from edge_agent.plc.gateway import ask
from edge_agent.security import ClientKeys, Handshakes
from edge_agent.settings import LineSettings, Station
from edge_agent.typewords import counted
from edge_agent.wire import Request

_ANSWER_S = 1.0
_RESTART = "sudo systemctl restart edge-agent; or end it, where somebody started it by hand"
_CONNECT_MS = 1500
_RTSP_PORT, _HTTP_PORT = 554, 80


def of_running(station: Station, service: Service | None = None) -> tuple[bool, list[Look]]:
    """Whether the station of these settings runs already, and how its lines are. `service` runs these settings, if any does."""
    control = station.settings.plc.control
    if control.endswith(":*"):
        return False, []
    try:
        keys = station.plc_keys()
        as_client = None if keys is None else keys.own.to_itself()
        status = ask(of_this_machine(control), Request(op="status"), timeout_s=_ANSWER_S, keys=as_client).status
    except ConfigurationError:
        return False, []  # is told of the files
    except Refused as error:
        if _is_own(control, runs_of(station.file, service)):
            return True, [note("station", f"{error} It began before these settings had their keys", _RESTART)]
        return False, [problem("station", str(error), "give this one a plc.control of its own, or stop the other")]
    except DeliveryError:
        return False, [well("station", "is not running")]
    if status.get("station") != station.settings.station:
        told = f"{control} answers, and is the station {status.get('station')!r}, not {station.settings.station!r}"
        if _is_own(control, runs_of(station.file, service)):
            return False, [note("station", f"{told}: it is of these settings, as they were when it began", _RESTART)]
        return False, [problem("station", told, "give this one a plc.control of its own, or stop the other")]
    return True, [well("station", f"{station.settings.station} is running"), *_of_lines(status)]


def _of_lines(status: dict[str, Any]) -> Iterator[Look]:
    for name, line in status["lines"].items():
        told = f"line {name}: {line['state']}, {line['mode']}, recipe {line['recipe']}, {counted(line['seq'], 'part')} published"
        held = status.get("challenges", {}).get(name, {}).get("remedy", "")
        remedy = held or "journalctl -u edge-agent -e: the last words of the line and its camera"
        yield problem("station", f"{told}: {line['why']}", remedy) if line["state"] == "Error" else well("station", told)
        if unpassable := status.get("challenges", {}).get(name, {}).get("unpassable", ""):
            yield note("station", f"line {name} can pass no challenge: {unpassable}", UNPASSABLE)
    for alarm in status["alarms"]:
        name, event = alarm_event(alarm)
        yield note("station", f"alarm {alarm}: {event.meaning} (event {name})", event.remedy)


def asked_of(station: Station) -> list[tuple[LineSettings, Standing]]:
    """The lines of which another recipe or mode than the settings' was asked for, and what stands beyond a start."""
    found = []
    for line in station.settings.lines:
        with suppress(OSError):  # no start yet; of a state folder that this user may not look into its own look tells
            asked = standing_in(station.path(station.settings.state) / FOLDER / line.name)
            if (stands := asked.under(line.recipe or "", line.mode)) != Standing().under(line.recipe or "", line.mode):
                found.append((line, stands))
    return found


def of_asked(station: Station, line: LineSettings, stands: Standing, problems: list[Problem]) -> Iterator[Look]:
    """What stands instead of the settings; `problems` are those of the recipe asked for."""
    ask = f"edge-agent control --config {station.file}"
    for what, stood, named in (("recipe", stands.recipe, line.recipe or ""), ("mode", stands.mode, line.mode)):
        if stood != named:
            does = "judges by recipe" if what == "recipe" else "is"
            told = f"line {line.name} {does} {stood}, asked for instead of the settings' {named}"
            yield note("station", told, f"where that is over, while the station runs: {ask} {what} {named} --line {line.name}")
    for each in problems:
        told = f"line {line.name}: a start would leave it offline, for recipe {stands.recipe} cannot be used any more"
        remedy = f"{each.remedy.removesuffix('.')}; or ask for another: {ask} recipe {line.recipe} --line {line.name}"
        yield problem("station", f"{told}: {replace(each, remedy='')}", remedy)


def _is_own(control: str, pids: set[int]) -> bool:
    """Whether one of these processes listens there; at an address of this machine's alone, which has no port, any of them may."""
    _, _, port = control.rpartition(":")
    return is_one_of(holder_of(int(port)), pids) if control.startswith("tcp://") else bool(pids)


def of_ports(station: Station, is_running: bool, service: Service | None = None) -> Iterator[Look]:
    """Every TCP port the station listens on: free, its own already, or somebody else's."""
    for key, endpoint in station.settings.endpoints.items():
        if endpoint.startswith("ipc://") or endpoint.endswith((":*", ":0")):
            continue
        if is_running and is_here(endpoint):
            yield well("ports", f"{key} {endpoint}: the running station's")
        else:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            host = "0.0.0.0" if host == "*" else host.strip("[]")  # what ZeroMQ means by it; looked at, not listened on
            yield _port_look(key, host, int(port), station.file, service)


def _port_look(key: str, host: str, port: int, settings: str, service: Service | None) -> Look:
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            told = f"{key} {host}:{port}: no interface of this machine has that address now; the station waits for it"
            return note("ports", told, f"bring that network up, or give {key} another address")
        by = holder_of(port)
        if is_one_of(by, runs_of(settings, service)):
            return note("ports", f"{key} {host}:{port} is held by the running service, which a restart ends", _RESTART)
        make = note if key == "metrics.port" else problem
        told = f"{key} {host}:{port} cannot be had: {error.strerror or error}" + (f", held by {by}" if by.pid else "")
        return make("ports", told, f"stop what holds it, or give {key} another address")
    return well("ports", f"{key} {host}:{port} is free")


def of_cameras(station: Station) -> Iterator[Look]:
    """Does each camera answer? A camera that another program holds answers, too. Of files and folders that cannot be read the
    files' part tells."""
    for camera in station.settings.cameras:
        try:
            yield well("cameras", f"{camera.name}: {_reached(camera, station.base)}")
        except ConfigurationError:
            continue
        except (CameraError, OSError) as error:
            told, _, remedy = str(error).partition(" Remedy: ")
            yield problem("cameras", f"{camera.name}: {told}", remedy or "look at its cable, its power and its address")


def _reached(camera: CameraSettings, base: Path) -> str:
    """What answers. Raises CameraError, OSError; ConfigurationError for files and folders."""
    match camera:
        case SyntheticCamera():
            return "drawn by the station itself"
        case FolderCamera():
            folder = (base / camera.path).resolve()
            return f"{counted(len(list_images(folder)[: camera.preload or None]), 'image')} in {folder}"
        case V4l2Camera():
            return str(_v4l2_node(camera))
        case AravisCamera():
            return _aravis(camera)
        case VideoCamera():
            return _video(camera, base)
    raise AssertionError(camera)


def _v4l2_node(camera: V4l2Camera) -> Path:
    kernel = Kernel()
    if camera.serial:
        return find_by_serial(kernel, camera.serial)
    return find_by_link(kernel, Path(camera.path) if camera.path else kernel.devices / "v4l" / "by-id" / str(camera.by_id))


def _aravis(camera: AravisCamera) -> str:
    if camera.address is not None:
        told = discover(camera.address)
        if told is None:
            raise CameraError(f"nothing answers at {camera.address}. Remedy: look at its cable, its power and its address")
        return f"{told['vendor']} {told['model']}, serial {told['serial']}, answers at {camera.address}"
    found = {device["serial"]: device for device in _aravis_devices()}
    if camera.serial not in found:
        seen = ", ".join(sorted(found)) or "none"
        raise CameraError(f"no camera has the serial {camera.serial}; within reach: {seen}. Remedy: plug it in, or mend serial")
    device = found[str(camera.serial)]
    return f"{device['vendor']} {device['model']} answers at {device['address']}"


@cache
def _aravis_devices() -> tuple[dict[str, str], ...]:
    return tuple(find_devices())


def _video(camera: VideoCamera, base: Path) -> str:
    if not is_stream(camera.url):
        file = file_of(camera, base)
        require_file(file)
        return f"{file}, {file.stat().st_size >> 10} KiB"
    parts = urlsplit(camera.url)
    port = parts.port or (_RTSP_PORT if parts.scheme.startswith("rtsp") else _HTTP_PORT)
    with socket.create_connection((str(parts.hostname), port), timeout=_ANSWER_S):
        return f"{parts.hostname}:{port} takes connections"


def of_collector(station: Station) -> Iterator[Look]:
    """Does a ZeroMQ peer answer there? Nothing is said to it: a stream's first word is the station's own."""
    endpoint = station.settings.uplink.collector
    try:
        keys = station.uplink_keys()
    except ConfigurationError:
        return  # is told of the files
    if endpoint is None:
        yield note("collector", "none is set: results stay in the outbox, up to its cap", "set uplink.collector")
    elif (refusal := handshake(endpoint, keys)) == "":
        yield well("collector", f"{endpoint} answers")
    elif refusal:
        yield problem("collector", f"{endpoint} takes no connection of this station", refusal)
    else:
        remedy = "start it there: edge-agent collect; until then the outbox keeps everything, up to its cap"
        yield note("collector", f"{endpoint} does not answer within {_CONNECT_MS} ms", remedy)


def handshake(endpoint: str, keys: ClientKeys | None = None) -> str | None:
    """Why what speaks ZeroMQ at the address takes no connection, '' where it does; None where nothing speaks it there."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        handshakes = Handshakes(peer, keys)
        try:
            if keys is not None:
                keys.apply(peer)
            peer.connect(endpoint)
            return handshakes.await_one(_CONNECT_MS)
        except zmq.ZMQError:
            return None
        finally:
            handshakes.close()
