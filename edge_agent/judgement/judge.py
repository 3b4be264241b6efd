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
        self._clean: dict[float, tuple[list[Finding], list[tuple[int, PeakScore]]]] = {}  # by the area inspected

    def judge(self, measured: Measured, quality: list[Finding]) -> Judgement:
        """Return PASS or NG; NG names the rules that are broken. Raises EngineError for a value that is no number."""
        findings = (*quality, *(self._of_clean(measured) if measured.is_clean else self._of(measured)))
        broken = tuple([finding.rule for finding in findings if not finding.ok])
        return Judgement(NG if broken else PASS, broken, measured.blobs, findings)

    def _of(self, measured: Measured) -> list[Finding]:
        return [finding for rule in self._rules for finding in find(rule, measured, self._mm_per_px)]

    def _of_clean(self, measured: Measured) -> list[Finding]:
        """Without a blob only the peak scores differ from one part to the next."""
        known = self._clean.get(measured.inspected_px)
        if known is None:
            known = self._clean[measured.inspected_px] = self._of(measured), self._places_of_peaks(measured)
        findings = known[0].copy()
        for place, rule in known[1]:
            findings[place] = find(rule, measured, self._mm_per_px)[0]
        return findings

    def _places_of_peaks(self, measured: Measured) -> list[tuple[int, PeakScore]]:
        """Where among the findings those of peak scores stand, each with its rule."""
        places, place = [], 0
        for rule in self._rules:
            if isinstance(rule, PeakScore):
                places.append((place, rule))
            place += len(find(rule, measured, self._mm_per_px))
        return places
