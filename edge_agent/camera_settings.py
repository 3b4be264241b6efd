"""The kinds of cameras that settings may name, and what can be set of each."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_agent.recipe import Name, Share, Strict, Whole

Rate = Annotated[float, msgspec.Meta(ge=0, le=100_000)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=600_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Sensor = Annotated[int, msgspec.Meta(ge=16, le=32_768)]
Feature = bool | int | float | str
PixelFormat = Literal[
    "Mono8", "Mono10", "Mono12", "Mono14", "Mono16", "Mono10Packed", "Mono12Packed", "Mono10p", "Mono12p",
    "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "RGB8", "RGB8Packed", "BGR8", "BGR8Packed",
]  # fmt: skip  # those that camera/pixelformats.py turns to gray
_IS_STREAM = re.compile(r"^(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")
_DATAGRAMS = ("udp", "udplite", "rtp", "srtp", "srt", "rist")  # the last two leave out what comes too late


class SyntheticCamera(Strict, frozen=True, kw_only=True, tag_field="kind", tag="synthetic"):
    """Draws textured surfaces with known defects. `rate_hz` 0 is flat out; `preload` draws that many before the start."""

    name: Name
    seed: int = 7
    rows: Sensor = 512
    cols: Sensor = 512
    rate_hz: Rate = 10
    trigger: Literal["free_run", "software"] = "free_run"
    defect_share: Share = 0.2
    empty_share: Share = 0.03
    preload: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


class FolderCamera(Strict, frozen=True, kw_only=True, tag_field="kind", tag="folder"):
    """Replays recorded images, sorted by name. `repeat` starts again at the end; else the line drains."""

    name: Name
    path: str
    rate_hz: Rate = 0
    trigger: Literal["free_run", "software"] = "free_run"
    repeat: bool = False
    preload: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


class AravisCamera(Strict, frozen=True, kw_only=True, tag_field="kind", tag="aravis"):
    """A GigE Vision or USB3 Vision camera, found by exactly one of `address` (IP) and `serial`. Features in SFNC terms; what is
    not given keeps the camera's own value. `features` sets any other by its GenICam name.

    `frame_timeout_ms`: no picture comes any more so long after its trigger. `counter` names the camera's counter (Counter0, ...)
    that is set to count the trigger line's pulses; without one a hardware trigger that the camera ignores stays unknown.
    """

    name: Name
    address: str | None = None
    serial: str | None = None
    x: Whole = 0
    y: Whole = 0
    width: Sensor | None = None
    height: Sensor | None = None
    pixel_format: PixelFormat = "Mono8"
    exposure_time_us: Annotated[float, msgspec.Meta(gt=0)] | None = None
    gain: float | None = None
    frame_rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None
    trigger: Literal["free_run", "software", "hardware"] = "free_run"
    trigger_selector: str = "FrameStart"
    trigger_source: str = "Line0"
    trigger_activation: Literal["RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow"] = "RisingEdge"
    trigger_delay_us: Annotated[float, msgspec.Meta(ge=0)] | None = None
    counter: str | None = None
    frame_timeout_ms: Milliseconds = 300
    packet_size: Literal["auto"] | Annotated[int, msgspec.Meta(ge=220, le=65_535)] = "auto"
    resend: bool = True
    frame_retention_ms: Milliseconds = 100
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=500, le=60_000)] | None = None
    socket: Literal["auto", "packet", "standard"] = "auto"
    buffers: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    features: dict[str, Feature] = {}

    def __post_init__(self) -> None:
        if (self.address is None) == (not self.serial):
            raise ValueError("an aravis camera is found by exactly one of address and serial")
        if self.address is not None and not _is_ipv4(self.address):
            raise ValueError(f"address {self.address} is no IPv4 address; give the camera's, such as 192.168.10.20")
        if self.trigger == "hardware" and self.counter and self.trigger_activation.startswith("Level"):
            why = f"counter {self.counter} counts edges, and {self.trigger_activation} takes pictures for as long as it lasts"
            raise ValueError(f"{why}; trigger at an edge, or take counter out")


def _is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


class V4l2Camera(Strict, frozen=True, kw_only=True, tag_field="kind", tag="v4l2"):
    """A USB (UVC) or other V4L2 camera, found by exactly one of `serial`, `by_id` (a name in /dev/v4l/by-id) and `path` (a link).

    Without `width`, `height`, `pixel_format`, `rate_hz` the camera keeps its own. `controls` by v4l2-ctl's names, in order.
    A picture older than `stale_ms` is not judged; after `silence_s` without one the camera is opened anew (0: never)."""

    name: Name
    serial: str | None = None
    by_id: Annotated[str, msgspec.Meta(pattern=r"^[^/]+$", description="a name in /dev/v4l/by-id, without that folder")] | None = (
        None
    )
    path: str | None = None
    width: Sensor | None = None
    height: Sensor | None = None
    pixel_format: Literal["GREY", "Y16", "Y10", "Y12", "YUYV", "UYVY", "NV12", "MJPG"] | None = None
    rate_hz: Rate = 0
    controls: dict[str, int] = {}
    buffers: Annotated[int, msgspec.Meta(ge=2, le=32)] = 4
    trigger: Literal["free_run", "software"] = "free_run"
    stale_ms: Milliseconds = 500
    silence_s: Seconds = 5

    def __post_init__(self) -> None:
        given = [key for key in ("serial", "by_id", "path") if getattr(self, key)]
        if len(given) != 1:
            has = " and ".join(given) or "none"
            raise ValueError(f"a v4l2 camera is found by exactly one of serial, by_id and path, not {has}")
        if self.path and re.fullmatch(r"video\d+", Path(os.path.normpath(self.path)).name):
            why = f"path {self.path} changes with the order in which cameras are found"
            raise ValueError(f"{why}; give serial, by_id, or a link in /dev/v4l/by-path")


class VideoCamera(Strict, frozen=True, kw_only=True, tag_field="kind", tag="video"):
    """`url` is a video file, or a stream (rtsp://, http://, ...). `rate_hz` is for files: 0 is as fast as parts are judged.

    For streams: no frame that waited longer than `stale_ms` in the station is judged; after `silence_s` without one the stream
    is opened anew, and opening, reading and closing block no longer than that. One of datagrams is refused."""

    name: Name
    url: Annotated[str, msgspec.Meta(min_length=1)]
    rate_hz: Rate = 0
    trigger: Literal["free_run", "software"] = "free_run"
    stale_ms: Milliseconds = 500
    silence_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 2

    def __post_init__(self) -> None:
        if self.rate_hz and is_stream(self.url):
            raise ValueError(f"rate_hz {self.rate_hz:g} is for files; a stream comes at its own rate: take rate_hz out")
        scheme = self.url.partition("://")[0].lower()
        if scheme in _DATAGRAMS:
            why = f"url {scheme}://... comes as datagrams: what is lost of a picture the decoder makes up, and nothing tells"
            raise ValueError(f"{why}; give one over TCP, as rtsp:// and http:// are")


def is_stream(url: str) -> bool:
    """True for the address of a stream, False for a file."""
    return bool(_IS_STREAM.match(url))


CameraSettings = SyntheticCamera | FolderCamera | AravisCamera | V4l2Camera | VideoCamera
