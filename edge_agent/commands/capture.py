"""Save pictures of one camera of the settings, opened and read by the daemon's own code: for a dataset, or a first look.

DIR gets a PNG for each picture and `frames.jsonl`, one JSON object for each. A camera with a software trigger is triggered. A
picture that is lost is told and counted, and the next one waited for. Stop the daemon first, a camera has one master.
Exit code 1 where fewer pictures came than asked for.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import cv2
import msgspec

from edge_agent.camera import open_camera
from edge_agent.camera.base import Arrival, Camera, Due, Exposure, Lost, Picture
from edge_agent.camera_settings import CameraSettings
from edge_agent.commands.numbers import MOST_S, number, whole
from edge_agent.errors import CameraError, EdgeAgentError, EndOfImages, UsageError
from edge_agent.records import Pixels
from edge_agent.ring import Ring
from edge_agent.settings import Station, load_station

_TICK_S, _BACK_OFF_S = 0.1, 0.5
_SOFTWARE = "software"
_INDEX = "frames.jsonl"
_NUMBERED = re.compile(r"\d{6,}\.png")  # what pictures are called here


class Saved(msgspec.Struct, frozen=True):
    """One line of frames.jsonl. `trigger_time_us`: UTC microseconds since 1970, as in a verdict."""

    file: str
    frame_id: int
    trigger_time_us: int
    rows: int
    cols: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the station's settings")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")
    parser.add_argument("--camera", default="", metavar="NAME", help="which; may be left out where there is but one")
    parser.add_argument("--count", type=whole(1), default=10, metavar="N", help="save so many pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder without such pictures; made where missing")
    parser.add_argument(
        "--timeout", type=number(0, MOST_S, above=True), default=60, metavar="S", help="give up after S seconds in all"
    )
    parser.add_argument(
        "--slots", type=whole(2), default=16, metavar="N", help="frame slots: so many pictures may wait to be written"
    )


def run(args: argparse.Namespace) -> int:
    station = load_station(args.config, args.overrides)
    camera = open_camera(_chosen(station, args.camera), station.base)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a camera that is not closed stays taken for seconds
    with _open_index(args.out) as index:
        capture = Capture(camera, args.slots, Writer(args.out, index), args.count)
        try:
            why = capture.run(time.monotonic() + args.timeout)
        finally:
            try:
                capture.close()
            finally:
                if not capture.pictures:  # the next try may have the folder
                    (args.out / _INDEX).unlink()
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(capture.lost.items()))
    print(f"saved {capture.pictures} of {args.count} pictures in {args.out}; lost: {lost or 'none'}")
    if capture.pictures < args.count:
        print(f"edge-agent: {why}", file=sys.stderr)
    return 0 if capture.pictures == args.count else 1


def _chosen(station: Station, name: str) -> CameraSettings:
    """Raises UsageError where it is not clear which camera is meant."""
    cameras = {camera.name: camera for camera in station.settings.cameras}
    if name in cameras:
        return cameras[name]
    if not name and len(cameras) == 1:
        return next(iter(cameras.values()))
    wrong = f"no camera is called {name}" if name else "there are several cameras"
    raise UsageError(f"{wrong}: {station.file} has {', '.join(cameras)}. Name one with --camera.")


def _open_index(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(_NUMBERED.fullmatch(file.name) and file.is_file() for file in folder.iterdir()):
            raise FileExistsError  # of somebody else's: they would be replaced
        return open(folder / _INDEX, "x", encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"--out {folder} holds pictures already, or is a file. Name another folder.") from None
    except OSError as error:
        raise UsageError(f"--out {folder} cannot be written: {error.strerror}. Name another folder.") from None


class Writer:
    """Writes pictures in their order, on a thread of its own; a slot is free again when its Future is done."""

    def __init__(self, folder: Path, index: TextIO) -> None:
        self._folder, self._index = folder, index
        self._thread = ThreadPoolExecutor(1, "write")

    def write(self, number: int, pixels: Pixels, exposure: Exposure, trigger_time_us: int) -> Future[None]:
        return self._thread.submit(self._write, number, pixels, exposure, trigger_time_us)

    def _write(self, number: int, pixels: Pixels, exposure: Exposure, trigger_time_us: int) -> None:
        name = f"{number:06d}.png"
        done, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not done:
            raise EdgeAgentError(f"picture {name} of {exposure.cols}x{exposure.rows} cannot be encoded")
        line = Saved(name, exposure.frame_id, trigger_time_us, exposure.rows, exposure.cols)
        try:
            (self._folder / name).write_bytes(content.tobytes())
            self._index.write(msgspec.json.encode(line).decode() + "\n")
            self._index.flush()
        except OSError as error:
            raise EdgeAgentError(
                f"{self._folder / name} cannot be written: {error.strerror}. Make room, or name another --out."
            ) from None

    def close(self) -> None:
        """Write what waits."""
        self._thread.shutdown()


class Capture:
    """Does for one camera what the daemon's grab thread does, with files in place of parts."""

    def __init__(self, camera: Camera, slots: int, writer: Writer, count: int) -> None:
        self.pictures = 0
        self.lost: Counter[str] = Counter()
        self._camera, self._slots, self._writer, self._count = camera, slots, writer, count
        self._ring: Ring | None = None
        self._lent: set[int] = set()
        self._writing: deque[tuple[int, Future[None]]] = deque()
        self._asked = 0  # software triggers given
        self._is_asked = False
        self._wall_ns = time.time_ns() - time.monotonic_ns()

    def run(self, until_s: float) -> str:
        """Save pictures until there are enough, the time is over or nothing comes any more; return why it ended.

        Raises CameraError where the camera cannot be opened at all; one that fails later is opened again."""
        why = "the time of --timeout is over"
        self._open()
        while self.pictures < self._count and time.monotonic() < until_s:
            try:
                self._take(self._next(min(_TICK_S, max(0.0, until_s - time.monotonic()))))
            except EndOfImages as error:
                return str(error)
            except CameraError as error:
                why = str(error)
                print(f"camera failed: {error}", file=sys.stderr)
                self._open_again(until_s)
        return why

    def _open(self) -> None:
        self._is_asked = False
        self._camera.open()
        size = self._camera.max_pixels
        if self._ring is None or self._ring.slot_bytes < size:
            self._wait_for_writer()
            try:
                self._ring = Ring(self._slots, size)
            except (OSError, OverflowError):
                raise UsageError(f"--slots {self._slots}, of {size} bytes each, find no room in memory. Give fewer.") from None

    def _open_again(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            self._take_back()
            time.sleep(min(_BACK_OFF_S, max(0.0, until_s - time.monotonic())))
            try:
                return self._open()
            except CameraError:
                continue
        return None

    def _take_back(self) -> None:
        self._camera.close()
        for slot in self._lent:
            assert self._ring is not None
            self._ring.give_back(slot)
        self._lent.clear()

    def _next(self, timeout_s: float) -> Arrival | None:
        """Lend what is free, ask for a picture where the camera wants that, and wait."""
        assert self._ring is not None
        while self._writing and (self._writing[0][1].done() or len(self._writing) == self._ring.slots):
            slot, done = self._writing.popleft()
            done.result()  # a full disk ends the command
            self._ring.give_back(slot)
        while (self._camera.is_live or not self._lent) and (slot_ := self._ring.lease()) is not None:
            self._lent.add(slot_)
            self._camera.lend(slot_, self._ring.view(slot_))
        if self._camera.trigger_mode == _SOFTWARE and not self._is_asked:
            self._camera.trigger(f"capture-{self._asked + 1}")
            self._asked, self._is_asked = self._asked + 1, True
        return self._camera.wait(timeout_s)

    def _take(self, arrival: Arrival | None) -> None:
        if isinstance(arrival, Picture):
            self._is_asked = False
            self._save(arrival)
        elif isinstance(arrival, Lost):
            self._is_asked = False
            self.lost[arrival.reason.value] += arrival.count
            print(f"lost {arrival.count}: {arrival.reason.value}{arrival.why and f', {arrival.why}'}", file=sys.stderr)
        else:
            assert arrival is None or isinstance(arrival, Due)

    def _save(self, picture: Picture) -> None:
        assert self._ring is not None
        self._lent.discard(picture.slot)
        exposure = picture.exposure
        pixels = self._ring.view(picture.slot)[: exposure.rows * exposure.cols].reshape(exposure.rows, exposure.cols)
        at_us = ((picture.trigger_ns or time.monotonic_ns()) + self._wall_ns) // 1000
        self._writing.append((picture.slot, self._writer.write(self.pictures, pixels, exposure, at_us)))
        self.pictures += 1

    def _wait_for_writer(self) -> None:
        while self._writing:
            slot, done = self._writing.popleft()
            done.result()
            if self._ring is not None:
                self._ring.give_back(slot)

    def close(self) -> None:
        """Let the camera go first, then write what waits. Raises what the writing raised."""
        self._take_back()
        self._writer.close()
        self._wait_for_writer()
