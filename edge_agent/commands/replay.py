"""Run a folder of images through the very same line, flat out, and leave results, overlays and a summary."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from rich.progress import Progress

from edge_agent.bundle import Inspection
from edge_agent.camera.folder import list_images
from edge_agent.camera_settings import FolderCamera
from edge_agent.commands import output
from edge_agent.commands.drawing import captioned, overlay, told
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError, EdgeAgentError, UsageError
from edge_agent.fit import load_pair
from edge_agent.inference import ENGINES
from edge_agent.line import Observe
from edge_agent.pictures import unused_bits
from edge_agent.process import lent_signals
from edge_agent.recipe import load_recipe
from edge_agent.records import Judgement, Pixels, in_utf8
from edge_agent.settings import (
    CpuEngine,
    EngineSettings,
    LineSettings,
    PlcSettings,
    Station,
    StationSettings,
    UplinkSettings,
)
from edge_agent.typewords import counted
from edge_agent.wire import Verdict

_PATIENCE_MS = 60_000  # recorded images have no takt; the recipe's deadline is for the line
_FRAMES = 4
_OVERLAYS, _MAPS, _RESULTS = "overlays", "maps", "results.jsonl"
_CLEARED = (_OVERLAYS, _MAPS)
_MODELS = (Path(__file__).parents[2] / "models", Path("/usr/share/edge-agent/models"))  # of a checkout, and of the package
LOG_LEVEL = "warning"  # where nobody asks for another: the line's own words would run through the progress bar
THROUGHPUT = CpuEngine(hint="throughput")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="a shipped model's name, or a folder with model.yaml")
    parser.add_argument("--recipe", required=True, type=Path, metavar="FILE")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--maps", action="store_true", help="leave the probability of any defect as maps/<image>.png too")
    parser.add_argument("--no-overlays", action="store_true", help="results only")


def run(args: argparse.Namespace) -> int:
    files = list_images(args.images)
    where = args.out.resolve()
    if args.images.resolve() in (where, *(where / name for name in _CLEARED)):
        raise UsageError(
            f"--out {args.out} is the folder of the images, or holds it as {' or '.join(_CLEARED)}, which replay clears. "
            "Name another."
        )
    folder = find_model(args.model)
    load_pair(folder, args.recipe)
    output.require_writable(args.out, "--out")
    console = output.told()
    if dark := unused_bits(files):
        output.warn(console, dark)
    with Progress(console=console) as progress, contextlib.ExitStack() as opened:
        task = progress.add_task("replay", total=len(files))
        writer = ResultWriter(files, args.out / _RESULTS, lambda: progress.advance(task))
        pictures = PictureWriter(args.out, files, args.maps, not args.no_overlays)

        def begin() -> None:
            make_room(args.out)
            pictures.make_room()
            opened.enter_context(writer)

        summary = run_folder(folder, args.recipe, args.images, pictures.observe, writer.write, begin=begin)
    pictures.require_written()
    with output.writing(args.out / "summary.json"):
        (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(
        f"{counted(summary['outcomes'], 'image')}: {summary['pass']} PASS, {summary['ng']} NG, {summary['fault']} FAULT"
        f"{_reasons(summary)} in {summary['seconds']:.1f} s -> {args.out}"
    )
    if summary["outcomes"] < len(files):
        raise EdgeAgentError(
            f"only {summary['outcomes']} of {len(files)} images were judged: replay was told to stop (SIGTERM, Ctrl-C), or its "
            "line ended by itself, which the log tells. Run it again."
        )
    return 0


def _reasons(summary: dict[str, Any]) -> str:
    """Why there were FAULTs, behind their number."""
    told = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    return f" ({told})" if told else ""


def find_model(name: str) -> Path:
    """The folder of a model: as it is named, or of the shipped ones. Raises ConfigurationError."""
    if Path(name).is_file():
        return Path(name)  # which load_model refuses, with the remedy
    folders = (Path(name), Path("models") / name, *(shipped / name for shipped in _MODELS))
    for folder in folders:
        if (folder / "model.yaml").is_file() or any(folder.glob("*.onnx")):
            return folder
    looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    shipped = ", ".join(sorted({file.parent.name for folder in _MODELS for file in folder.glob("*/model.yaml")})) or "none"
    raise ConfigurationError(
        f"--model {name}: neither model.yaml nor a network in {looked}. Give a folder with one, or the name of a model shipped: "
        f"{shipped}."
    )


def run_folder(
    model: Path,
    recipe: Path,
    images: Path,
    observe: Observe,
    on_verdict: Callable[[Verdict], None],
    engine: EngineSettings = THROUGHPUT,
    engines: Path | None = None,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run every image of the folder, sorted by name, through the whole line; return the station's summary.

    `observe` sees each judged part on the inspect thread, while its frame and maps are there; `on_verdict` is called on the
    publisher's thread. Part n is the n-th image. `engines` is the folder of built engines to take them from and keep them in.
    `begin` is called once model and recipe have proved right, before the first image.
    """
    with tempfile.TemporaryDirectory(prefix="edge-agent-replay-") as state:
        if engines is not None:
            (Path(state) / ENGINES).symlink_to(engines.resolve())
        station = replay_station(recipe, images, Path(state), engine)
        daemon = Daemon(station, observe=observe, model=model.resolve(), deadline_ms=_PATIENCE_MS)
        daemon.publisher.on_verdict = on_verdict
        with lent_signals(daemon.stop):
            begin()
            return daemon.run()


