"""How this station is wired: strict, validated whole, read once at start.

Paths are relative to the settings file. `--set path.to.key=value` replaces one value before validation, so an override
is checked like the file itself.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from edge_agent import strictyaml
from edge_agent.addresses import PLAINTEXT, Endpoint, are_one, is_loopback, of_host
from edge_agent.camera_settings import CameraSettings, Milliseconds, Seconds
from edge_agent.errors import Problem, UsageError
from edge_agent.recipe import Name, Strict
from edge_agent.security import ClientKeys, ServerKeys, client_keys, read_pair

Megabytes = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class CpuEngine(Strict, frozen=True, kw_only=True, tag_field="kind", tag="cpu"):
    """OpenVINO. `hint` latency or throughput; `requests` and `threads` 0 leave the choice to it."""

    hint: Literal["latency", "throughput"] = "latency"
    requests: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0


class RecordedEngine(Strict, frozen=True, kw_only=True, tag_field="kind", tag="recorded"):
    """Plays back stored maps: `path` is an .npy of (maps, classes, rows, cols) uint8; `order` one of (parts,) integers that
    says which map each part gets. Without it they are shown in turn."""

    path: str
    order: str | None = None


class TensorRtEngine(Strict, frozen=True, kw_only=True, tag_field="kind", tag="tensorrt"):
    """TensorRT or TensorRT-RTX on an NVIDIA GPU. `slots` inferences overlap; `memory` auto is copied, or whatever a GPU that shares
    the host's memory is faster with; an idle engine runs once each `keep_warm_ms`, 0 never."""

    library: Literal["auto", "tensorrt", "tensorrt_rtx"] = "auto"
    device: Annotated[int, msgspec.Meta(ge=0, le=63)] = 0
    slots: Annotated[int, msgspec.Meta(ge=2, le=8)] = 3
    memory: Literal["auto", "copied", "mapped"] = "auto"
    graph: bool = True
    keep_warm_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 250
    workspace_mb: Megabytes = 1024
    optimization: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3


class AutoEngine(Strict, frozen=True, kw_only=True, tag_field="kind", tag="auto"):
    """TensorRT where it works, else the CPU, with a warning; never ready where one inference outlasts the recipe's deadline."""


EngineSettings = CpuEngine | RecordedEngine | TensorRtEngine | AutoEngine


class ViewSettings(Strict, frozen=True, kw_only=True):
    """One of several cameras that look at the same part, with the recipe that judges its pictures."""

    name: Name
    camera: Name
    recipe: Name


class MasterPart(Strict, frozen=True, kw_only=True):
    """A part that is known to be good or bad: what must come out, and for `NG` which rules it must break at least."""

    name: Name
    expect: Literal["PASS", "NG"]
    reasons: tuple[str, ...] = ()
    image: str | None = None

    def __post_init__(self) -> None:
        if self.expect == "PASS" and self.reasons:
            raise ValueError("a master part that must come out PASS breaks no rule: take reasons out")


class ChallengeSettings(Strict, frozen=True, kw_only=True):
    """Master parts, and when they must have come out right. `every_h` 0 and no `at_shift`: on command alone."""

    parts: Annotated[tuple[MasterPart, ...], msgspec.Meta(min_length=1, max_length=32)]
    every_h: Annotated[float, msgspec.Meta(ge=0, le=8760)] = 0
    at_shift: bool = False
    grace_min: Annotated[float, msgspec.Meta(ge=0, le=1440)] = 30
    overdue: Literal["not_ready", "told"] = "not_ready"
    bring_min: Annotated[float, msgspec.Meta(gt=0, le=1440)] = 10  # an announced master part is waited for so long


