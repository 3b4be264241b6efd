"""Make a model cheaper and prove on this station that its verdicts stay: candidates in FP16 and INT8 from the line's own images,
each compiled, timed and gated against FP32 on golden images. `--activate` makes the fastest that passes the station's engine.

DIR gets fp16.onnx, int8.onnx, int8_level0_fp16.onnx, manifest.json and report.html. Exit code 1 where no candidate is better; where
the trial itself failed too, and then the manifest holds no gate and nothing was activated or withdrawn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from edge_agent.activation import FOLDER, rules_hash
from edge_agent.calibration.candidates import CANDIDATES, make, prepare
from edge_agent.calibration.ranges import measure_ranges, require_onnxruntime
from edge_agent.commands import capture, output
from edge_agent.commands.calibrating.images import Golden, contents, fingerprint, read_golden, require_some, spread, tensors, unseen
from edge_agent.commands.calibrating.manifest import Calibration, Manifest, about, made, read_manifest, this_machine, write_manifest
from edge_agent.commands.calibrating.trial import REPORT, Trial, activate, hold_trial
from edge_agent.commands.evaluation.plots import new_figure
from edge_agent.commands.numbers import MOST_S, number, whole
from edge_agent.commands.replay import find_model
from edge_agent.errors import ConfigurationError, EdgeAgentError, UsageError
from edge_agent.fit import load_pair
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.pictures import unused_bits
from edge_agent.qualification.gate import Limits
from edge_agent.qualification.rates import rate
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.settings import CpuEngine, EngineSettings, RecordedEngine, Station, load_station

LOG_LEVEL = "warning"  # as replay's
_COUNT, _MOST, _RANGES, _PERCENTILE, _SECONDS = 200, 128, "minmax", 99.99, 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    limits = Limits()
    parser.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="a shipped model's name, or a folder with model.yaml")
    parser.add_argument("--recipe", required=True, type=Path, metavar="FILE")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="for the ranges: a folder of images, or a labelled dataset")
    parser.add_argument("--camera", metavar="NAME", help="take the images with a camera of --config, into DIR/images")
    parser.add_argument("--count", type=whole(1), metavar="N", help=f"with --camera: how many (default: {_COUNT})")
    parser.add_argument("--golden", type=Path, metavar="FOLDER", help="for the gate, labelled or not; without it the images above")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the station's settings: its engine, cameras and state")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")
    parser.add_argument("--only", action="append", choices=list(CANDIDATES), help="this candidate; may be repeated")
    parser.add_argument("--ranges", default=_RANGES, choices=["minmax", "percentile"], help="what of an activation gets steps")
    percentile = f"with --ranges percentile (default: {_PERCENTILE})"
    parser.add_argument("--percentile", type=number(50, 100, above=True), metavar="P", help=percentile)
    parser.add_argument("--most", type=whole(1), default=_MOST, metavar="N", help="images for the ranges, evenly spaced")
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("--graphs-only", action="store_true", help="make the candidates and stop: at a desk")
    steps.add_argument("--gate-only", action="store_true", help="try the candidates that DIR holds: at the station")
    parser.add_argument("--activate", action="store_true", help="the fastest that passes becomes the station's engine")
    parser.add_argument(
        "--allow-flips", type=number(0, 1), default=limits.flips, metavar="SHARE", help="of verdicts that may change"
    )
    parser.add_argument("--least-speedup", type=number(), default=limits.speedup, metavar="X", help="times FP32's speed")
    parser.add_argument(
        "--seconds", type=number(0, MOST_S, above=True), default=_SECONDS, metavar="S", help="of timing for each engine"
    )
    parser.add_argument("--json", action="store_true", help="the manifest on standard output")


def run(args: argparse.Namespace) -> int:
    _require_effect(args)
    args.count = _COUNT if args.count is None else args.count
    args.percentile = _PERCENTILE if args.percentile is None else args.percentile
    _check(args)
    model, recipe = load_pair(find_model(args.model), args.recipe)
    station = load_station(args.config, args.overrides) if args.config else None
    output.require_writable(args.out, "--out")
    if args.activate:
        _require_home(station, model, recipe)
    engine = station.settings.engine if station is not None else CpuEngine()
    if not args.graphs_only:
        _require_computing(engine)
        rate(0, 1), new_figure(1, 1)  # what the report needs is asked for before the work
    console = output.told()
    images = _images(args)
    golden = read_golden(args.golden) if args.golden else images
    if dark := unused_bits([each.file for each in images or golden]):
        output.warn(console, dark)
    if args.gate_only:
        manifest = msgspec.structs.replace(read_manifest(args.out, model), gate=None)
        (args.out / REPORT).unlink(missing_ok=True)
    else:
        manifest = _make(args, model, recipe, images, console)
    write_manifest(args.out, manifest)
    if args.graphs_only:
        if args.json:
            print(json.dumps(msgspec.to_builtins(manifest)))
        console.print(
            f"{', '.join(manifest.candidates)} -> {args.out}. On the station: the same command, --gate-only instead of "
            "--graphs-only. Pictures taken with --camera: --golden DIR/images instead of --camera."
        )
        return 0
    trial = Trial(args.out, model, recipe, station, golden, _limits(args), args.seconds, engine)
    manifest, chosen = hold_trial(trial, manifest, args.only or list(CANDIDATES), console)
    write_manifest(args.out, manifest)
    if args.json:
        print(json.dumps(msgspec.to_builtins(manifest)))
    if args.activate and station is not None:
        console.print(activate(trial, manifest, chosen, station), highlight=False)
    return 0 if chosen is not None else 1


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError for what cannot be meant."""
    if bool(args.images) == bool(args.camera) and not (args.gate_only and args.golden):
        golden = ", or with --gate-only just --golden FOLDER" if args.gate_only else ""
        raise UsageError(f"give either --images FOLDER, or --camera NAME with --config FILE{golden}.")
    if (args.camera or args.activate) and not args.config:
        raise UsageError("--camera and --activate need the station's settings: --config FILE.")
    if args.activate and args.graphs_only:
        raise UsageError("--activate needs the gate, which --graphs-only leaves out.")
    if args.images and args.out.resolve() in (args.images.resolve(), *args.images.resolve().parents):
        raise UsageError(f"--out {args.out} holds the images. Name another folder.")


