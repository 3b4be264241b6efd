"""Be a GigE Vision camera, without one: for trying out a station, and for soak tests with faults on demand.

Any 127.x.y.z is an address of this machine, so many cameras find room on it. The truth of every trigger can be compared
with what the station said of it.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from edge_agent.camera.folder import list_images
from edge_agent.commands.cameras import camera_name
from edge_agent.commands.numbers import MOST_S, number
from edge_agent.errors import ConfigurationError, UsageError
from edge_agent.pictures import read_gray
from edge_agent.records import Pixels
from edge_agent.simulator import FRAME_FAULTS, MODEL_NAME, Happening, SimulatedCamera, Truth, parse_faults
from edge_agent.simulator.pictures import Pictures

_LEAST, _MOST = (1, 8), (16_384, 16_384)  # rows and columns
_MOST_RATE_HZ = 10_000
_SERIAL_BYTES = 16  # the register's
_FAULTS_HELP = (
    "what is to go wrong, as in loss=0.01,leader=0.001,drop_every=50,late=0.01:300ms,freeze_every=500:2s,power_every=1000,seed=7. "
    "NAME=RATE or NAME_every=N, each with :DURATION where it lasts; "
    + "; ".join(f"{name}: {meaning}" for name, meaning in FRAME_FAULTS.items())
    + "; freeze_every: the control channel does not answer for a time; power_every: power goes for a time; "
    "loss: of packets; resend_loss: of packets sent again; resend=off: none is; first_id=N: first block id; "
    "held=DURATION: another application is in control for so long"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="127.0.0.2", metavar="IP", help="an address of this machine; any 127.x.y.z is one")
    parser.add_argument("--images", type=Path, metavar="DIR", help="show these in turn, as gray; noise with a number otherwise")
    parser.add_argument("--size", metavar="WxH", help="of the sensor; 640x480, or that of the first image, by default")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--rate", type=number(0.01, _MOST_RATE_HZ), default=25.0, metavar="FPS", help="in free run, until a host sets another"
    )
    rate.add_argument("--trigger-rate", type=number(0, _MOST_RATE_HZ), default=0.0, metavar="HZ", help="pulses on Line0")
    parser.add_argument("--exposure-us", type=number(1, 1e7), default=1000.0, metavar="US", help="until a host sets another")
    parser.add_argument(
        "--link", type=number(0, 1e6), default=0.0, metavar="MBIT/S", help="pace packets as such a wire would; 0 is at once"
    )
    parser.add_argument("--faults", default="", metavar="SPEC", help=_FAULTS_HELP)
    parser.add_argument("--serial", default="", metavar="S", help="by the address, where it is left out: SIM-2 of 127.0.0.2")
    parser.add_argument("--seconds", type=number(0, MOST_S), default=0.0, metavar="S", help="end after so long; 0 is never")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="write what became of every trigger, a JSON object a line")


def run(args: argparse.Namespace) -> int:
    plan = parse_faults(args.faults)
    args.serial = args.serial or _serial_of(args.address)
    _require_names(args)
    pictures, (rows, cols) = _pictures(args)
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(_open_truth(args.truth)) if args.truth else None
        camera = SimulatedCamera(
            args.address,
            serial=args.serial,
            rows=rows,
            cols=cols,
            rate_hz=args.rate,
            exposure_us=args.exposure_us,
            trigger_rate_hz=args.trigger_rate,
            pictures=pictures,
            faults=plan,
            link_mbit_s=args.link,
            on_record=_writer(truth),
        )
        over = threading.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: over.set())
        with camera:
            print(f"camera {args.serial}, {cols}x{rows}, is ready; in the settings: {_settings_line(args, rows, cols)}", flush=True)
            over.wait(args.seconds or threading.TIMEOUT_MAX)
    print("camera stopped: " + ", ".join(f"{count} {name}" for name, count in camera.counters().items()), flush=True)
    return 0


def _settings_line(args: argparse.Namespace, rows: int, cols: int) -> str:
    """As `cameras` shows it, but for the trigger, of which only this side knows."""
    name = camera_name(MODEL_NAME, args.serial, set())
    trigger = "hardware, counter: Counter0" if args.trigger_rate else "free_run"
    return f"{{name: {name}, kind: aravis, address: {args.address}, width: {cols}, height: {rows}, trigger: {trigger}}}"


def _serial_of(address: str) -> str:
    """One for each address of this machine, so that no two that are simulated at a time have the same."""
    _, *rest = address.split(".")
    while len(rest) > 1 and rest[0] == "0":
        del rest[0]
    return f"SIM-{'-'.join(rest)}"[: _SERIAL_BYTES - 1]


def _require_names(args: argparse.Namespace) -> None:
    """Refuse what no camera could be. Raises UsageError."""
    try:
        address = ipaddress.IPv4Address(args.address)
    except ValueError:
        raise UsageError(f"--address {args.address} is no IPv4 address. Give one of this machine's, such as 127.0.0.2.") from None
    if address.is_unspecified or address.is_multicast:
        raise UsageError(f"--address {args.address}: a camera has one address. Give one of this machine's, such as 127.0.0.2.")
    if not args.serial.isascii() or not 1 <= len(args.serial) < _SERIAL_BYTES:
        raise UsageError(f"--serial {args.serial}: 1 to {_SERIAL_BYTES - 1} ASCII characters. Give a shorter, plainer one.")


def _size(text: str) -> tuple[int, int]:
    """Return rows and columns of WxH. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    size = (int(match[2]), int(match[1])) if match else (0, 0)
    if not all(least <= side <= most for least, side, most in zip(_LEAST, size, _MOST, strict=True)):
        raise UsageError(
            f"--size {text} is no width and height from {_LEAST[1]}x{_LEAST[0]} to {_MOST[1]}x{_MOST[0]}. Give them as in 640x480."
        )
    return size


def _pictures(args: argparse.Namespace) -> tuple[Pictures | None, tuple[int, int]]:
    """Return what the camera sees, None for noise, and the sensor's size."""
    size = _size(args.size) if args.size else None
    if not args.images:
        return None, size or (480, 640)
    images = [read_gray(file) for file in list_images(args.images)]
    rows, cols = size or images[0].shape
    return _in_turn([_resized(image, (rows, cols)) for image in images]), (rows, cols)


def _in_turn(images: list[Pixels]) -> Callable[[int, int, int], Pixels]:
    """The first image is sequence number 1."""
    return lambda sequence, _rows, _cols: images[(sequence - 1) % len(images)]


def _resized(image: Pixels, size: tuple[int, ...]) -> Pixels:
    if image.shape == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.uint8)


def _open_truth(file: Path) -> TextIO:
    try:
        return open(file, "w", buffering=1)  # by lines: it can be read, and stays, whatever befalls this process
    except OSError as error:
        raise ConfigurationError(f"--truth {file} cannot be written: {error.strerror}. Name a file that can.") from None


def _writer(file: TextIO | None) -> Callable[[Truth | Happening], None]:
    """Write each record as a line, with its time as in a verdict; without a file only the camera's own counters are kept."""

    def write(record: Truth | Happening) -> None:
        if file is not None:
            at_ns = record.trigger_ns if isinstance(record, Truth) else record.time_ns
            at_us = (at_ns + time.time_ns() - time.monotonic_ns()) // 1000
            file.write(json.dumps({**asdict(record), "trigger_time_us": at_us}) + "\n")

    return write
