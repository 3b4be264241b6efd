"""The thresholds that a condition asks for: those of all classes by one shift, then of one class at a time, and their recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_agent.commands.evaluation.figures import Figures
from edge_agent.errors import EdgeAgentError
from edge_agent.qualification.classes import rules_of_several
from edge_agent.qualification.pick import Condition, pick
from edge_agent.qualification.rates import Counts
from edge_agent.qualification.refine import refine
from edge_agent.qualification.thresholds import Thresholds, written
from edge_agent.recipe import Recipe


def picked(
    condition: Condition, figures: Figures, source: Path, recipe: Recipe, out: Path
) -> tuple[dict[str, Any], EdgeAgentError | None]:
    """Choose the thresholds and write `source` with them into `out`; return `pick` of evaluation.json, and why that failed."""
    result: dict[str, Any] = {"condition": str(condition)}
    try:
        thresholds, counts, by_class = _chosen(condition, figures, recipe)
        text = written(source.read_text(encoding="utf-8"), recipe, thresholds)
    except EdgeAgentError as error:
        return result | {"error": str(error)}, error
    (out / source.name).write_text(text, encoding="utf-8")
    return result | {"thresholds": thresholds, "file": source.name, "by_class": by_class, **counts.as_dict()}, None


def _chosen(condition: Condition, figures: Figures, recipe: Recipe) -> tuple[Thresholds, Counts, dict[str, Any] | None]:
    """The thresholds, what they give, and, of several classes, how they were found. Raises EdgeAgentError where none will do."""
    if not figures.candidates:
        raise EdgeAgentError("--pick: no threshold from 0.01 to 0.99 lies above the recipe's hysteresis. Lower or remove that.")
    counts = [figures.of_candidate(index) for index in range(len(figures.candidates))]
    common, failure = _common(condition, figures, counts)
    together = None if common is None else {"thresholds": figures.candidates[common].thresholds, **counts[common].as_dict()}
    several, calls = rules_of_several(recipe), figures.calls
    places = refine(condition, calls, common) if calls is not None else None
    if calls is None or places is None:
        if common is None:
            assert failure is not None
            raise failure
        by_class = {"moved": [], "together": together, "rules_of_several": several} if len(figures.classes) > 1 else None
        return figures.candidates[common].thresholds, counts[common], by_class
    moved = [name for name, place in zip(figures.classes, places, strict=True) if place != common]
    thresholds = {name: figures.candidates[place].thresholds[name] for name, place in zip(figures.classes, places, strict=True)}
    return thresholds, calls.counts(places), {"moved": moved, "together": together, "rules_of_several": several}


def _common(condition: Condition, figures: Figures, counts: list[Counts]) -> tuple[int | None, EdgeAgentError | None]:
    """Which candidate fulfils the condition best, or why none does."""
    try:
        return pick(condition, [each.threshold for each in figures.candidates], counts), None
    except EdgeAgentError as error:
        return None, error
