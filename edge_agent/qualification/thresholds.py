"""A recipe under other thresholds, and its file with nothing else changed.

A recipe of several classes has one threshold each. They move together, by the same shift of log-odds, so that a class that was
stricter than another stays so; what names a member of this family is the mean of its thresholds on that scale. Of one class it is
the threshold itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import yaml

from edge_agent.errors import EdgeAgentError
from edge_agent.recipe import ClassLimits, Recipe

_STEPS = 100
_PRECISION = 4
Thresholds = dict[str, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One member of the family: its name, a probability, the threshold of each class, and the whole recipe with these."""

    threshold: float
    thresholds: Thresholds
    recipe: Recipe


def candidates(recipe: Recipe, classes: Sequence[str]) -> list[Candidate]:
    """The recipe at 0.01, 0.02 .. 0.99, without those that would not lie above a class's hysteresis."""
    limits = {name: recipe.classes.get(name, ClassLimits()) for name in classes}
    logits = {name: _logit(each.threshold) for name, each in limits.items()}
    middle = sum(logits.values()) / len(logits)
    found = []
    for step in range(1, _STEPS):
        threshold = step / _STEPS
        shift = _logit(threshold) - middle
        thresholds = {name: round(_share(logit + shift), _PRECISION) for name, logit in logits.items()}
        if all(max(0.0, limits[name].hysteresis or 0.0) < value < 1 for name, value in thresholds.items()):
            found.append(Candidate(threshold, thresholds, with_thresholds(recipe, thresholds)))
    return found


def with_thresholds(recipe: Recipe, thresholds: Thresholds) -> Recipe:
    """The recipe with these thresholds and nothing else changed."""
    changed = {
        name: msgspec.structs.replace(recipe.classes.get(name, ClassLimits()), threshold=value)
        for name, value in thresholds.items()
    }
    return msgspec.structs.replace(recipe, classes={**recipe.classes, **changed})


def written(text: str, recipe: Recipe, thresholds: Thresholds) -> str:
    """The recipe's file `text` with these thresholds in their places; comments and all else stay as they are."""
    for name, value in thresholds.items():
        text = _with_one(text, name, f"{value:g}")
    try:
        result = msgspec.convert(yaml.safe_load(text), Recipe)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise EdgeAgentError(f"the thresholds cannot be written into recipe {recipe.name}: {error}. Write them yourself.") from None
    if result != with_thresholds(recipe, thresholds):
        raise EdgeAgentError(f"the thresholds cannot be written into recipe {recipe.name}. Write them yourself: {thresholds}.")
    return text


def _with_one(text: str, name: str, value: str) -> str:
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    classes = _entry(document, "classes")
    if classes is None:
        return f"{text.rstrip()}\n\nclasses:\n  {name}: {{threshold: {value}}}\n"
    of_class = _entry(classes, name)
    if of_class is None:
        return _inserted(text, classes, f"{name}: {{threshold: {value}}}")
    threshold = _entry(of_class, "threshold")
    if threshold is None:
        return _inserted(text, of_class, f"threshold: {value}")
    return text[: threshold.start_mark.index] + value + text[threshold.end_mark.index :]


def _entry(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of a key of a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _inserted(text: str, mapping: yaml.Node, entry: str) -> str:
    """The text with an entry before the first of a mapping, in the mapping's own style."""
    if isinstance(mapping, yaml.MappingNode) and mapping.flow_style:
        at = mapping.start_mark.index + 1
        return text[:at] + entry + (", " if mapping.value else "") + text[at:]
    at = mapping.start_mark.index
    return text[:at] + entry + "\n" + " " * mapping.start_mark.column + text[at:]


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
