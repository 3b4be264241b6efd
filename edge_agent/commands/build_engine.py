"""Build the TensorRT engines of a station ahead of its start: `edge-agent build-engine --config station.yaml`.

Run it on the station itself, after an update of its models, driver or TensorRT: an engine is for one GPU and its driver. What is
already built, whole and for this machine is left as it is. Each new engine is held against the CPU's maps before it is stored. A
calibrated choice's engine is the very one that passed the gate: it is looked for and never built here, `calibrate` does that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.status import Status

from edge_agent.activation import ForeignChoice, read_choice, require_engine
from edge_agent.commands import output
from edge_agent.errors import EXIT_OK, UsageError
from edge_agent.inference import ENGINES, kept_engine
from edge_agent.inference.model import Model, load_model
from edge_agent.inference.tensorrt import open_tensorrt
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.settings import AutoEngine, Station, TensorRtEngine, load_station


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the station's settings")
    parser.add_argument("--model", type=Path, action="append", default=[], metavar="DIR", help="these, not the recipes' models")
    parser.add_argument("--rebuild", action="store_true", help="build anew what is there")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")


def run(args: argparse.Namespace) -> int:
    station = load_station(args.config, args.overrides)
    settings = settings_of(station)
    folder = station.path(station.settings.state) / ENGINES
    console = output.told()
    for model in models_of(station, args.model):
        name = model.papers.name
        with console.status(f"{name}: looking") as status:
            engine = open_tensorrt(
                settings,
                model,
                folder,
                partial(_show, status, name),
                rebuild=args.rebuild,
            )
            try:
                latency_ms = engine.warm_up()
            finally:
                engine.close()
        print(f"{name}: {engine.engine_id}, {latency_ms:.3f} ms, {engine.memory} memory, {engine.graph_nodes} nodes in the graph")
    if not args.model:
        for told in choices_of(station, settings):
            print(told)
    return EXIT_OK


def _show(status: Status, name: str, text: str) -> None:
    if text:
        status.update(f"{name}: {text}")


def settings_of(station: Station) -> TensorRtEngine:
    """The settings to build by. Raises UsageError where the station has no TensorRT engine."""
    match station.settings.engine:
        case TensorRtEngine() as settings:
            return settings
        case AutoEngine():
            return TensorRtEngine()
        case other:
            raise UsageError(
                f"engine.kind is {type(other).__struct_config__.tag}; only `tensorrt` and `auto` have engines to build"
            )


def models_of(station: Station, folders: list[Path]) -> list[Model]:
    """The models named, or those of every recipe, each once. Raises ConfigurationError."""
    if folders:
        return [load_model(folder) for folder in folders]
    return list({model.papers.interface: model for _, model in _pairs(station)}.values())


def _pairs(station: Station) -> Iterator[tuple[Recipe, Model]]:
    settings = station.settings
    for name in sorted({view.recipe for line in settings.lines for view in line.each_view}):
        recipe = load_recipe(station.path(settings.recipes) / f"{name}.yaml")
        yield recipe, load_model(station.path(settings.models) / recipe.model.name)


def choices_of(station: Station, settings: TensorRtEngine) -> Iterator[str]:
    """Of each recipe's calibrated choice, in words: whether the engine that passed the gate is kept. Raises EngineUnavailable."""
    state = station.path(station.settings.state)
    for recipe, model in _pairs(station):
        try:
            choice = read_choice(state, recipe, model)
            if choice is not None:
                require_engine(choice[0], kept_engine(settings, choice[1], state) or "")
                yield f"recipe {recipe.name}: {choice[0].label} judges, {choice[0].engine}"
        except ForeignChoice as error:
            yield f"recipe {recipe.name}: FP32 judges: {str(error).rstrip('.')}. Remedy: {error.remedy}."