def make_room(out: Path) -> None:
    """Make the folder; what an earlier replay left there must not be taken for this one's."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = [file for name in _CLEARED for file in (out / name).glob("*.png")]
    old = [out / _RESULTS, out / "summary.json", *pictures]
    for file in old:
        file.unlink(missing_ok=True)


def replay_station(recipe: Path, images: Path, state: Path, engine: EngineSettings = THROUGHPUT) -> Station:
    """A station of one line that shows every image once, its sockets local to `state`."""
    load_recipe(recipe)
    settings = StationSettings(
        station="replay",
        state=str(state),
        recipes=str(recipe.absolute().parent),
        cameras=(FolderCamera(name="folder", path=str(images.resolve())),),
        lines=(LineSettings(name="replay", camera="folder", recipe=recipe.stem, frames=_FRAMES),),
        engine=engine,
        plc=PlcSettings(verdicts=f"ipc://{state}/verdicts", control=f"ipc://{state}/control", expect_subscriber=False),
        uplink=UplinkSettings(),
        metrics=None,
    )
    return Station(settings=settings, file="replay", base=state)


def result_of(verdict: Verdict, image: str) -> dict[str, Any]:
    """The object that results.jsonl holds for one image."""
    names = ("outcome", "reasons", "blobs", "findings", "latency_ms", "recipe_hash", "model_hash", "engine_id")
    return {"image": image, **{name: getattr(verdict, name) for name in names}}


class ResultWriter:
    """Writes one line per outcome, in the order of the files, on the publisher's thread. Part n is the n-th file.

    Entered, it opens the results; left, it closes them, and raises EdgeAgentError where they could not be written."""

    def __init__(self, files: list[Path], out: Path, advance: Any) -> None:
        self._files = files
        self._file = out
        self._failure: EdgeAgentError | None = None
        self._advance = advance
        self._written = 0
        self._early: dict[int, Verdict] = {}

    def __enter__(self) -> ResultWriter:
        with output.writing(self._file):
            self._out = open(self._file, "w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._try(self._out.close)
        if self._failure is not None:
            raise self._failure

    def _try(self, write: Callable[[], object]) -> None:
        """The publisher's thread goes on though a disk is full."""
        try:
            with output.writing(self._file):
                write()
        except EdgeAgentError as error:
            self._failure = self._failure or error

    def write(self, verdict: Verdict) -> None:
        self._early[verdict.seq] = verdict
        while (due := self._early.pop(self._written + 1, None)) is not None:
            result = result_of(due, in_utf8(self._files[self._written].name))
            self._try(partial(self._out.write, msgspec.json.encode(result).decode() + "\n"))
            self._written += 1
        self._advance()


class PictureWriter:
    """Writes overlays and maps, on the inspect thread, while frame and map are still there."""

    def __init__(self, out: Path, files: list[Path], maps: bool, overlays: bool) -> None:
        self._names = picture_names(files)
        self._overlays = out / _OVERLAYS if overlays else None
        self._maps = out / _MAPS if maps else None
        self._failed: list[str] = []

    def make_room(self) -> None:
        for folder in (self._overlays, self._maps):
            if folder is not None:
                folder.mkdir(exist_ok=True)

    def observe(self, inspection: Inspection, judgement: Judgement) -> None:
        name = self._names[inspection.part.seq - 1]
        recipe = inspection.bundle.recipe
        if self._overlays is not None:
            picture = overlay(inspection.frame.pixels, judgement.blobs, recipe)
            broken = [told(finding) for finding in judgement.findings if not finding.ok]
            lines = broken or list(judgement.reasons)
            self._write(self._overlays / name, captioned(picture, inspection.part.part_id, judgement.outcome, lines))
        if self._maps is not None:
            self._write(self._maps / name, frame_map(inspection))

    def _write(self, file: Path, picture: Pixels) -> None:
        """As a PNG; not imwrite: it crashes on a file name that is no UTF-8, and says nothing of a disk that is full."""
        try:
            file.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        except OSError as error:
            self._failed.append(f"{file} cannot be written: {error.strerror}")

    def require_written(self) -> None:
        """Raise EdgeAgentError where a picture could not be written; the others are there."""
        if self._failed:
            more = f" (and {len(self._failed) - 1} more)" if len(self._failed) > 1 else ""
            raise EdgeAgentError(f"{self._failed[0]}{more}. Make room or mend the name, and run it again, or with --no-overlays.")


def frame_map(inspection: Inspection) -> Pixels:
    """The probability of any defect, 0..255, in frame geometry; 0 where nothing was inspected."""
    whole = np.zeros(inspection.frame.pixels.shape, np.uint8)
    for plan, worst in inspection.maps():
        fitted = cv2.resize(worst, (plan.box.width, plan.box.height), interpolation=cv2.INTER_LINEAR)
        target = plan.box.cut(whole)
        np.maximum(target, fitted, out=target)
    return whole


def picture_names(files: list[Path]) -> list[str]:
    """Return a PNG name for each image, of its own: its stem, or its whole name where two share the stem or one is called so."""
    stems, names = Counter(file.stem for file in files), {file.name for file in files}
    return [f"{file.stem if stems[file.stem] == 1 and file.stem not in names else file.name}.png" for file in files]