class LineSettings(Strict, frozen=True, kw_only=True):
    """One inspection point. `frames` is the number of frame slots; `delivery` is one trigger, one outcome, but for a preview."""

    name: Name
    camera: Name | None = None
    recipe: Name | None = None
    views: Annotated[tuple[ViewSettings, ...], msgspec.Meta(max_length=16)] = ()
    join_window_ms: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 50  # views triggered within it are of the same part
    mode: Literal["online", "offline", "shadow"] = "online"
    frames: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    deadline_guard_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 5  # FAULT late goes out this long before the deadline
    delivery: Literal["every", "latest"] = "every"
    announce_window_ms: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 50  # between a hardware trigger and its announcement

    challenge: ChallengeSettings | None = None

    def __post_init__(self) -> None:
        alone = self.camera is not None and self.recipe is not None
        if alone == bool(self.views) or (self.views and (self.camera or self.recipe)):
            raise ValueError("a line has either camera and recipe, or views")

    @property
    def each_view(self) -> tuple[ViewSettings, ...]:
        """The views; a line of one camera has one, of the line's own name."""
        if self.camera is None or self.recipe is None:
            return self.views
        return (ViewSettings(name=self.name, camera=self.camera, recipe=self.recipe),)

    @property
    def names_in_verdicts(self) -> tuple[str, ...]:
        """Of each view what stands before its rules and classes in verdicts: its name, '' where the line has one camera."""
        return tuple(view.name for view in self.views) or ("",)


class ServerCurve(Strict, frozen=True, kw_only=True):
    """Encryption where the station listens: its own key pair, and a folder of the public keys of those who may connect."""

    secret_key: Annotated[str, msgspec.Meta(min_length=1)]
    clients: Annotated[str, msgspec.Meta(min_length=1)]


class ClientCurve(Strict, frozen=True, kw_only=True):
    """Encryption where the station connects: its own key pair, and the public key of who listens there."""

    secret_key: Annotated[str, msgspec.Meta(min_length=1)]
    server_key: Annotated[str, msgspec.Meta(min_length=1)]


class PlcSettings(Strict, frozen=True, kw_only=True):
    """Where the line's controller listens. Alarms: nobody subscribed, or nothing acknowledged for so long."""

    verdicts: Endpoint = "tcp://127.0.0.1:5556"
    control: Endpoint = "tcp://127.0.0.1:5557"
    heartbeat_ms: Milliseconds = 50
    send_queue: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    replay_parts: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 5000
    expect_subscriber: bool = True
    expect_acknowledgement_s: Seconds = 0  # 0: no acknowledgement expected
    curve: ServerCurve | None = None
    allow_plaintext: bool = False


class UplinkSettings(Strict, frozen=True, kw_only=True):
    """The way to the datacenter. Without `collector` evidence stays in the outbox, up to its cap."""

    collector: Endpoint | None = None
    outbox_cap_mb: Megabytes = 1024
    curve: ClientCurve | None = None
    allow_plaintext: bool = False


ClockTime = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="a time of day, HH:MM")]


class MetricsSettings(Strict, frozen=True, kw_only=True):
    """Where Prometheus reads the station's metrics, over HTTP. Port 0 takes any that is free."""

    address: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 9108
    allow_plaintext: bool = False


class ThreadWish(Strict, frozen=True, kw_only=True):
    """Where a thread may run, and before whom: `priority` is of SCHED_FIFO, 0 leaves it among all others."""

    cpu: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=4095)], ...], msgspec.Meta(max_length=256)] = ()
    priority: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0


class ThreadWishes(Strict, frozen=True, kw_only=True):
    """Wishes for the threads on whose time the line depends: those of its cameras, and the publisher."""

    grab: ThreadWish = ThreadWish()
    publisher: ThreadWish = ThreadWish()


class LogSettings(Strict, frozen=True, kw_only=True):
    """What the log says of each part. Beyond `parts_per_s` lines a second a PASS is only counted; 0 counts every PASS."""

    parts_per_s: Annotated[int, msgspec.Meta(ge=0, le=250)] = 50