def _require_effect(args: argparse.Namespace) -> None:
    """Raises UsageError for a word that would change nothing: who gave it meant something."""
    at_desk, made_already, limits = args.graphs_only, args.gate_only, Limits()
    no_gate, no_making = "without --graphs-only, which makes no gate", "without --gate-only, which makes no candidates"
    takes_images, no_golden = not (made_already and args.golden), "where --gate-only has no --golden of its own"
    for word, is_given, has_effect, where in (
        ("--images", args.images, takes_images, no_golden),
        ("--camera", args.camera, takes_images, no_golden),
        ("--count", args.count is not None, args.camera, "with --camera NAME"),
        ("--set", args.overrides, args.config, "with --config FILE"),
        ("--only", args.only, not at_desk, no_gate),
        ("--golden", args.golden, not at_desk, no_gate),
        ("--allow-flips", args.allow_flips != limits.flips, not at_desk, no_gate),
        ("--least-speedup", args.least_speedup != limits.speedup, not at_desk, no_gate),
        ("--seconds", args.seconds != _SECONDS, not at_desk, no_gate),
        ("--ranges", args.ranges != _RANGES, not made_already, no_making),
        ("--most", args.most != _MOST, not made_already, no_making),
        ("--percentile", args.percentile is not None, args.ranges == "percentile", "with --ranges percentile"),
    ):
        if is_given and not has_effect:
            raise UsageError(f"{word} changes something only {where}. Leave {word} out, or mend the rest.")


