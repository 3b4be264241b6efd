"""Findings to the outcome of one view, with the margin to every limit."""

from __future__ import annotations

from edge_agent.judgement.rules import find
from edge_agent.measured import Measured
from edge_agent.recipe import PeakScore, Recipe
from edge_agent.records import NG, PASS, Finding, Judgement


class Judge:
    """Applies one recipe's rules. What a clean part gets is worked out once, since most parts are clean."""

    def __init__(self, recipe: Recipe) -> None:
        self._rules = recipe.rules
        self._mm_per_px = recipe.mm_per_px
        self._clean: dict[float, list[list[Finding]]] = {}  # by the area inspected; one list of findings per rule

    def judge(self, measured: Measured, quality: list[Finding]) -> Judgement:
        """Return PASS or NG; NG names the rules that are broken. Raises EngineError for a value that is no number."""
        by_rule = self._of_clean(measured) if measured.is_clean else self._of(measured)
        findings = (*quality, *(finding for of_rule in by_rule for finding in of_rule))
        broken = tuple([finding.rule for finding in findings if not finding.ok])
        return Judgement(NG if broken else PASS, broken, measured.blobs, findings)

    def _of(self, measured: Measured) -> list[list[Finding]]:
        return [find(rule, measured, self._mm_per_px) for rule in self._rules]

    def _of_clean(self, measured: Measured) -> list[list[Finding]]:
        """Without a blob only the peak scores differ from one part to the next."""
        clean = self._clean.get(measured.inspected_px)
        if clean is None:
            clean = self._clean[measured.inspected_px] = self._of(measured)
            return clean
        return [
            find(rule, measured, self._mm_per_px) if isinstance(rule, PeakScore) else known
            for rule, known in zip(self._rules, clean, strict=True)
        ]
