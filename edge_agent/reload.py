"""Reading recipes and models anew while parts run: all the new bundles are built and proved aside before one line changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edge_agent.bundle import Bundle
from edge_agent.errors import ConfigurationError
from edge_agent.events import say
from edge_agent.line import Line
from edge_agent.settings import LineSettings, Station, StationSettings, load_station

Recipes = dict[tuple[str, str], str]  # by line and view


class Forge(Protocol):
    """Builds a bundle that its golden pictures have proved. Raises ConfigurationError, EngineError."""

    def __call__(self, recipe: str, generation: int, guard_ms: float, *, may_wait: bool = False) -> Bundle: ...


class Reloader:
    """Knows what the settings named last, so that a recipe chosen over the control socket stays until they name another."""

    def __init__(self, station: Station, lines: Mapping[str, Sequence[Line]], forge: Forge) -> None:
        self._station = station
        self._lines = lines
        self._forge = forge
        self._named = recipes_of(station.settings)

    def fresh(self) -> list[tuple[str, Line, Bundle]]:
        """Return each line's name with its new bundle, of the lines whose recipe or model is another now.

        Raises ConfigurationError, EngineError where one of them cannot be used: then nothing is to change. Settings other than
        recipes count at the next start; where they differ that is said."""
        fresh = load_station(Path(self._station.file), list(self._station.overrides))
        if without_recipes(fresh.settings) != without_recipes(self._station.settings):
            say("station.restart_needed", file=self._station.file)
        named = recipes_of(fresh.settings)
        bundles = []
        for settings in self._station.settings.lines:
            bundles += self._of_line(settings, named)
        self._named.update(named)
        return bundles

    def _of_line(self, settings: LineSettings, named: Recipes) -> list[tuple[str, Line, Bundle]]:
        bundles = []
        for view, line in zip(settings.each_view, self._lines[settings.name], strict=True):
            key = (settings.name, view.name)
            current = line.bundle.identity
            recipe = current.recipe if named.get(key) in (None, self._named[key]) else named[key]
            bundle = self._forge(recipe, current.generation + 1, settings.deadline_guard_ms)
            found = bundle.identity
            if (found.recipe_hash, found.model_hash) != (current.recipe_hash, current.model_hash):
                bundles.append((settings.name, line, bundle))
        if bundles and settings.views:
            raise ConfigurationError(
                f"line {settings.name} has views, whose recipes cannot change between two parts. Restart the station instead."
            )
        return bundles


def recipes_of(settings: StationSettings) -> Recipes:
    return {(line.name, view.name): view.recipe for line in settings.lines for view in line.each_view}


def without_recipes(settings: StationSettings) -> object:
    """Everything a reload does not change, for comparing."""
    return (
        [(getattr(settings, name)) for name in settings.__struct_fields__ if name != "lines"],
        [
            (
                [getattr(line, name) for name in line.__struct_fields__ if name not in ("recipe", "views")],
                [(view.name, view.camera) for view in line.each_view],
            )
            for line in settings.lines
        ],
    )