def _limits(args: argparse.Namespace) -> Limits:
    return Limits(flips=args.allow_flips, speedup=args.least_speedup)


def _require_home(station: Station | None, model: Model, recipe: Recipe) -> None:
    """Raise ConfigurationError where the station judges by another model or other rules than these: the choice would be foreign."""
    assert station is not None, "checked with the arguments"
    folder = station.path(station.settings.recipes)
    of_station = load_recipe(folder / f"{recipe.name}.yaml")
    if rules_hash(of_station) != rules_hash(recipe):
        raise ConfigurationError(f"--recipe is not what {folder / recipe.name}.yaml says. Give the station's own file.")
    there = load_model(station.path(station.settings.models) / recipe.model.name)
    if there.hash != model.hash:
        raise ConfigurationError(f"--model is not the model in {there.onnx.parent}. Give that folder.")
    output.require_writable(station.path(station.settings.state) / FOLDER, "--activate: the station's choice in")


def _require_computing(engine: EngineSettings) -> None:
    """Raise UsageError for an engine that shows recorded maps: they are the same for every candidate, and no gate would see one."""
    if isinstance(engine, RecordedEngine):
        raise UsageError("engine.kind is recorded, which computes nothing. Add --set 'engine={kind: cpu}', or leave --config out.")


def _images(args: argparse.Namespace) -> list[Golden]:
    if args.camera:
        folder = args.out / "images"
        wanted = {"config": args.config, "overrides": args.overrides, "camera": args.camera, "count": args.count, "out": folder}
        with contextlib.redirect_stdout(sys.stderr):  # standard output is the manifest's
            exit_code = capture.run(argparse.Namespace(**wanted, timeout=60 + args.count * 2, slots=16))
        if exit_code:
            raise EdgeAgentError(f"the camera {args.camera} did not deliver. See above.")
        return read_golden(folder)
    return read_golden(args.images) if args.images else []


def _make(args: argparse.Namespace, model: Model, recipe: Recipe, images: list[Golden], console: Console) -> Manifest:
    """Write the candidates; return the manifest without a gate."""
    require_onnxruntime()
    prepared = prepare(finish(read_network(model), model.papers), CALIBRATED_PORTS)
    taken = spread(images, args.most)
    looked = list(tensors(taken, recipe, *_size(model)))
    used = [seen.image for seen in looked if seen.frames]
    require_some(looked, "images")
    if left_out := unseen(looked):
        console.print(f"{len(looked) - len(used)} of {len(looked)} images are left out of the ranges: {left_out}")
    frames = [frame for seen in looked for frame in seen.frames]
    output.make_folder(args.out)
    for old in (*(f"{name}.onnx" for name in CANDIDATES), "manifest.json", REPORT):
        (args.out / old).unlink(missing_ok=True)
    with Progress(console=console) as progress:
        task = progress.add_task("ranges", total=len(frames))
        ranges = measure_ranges(prepared, frames, args.ranges, args.percentile, lambda: progress.advance(task))
        candidates = {}
        task = progress.add_task("candidates", total=len(CANDIDATES))
        for name, meaning in CANDIDATES.items():
            file = args.out / f"{name}.onnx"
            file.write_bytes(content := make(name, prepared, ranges).SerializeToString(deterministic=True))
            candidates[name] = made(file, content, meaning)
            progress.advance(task)
    calibration: Calibration = {
        "images": len(images),
        "used": len(used),
        "tensors": len(frames),
        "sha256": fingerprint(used),
        "contents": sorted(contents(used)),
        "ranges": args.ranges,
        "percentile": args.percentile if args.ranges == "percentile" else None,
    }
    return Manifest(
        **about(model, recipe),
        calibration=calibration,
        ranges={name: round(value, 6) for name, value in sorted(ranges.items())},
        candidates=candidates,
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        made_on=this_machine(),
    )


def _size(model: Model) -> tuple[int, int]:
    return model.papers.input.rows, model.papers.input.cols
