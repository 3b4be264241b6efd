"""Does a recipe fit the model and the line that it is to judge by: every problem of it at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from edge_agent import strictyaml
from edge_agent.errors import ConfigurationError, Problem
from edge_agent.inference.model import Model, load_model
from edge_agent.recipe import Recipe, load_recipe
from edge_agent.records import NAME_PATTERN

Misfit = tuple[strictyaml.Keys, str, str]  # where it stands in the recipe, what is wrong, what to do
_ENDING = ".yaml"  # of a recipe in a station's folder


def require_time(recipe: Recipe, guard_ms: float, file: str) -> None:
    """Raise ConfigurationError where every part would be late: its time is over when it begins."""
    if recipe.deadline_ms <= guard_ms:
        message = f"is {recipe.deadline_ms:g}, not above the line's deadline_guard_ms {guard_ms:g}: every part would be late."
        _refuse([(("deadline_ms",), message, "raise it, or lower the guard.")], file)


def load_pair(folder: Path, file: Path) -> tuple[Model, Recipe]:
    """A model and the recipe of it that is to judge by it. Raises ConfigurationError where they do not belong together."""
    model, recipe = load_model(folder), load_recipe(file)
    require_named(recipe, model, str(file))
    require_fit(recipe, model, str(file))
    return model, recipe


def require_named(recipe: Recipe, model: Model, file: str) -> None:
    """Raise ConfigurationError where a recipe names another model than the one that somebody gave."""
    if recipe.model.name != model.papers.name:
        message = f"is {recipe.model.name}, and the model given is {model.papers.name}."
        _refuse([(("model", "name"), message, "give the model it names, or mend the name.")], file)


def require_fit(recipe: Recipe, model: Model, file: str) -> None:
    """Raise ConfigurationError where the recipe asks for what the model does not have."""
    if found := [*_misnamed(recipe, Path(file)), *_misfits(recipe, model)]:
        _refuse(found, file)


def _refuse(found: list[Misfit], file: str) -> NoReturn:
    try:
        document = strictyaml.read(Path(file))
    except ConfigurationError:  # gone or changed meanwhile
        raise ConfigurationError([Problem(file, 0, strictyaml.dotted(keys), *told) for keys, *told in found]) from None
    raise ConfigurationError([document.problem(*each) for each in found])


def _misnamed(recipe: Recipe, file: Path) -> Iterator[Misfit]:
    renamed = f"call the file {recipe.name}.yaml."
    if file.suffix != _ENDING:
        yield ("name",), f"is {recipe.name!r}, and the file is called {file.name}: a station reads {_ENDING} alone.", renamed
    elif recipe.name != file.stem:
        remedy = f"give it the file's name, {file.stem!r}." if re.search(NAME_PATTERN, file.stem) else renamed
        yield ("name",), f"is {recipe.name!r}, and the file is called {file.stem}.", remedy


def _misfits(recipe: Recipe, model: Model) -> Iterator[Misfit]:
    papers = model.papers
    if recipe.model.hash not in (None, model.hash):
        message = f"is {recipe.model.hash}, the model {papers.name} has {model.hash}."
        yield (
            ("model", "hash"),
            message,
            "qualify the recipe with this model and give its hash, or restore the one it was made for.",
        )
    for index, region in enumerate(recipe.regions):
        if region.prepare == "tile" and 2 * region.overlap_px > min(papers.input.rows, papers.input.cols):
            size = f"{papers.input.cols}x{papers.input.rows}"
            message = f"is {region.overlap_px} in region {region.name}, more than half a tile of {size}."
            yield ("regions", index, "overlap_px"), message, "lower it."
    named: list[tuple[strictyaml.Keys, str]] = [(("classes", name), name) for name in recipe.classes]
    named += [(("rules", n, "class"), rule.class_name) for n, rule in enumerate(recipe.rules) if rule.class_name is not None]
    for keys, name in named:
        if name not in papers.classes:
            yield keys, f"{name!r} is none of the model's classes.", f"name one of {', '.join(papers.classes)}."
