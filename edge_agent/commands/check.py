"""The doctor: examine settings, recipes and models, and the machine they are for. Starts nothing; every find has its remedy.

With --config the files and all around them are looked at, with --recipe and --model these alone, without any the machine alone.
Exit code by the worst: 78 for a configuration that will never work as it is, 1 for what keeps the station from its work now (a
camera that does not answer, a port that is taken), 0 for notes and for nothing. Models are tried on a few pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_agent import strictyaml
from edge_agent.camera import open_camera
from edge_agent.commands.doctor import engine as engine_looks
from edge_agent.commands.doctor import looks
from edge_agent.commands.doctor import machine as machine_looks
from edge_agent.commands.doctor import station as station_looks
from edge_agent.commands.doctor.cameras import check_cameras, this_machine
from edge_agent.commands.doctor.files import check_golden, check_pictures, check_reasons, check_service, recipes_of
from edge_agent.commands.doctor.keys import check_keys
from edge_agent.commands.doctor.looks import Look
from edge_agent.commands.doctor.service import Service, service_of
from edge_agent.commands.doctor.sight import require_sight
from edge_agent.errors import EXIT_CONFIGURATION, EXIT_FAILURE, EXIT_OK, ConfigurationError, Problem, UsageError
from edge_agent.fit import require_fit, require_named, require_time
from edge_agent.inference.cpu import examine
from edge_agent.inference.model import Model, load_model
from edge_agent.plc.counters import Standing
from edge_agent.process import choose_core
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.settings import LineSettings, RecordedEngine, Station, ViewSettings, load_station

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="the station's settings, with all they name")
    parser.add_argument("--recipe", type=Path, action="append", default=[], metavar="FILE", help="a recipe alone")
    parser.add_argument("--model", type=Path, action="append", default=[], metavar="DIR", help="a model alone")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help="replace one setting")
    parser.add_argument("--files", action="store_true", help="only what stands in the files; nothing of this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object with the problems, the warnings and the machine")


def run(args: argparse.Namespace) -> int:
    names_files = bool(args.config or args.recipe or args.model)
    if args.files and not names_files:
        raise UsageError("no file to check: give --config, --recipe or --model")
    examination = Examination(service_of(str(args.config)) if args.config else None)
    station = None
    recipes = [(file, examination.attempt(partial(load_recipe, file))) for file in args.recipe]
    models = [examination.attempt(partial(examination.model, folder)) for folder in args.model]
    examination.pairs(recipes, models)
    examination.golden(recipes)
    if args.config:
        station = examination.attempt(lambda: load_station(args.config, args.overrides))
        if station is not None:
            document = strictyaml.read(args.config)
            examination.station(station, document)
            examination.files(station, document)
    if not args.files and (args.config or not names_files):
        examination.surroundings(station)
    return examination.report(args.json)


class Examination:
    """Collects problems; each look goes on after the last one's failure."""

    def __init__(self, service: Service | None) -> None:
        self.service = service  # where these settings are the ones that the installed service runs
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.seen: list[str] = []
        self.looks: list[Look] = []  # at the machine

    def attempt(self, look: Callable[[], T]) -> T | None:
        """Return what `look` returns, or None with its problems noted."""
        try:
            return look()
        except ConfigurationError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]
            return None

    def pairs(self, recipes: list[tuple[Path, Recipe | None]], models: list[Model | None]) -> None:
        """Hold every recipe against the model it names, where that is among those given."""
        for file, recipe in recipes:
            for model in models:
                if recipe is None or model is None:
                    continue
                if recipe.model.name == model.papers.name:
                    self.attempt(partial(self._fit, recipe, model, file))
                elif len(models) == 1:
                    self.attempt(partial(require_named, recipe, model, str(file)))

    def golden(self, recipes: list[tuple[Path, Recipe | None]]) -> None:
        """Look at the golden pictures of every recipe that could be read."""
        for file, recipe in recipes:
            self._note(check_golden(recipe, file) if recipe is not None else [], [])

    def station(self, station: Station, document: strictyaml.Document) -> None:
        """Look at every camera, recipe and model the settings name."""
        settings = station.settings
        for i in range(len(settings.cameras)):
            self.attempt(partial(self._camera, station, document, i))
        views = [(line, view) for line in settings.lines for view in line.each_view]
        for (keys, named), (line, view) in zip(recipes_of(station), views, strict=True):
            file = station.path(settings.recipes) / named.name
            self._recipe(station, line, view, file, partial(self._named_recipe, document, keys))

    def _recipe(
        self, station: Station, line: LineSettings, view: ViewSettings, file: Path, load: Callable[[Path], Recipe]
    ) -> Recipe | None:
        """Look at a recipe that is to judge this view of the line, and its model; None where it cannot be read."""
        recipe = self.attempt(partial(load, file))
        if recipe is None:
            return None
        settings = station.settings
        folder = station.path(settings.models) / recipe.model.name
        model = self.attempt(partial(load_model if isinstance(settings.engine, RecordedEngine) else self.model, folder))
        if model is not None:
            look = partial(require_sight, station.camera(view.camera), station.base, recipe, model, file)
            self.attempt(partial(self._fit, recipe, model, file, look))
        self.attempt(partial(require_time, recipe, line.deadline_guard_ms, str(file)))
        return recipe

    def asked(self, station: Station, asked: list[tuple[LineSettings, Standing]]) -> None:
        """Look at what was asked for over the control socket: it stands beyond a start, which has to be able to use it."""
        for line, stands in asked:
            found = Examination(None)
            if stands.recipe != (line.recipe or ""):
                file = station.path(station.settings.recipes) / f"{stands.recipe}.yaml"
                recipe = found._recipe(station, line, line.each_view[0], file, load_recipe)
                found.problems += check_golden(recipe, file) if recipe is not None else []
            self.looks += station_looks.of_asked(station, line, stands, found.problems)
            self.seen += found.seen
            self._note([], found.warnings)

    def files(self, station: Station, document: strictyaml.Document) -> None:
        """Look at what cameras need of this machine, at pictures, and at what the installed service may read of all that."""
        self._note(*check_cameras(station, document, this_machine()))
        self._note(*check_keys(station, document))
        self._note([*check_pictures(station, document), *check_reasons(station, document)], [])
        if self.service is not None:
            self._note(*check_service(station, document, self.service))

    def _note(self, problems: list[Problem], warnings: list[Problem]) -> None:
        self.problems += [problem for problem in problems if problem not in self.problems]
        self.warnings += [warning for warning in warnings if warning not in self.warnings]

    def surroundings(self, station: Station | None) -> None:
        """Look at the machine and, where there is one, at what the station needs of it."""
        self.looks += machine_looks.of_python()
        self.looks += machine_looks.of_libraries(station)
        self.looks += machine_looks.of_gpu(station)
        self.looks += machine_looks.of_kernel(station, this_machine())
        self.looks += machine_looks.of_clock()
        if station is None:
            return
        self.attempt(partial(choose_core, station.settings))
        asked = station_looks.asked_of(station)
        self.looks += engine_looks.of_engines(station, [stands.recipe for line, stands in asked if line.recipe])
        self.looks += machine_looks.of_state(station)
        is_running, lines = station_looks.of_running(station, self.service)
        self.looks += lines
        self.asked(station, asked)
        self.looks += station_looks.of_ports(station, is_running, self.service)
        self.looks += station_looks.of_cameras(station)
        self.looks += station_looks.of_collector(station)

    def model(self, folder: Path) -> Model:
        """Return a model that runs; what is doubtful in it becomes a warning. Raises ConfigurationError."""
        model = load_model(folder)
        remedy = "try it on your pictures: edge-agent replay."
        doubts = [model.problem(doubt, remedy) for doubt in examine(model)]
        self.warnings += [doubt for doubt in doubts if doubt not in self.warnings]
        return model

    def _camera(self, station: Station, document: strictyaml.Document, index: int) -> None:
        try:
            open_camera(station.settings.cameras[index], station.base)
        except ConfigurationError as error:
            told = [document.problem(("cameras", index), each.message, each.remedy) for each in error.problems]
            raise ConfigurationError(told) from None

    def _named_recipe(self, document: strictyaml.Document, keys: strictyaml.Keys, file: Path) -> Recipe:
        """Return a recipe; of one that is not there the settings' line is told, which names it."""
        try:
            return load_recipe(file)
        except ConfigurationError as error:
            if os.path.lexists(file):
                raise
            told = [document.problem(keys, f"names {file}: {each.message}", each.remedy) for each in error.problems]
            raise ConfigurationError(told) from None

    def _fit(self, recipe: Recipe, model: Model, file: Path, look: Callable[[], None] = lambda: None) -> None:
        require_fit(recipe, model, str(file))
        look()
        self.seen.append(f"{recipe.name}: recipe {recipe.hash[:12]}, model {model.hash[:12]}")

    def report(self, as_json: bool) -> int:
        """Print everything; return the exit code of the worst."""
        is_hindered = any(look.level == looks.PROBLEM for look in self.looks)
        if as_json:
            problems, warnings = ([_plain(p) for p in these] for these in (self.problems, self.warnings))
            is_ok = not (problems or is_hindered)
            told = {"ok": is_ok, "problems": problems, "warnings": warnings, "machine": self.looks}
            print(msgspec.json.encode(told).decode())
        else:
            every = [*self.looks, *self._of_files()]
            looks.show(every)
            levels = [look.level for look in every]
            print(looks.summary(levels.count(looks.PROBLEM), levels.count(looks.NOTE)))
        return EXIT_CONFIGURATION if self.problems else EXIT_FAILURE if is_hindered else EXIT_OK

    def _of_files(self) -> list[Look]:
        return [
            *(looks.well("files", each) for each in self.seen),
            *(looks.note("files", str(dataclasses.replace(each, remedy="")), each.remedy) for each in self.warnings),
            *(looks.problem("files", str(dataclasses.replace(each, remedy="")), each.remedy) for each in self.problems),
        ]


def _plain(problem: Problem) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("file", "line", "key", "message", "remedy")}