class StationSettings(Strict, frozen=True, kw_only=True):
    """The whole station."""

    station: Name
    state: str = "state"
    recipes: str = "recipes"
    models: str = "../models"
    cameras: Annotated[tuple[CameraSettings, ...], msgspec.Meta(min_length=1, max_length=32)]
    lines: Annotated[tuple[LineSettings, ...], msgspec.Meta(min_length=1, max_length=32)]
    engine: EngineSettings = CpuEngine()
    plc: PlcSettings = PlcSettings()
    uplink: UplinkSettings = UplinkSettings()
    metrics: MetricsSettings | None = MetricsSettings()
    shifts: Annotated[tuple[ClockTime, ...], msgspec.Meta(max_length=24)] = ()  # local times at which a shift begins
    journal_parts: Annotated[int, msgspec.Meta(ge=64, le=1_000_000)] = 16_384
    drain_s: Seconds = 5
    python_core: Literal["auto", "any"] | Annotated[int, msgspec.Meta(ge=0, le=4095)] = "auto"
    threads: ThreadWishes = ThreadWishes()
    log: LogSettings = LogSettings()

    @property
    def endpoints(self) -> dict[str, str]:
        """Every address that the station listens on, by its key."""
        found = {"plc.verdicts": self.plc.verdicts, "plc.control": self.plc.control}
        if self.metrics is not None:
            found["metrics.port"] = of_host(self.metrics.address, self.metrics.port)
        return found


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """Settings together with the folder their paths are relative to."""

    settings: StationSettings
    file: str
    base: Path
    overrides: tuple[str, ...] = ()

    def path(self, text: str) -> Path:
        return (self.base / text).resolve()

    def plc_keys(self) -> ServerKeys | None:
        """What the PLC's sockets are encrypted with, None for not at all. Raises ConfigurationError."""
        curve = self.settings.plc.curve
        return None if curve is None else ServerKeys(read_pair(self.path(curve.secret_key)), self.path(curve.clients))

    def uplink_keys(self) -> ClientKeys | None:
        """What the link to the collector is encrypted with, None for not at all. Raises ConfigurationError."""
        curve = self.settings.uplink.curve
        return None if curve is None else client_keys(self.path(curve.secret_key), self.path(curve.server_key))

    def camera(self, name: str) -> CameraSettings:
        return next(camera for camera in self.settings.cameras if camera.name == name)


def load_station(file: Path, overrides: list[str] | None = None) -> Station:
    """Read settings. Raises ConfigurationError with every problem, UsageError for a malformed override."""
    document = strictyaml.read(file)
    for override in overrides or []:
        override_value(document.data, override)
    settings = strictyaml.convert(document, StationSettings, _contradictions)
    return Station(settings=settings, file=str(file), base=file.resolve().parent, overrides=tuple(overrides or ()))


