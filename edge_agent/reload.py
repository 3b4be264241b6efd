"""Reading recipes and models anew while parts run: all the new bundles are built and proved aside before one line changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.errors import ConfigurationError
from edge_agent.events import say
from edge_agent.line import Line
from edge_agent.recipe import Recipe
from edge_agent.settings import LineSettings, Station, StationSettings, load_station

Recipes = dict[tuple[str, str], str]  # by line and view


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read anew: each line's name with its new bundle, of the lines whose recipe or model is another now, and the paths of
    the settings that differ and count at the next start."""

    changed: list[tuple[str, Line, Bundle]]
    restart: list[str]
    named: Recipes  # those that the settings name anew


class Forge(Protocol):
    """Builds a bundle that its golden pictures have proved. Raises ConfigurationError, EngineError."""

    def __call__(
        self, recipe: str, generation: int, guard_ms: float, *, may_wait: bool = False, kept: Recipe | None = None
    ) -> Bundle: ...


class Reloader:
    """Knows what the settings named last, so that a recipe chosen over the control socket stays until they name another."""

    def __init__(self, station: Station, lines: Mapping[str, Sequence[Line]], forge: Forge) -> None:
        self._station = station
        self._lines = lines
        self._forge = forge
        self._named = recipes_of(station.settings)

    def fresh(self) -> Reading:
        """Read everything and build what is new.

        Raises ConfigurationError, EngineError where something cannot be used: then nothing is to change. Settings other than
        recipes count at the next start; where they differ that is said."""
        fresh = load_station(Path(self._station.file), list(self._station.overrides))
        restart = for_the_next_start(self._station.settings, fresh.settings)
        if restart:
            say("station.restart_needed", file=self._station.file, settings=", ".join(restart))
        named = recipes_of(fresh.settings)
        try:
            bundles = [each for line in self._station.settings.lines for each in self._of_line(line, named)]
        except ConfigurationError as error:
            raise _with_what_waits(error, restart) from error
        anew = {key: recipe for key, recipe in named.items() if key in self._named and recipe != self._named[key]}
        self._named.update(named)
        return Reading(bundles, restart, anew)

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


def _with_what_waits(error: ConfigurationError, restart: list[str]) -> ConfigurationError:
    """The error, which may well be of settings that were mended already, with those that no reload changes."""
    if not restart:
        return error
    waits = f"Settings that differ by now and count at the next start alone: {', '.join(restart)}. If it lies at these, restart."
    return ConfigurationError(f"{error} {waits}")


def recipes_of(settings: StationSettings) -> Recipes:
    return {(line.name, view.name): view.recipe for line in settings.lines for view in line.each_view}


def for_the_next_start(before: StationSettings, after: StationSettings) -> list[str]:
    """The paths of the settings that differ and that no reload changes: all but the lines' recipes."""
    return _differing(_without_recipes(before), _without_recipes(after))


def _differing(before: object, after: object, at: str = "") -> list[str]:
    """The paths of what differs between two trees of dicts and tuples; an entry with other keys as a whole."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        pairs = [(key, before[key], after[key]) for key in before]
    elif isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        pairs = [(str(n), *both) for n, both in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [at]
    return [path for key, old, new in pairs for path in _differing(old, new, f"{at}.{key}".removeprefix("."))]


def _without_recipes(settings: StationSettings) -> object:
    """Everything a reload does not change, as a tree."""
    tree = msgspec.to_builtins(settings)
    for line in tree["lines"]:
        for entry in (line, *line["views"]):
            entry["recipe"] = None
    return tree