def override_value(data: Any, override: str) -> None:
    """Apply one `path.to.key=value`; the value is read as YAML. Raises UsageError where the path leads nowhere."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {override!r} is not of the form path.to.key=value")
    *parents, last = path.split(".")
    here = data
    for depth, key in enumerate(parents):
        here = _descend(here, key, ".".join(parents[: depth + 1]), override)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override!r}: the value is not YAML: {error}") from None
    if isinstance(here, list):
        here[_index(here, last, override)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"--set {override!r}: {'.'.join(parents)} is a plain value and has no key {last!r}")


def _descend(here: Any, key: str, path: str, override: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, key, override)]
    if isinstance(here, dict):
        return here.setdefault(key, {})
    raise UsageError(f"--set {override!r}: nothing stands at {path}")


def _index(items: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise UsageError(f"--set {override!r}: {key!r} is not an index from 0 to {len(items) - 1}")
    return int(key)


def _contradictions(settings: StationSettings, document: strictyaml.Document) -> list[Problem]:
    return [
        *_twice(document, ("cameras",), [camera.name for camera in settings.cameras]),
        *_twice(document, ("lines",), [line.name for line in settings.lines]),
        *_twice_in_a_line(settings, document),
        *_wiring(settings, document),
        *_listening(settings, document),
        *_plaintext(settings, document),
    ]


def _twice(document: strictyaml.Document, keys: strictyaml.Keys, names: list[str]) -> list[Problem]:
    at = ".".join(map(str, keys))
    return [
        document.problem((*keys, i, "name"), f"is {name!r}, which {at}.{names.index(name)} has already.", "choose another name.")
        for i, name in enumerate(names)
        if name in names[:i]
    ]


def _twice_in_a_line(settings: StationSettings, document: strictyaml.Document) -> list[Problem]:
    """Views and master parts are told apart by their names: of two with the same one only one would be looked at."""
    problems = []
    for i, line in enumerate(settings.lines):
        problems += _twice(document, ("lines", i, "views"), [view.name for view in line.views])
        masters = line.challenge.parts if line.challenge is not None else ()
        problems += _twice(document, ("lines", i, "challenge", "parts"), [master.name for master in masters])
    return problems


def _wiring(settings: StationSettings, document: strictyaml.Document) -> list[Problem]:
    cameras = [camera.name for camera in settings.cameras]
    problems = []
    for i, line in enumerate(settings.lines):
        for keys, name in _cameras_of(i, line):
            if name not in cameras and document.is_whole("cameras"):
                message = f"is {name!r}, which is none of the cameras {', '.join(cameras)}."
                problems.append(document.problem(keys, message, "name one of them, or add it."))
        if line.views and line.challenge is not None and any(master.image for master in line.challenge.parts):
            message = "has images, which belong to one camera, and the line has views."
            problems.append(document.problem(("lines", i, "challenge"), message, "bring the parts themselves, and take image out."))
        if line.delivery == "latest" and line.mode != "shadow":
            message = "leaves pictures out, which no machine may rely on."
            problems.append(document.problem(("lines", i, "delivery"), message, "set mode: shadow beside it, or delivery: every."))
    taken: dict[str, str] = {}
    for i, line in enumerate(settings.lines):
        for keys, name in _cameras_of(i, line):
            if name in taken:
                message = f"camera {name!r} already belongs to line {taken[name]!r}."
                problems.append(document.problem(keys, message, "give each line and each view a camera of its own."))
            taken.setdefault(name, line.name)
    return problems


def _listening(settings: StationSettings, document: strictyaml.Document) -> list[Problem]:
    return [
        document.problem(tuple(key.split(".")), f"is the same address as {other}.", "give it another port.")
        for (other, taken), (key, endpoint) in combinations(settings.endpoints.items(), 2)
        if are_one(taken, endpoint)
    ]


def _cameras_of(index: int, line: LineSettings) -> list[tuple[strictyaml.Keys, str]]:
    """Where a line names its cameras, and which."""
    if not line.views:
        return [(("lines", index, "camera"), str(line.camera))]
    return [(("lines", index, "views", number, "camera"), view.camera) for number, view in enumerate(line.views)]


def _plaintext(settings: StationSettings, document: strictyaml.Document) -> list[Problem]:
    plc, uplink, metrics = settings.plc, settings.uplink, settings.metrics
    of_plc, of_uplink = plc.allow_plaintext or plc.curve is not None, uplink.allow_plaintext or uplink.curve is not None
    endpoints = [
        (("plc", "verdicts"), plc.verdicts, of_plc),
        (("plc", "control"), plc.control, of_plc),
        (("uplink", "collector"), uplink.collector, of_uplink),
    ]
    if metrics is not None:
        endpoints.append((("metrics", "address"), of_host(metrics.address), metrics.allow_plaintext))
    return [
        document.problem(keys, f"is {endpoint}: {PLAINTEXT}", _instead_of_plaintext(keys[0]))
        for keys, endpoint, allowed in endpoints
        if endpoint and not allowed and not is_loopback(endpoint)
    ]


def _instead_of_plaintext(section: str) -> str:
    encrypted = "" if section == "metrics" else f"encrypt it ({section}.curve), "
    return f"use 127.0.0.1, {encrypted}or set {section}.allow_plaintext: true."
