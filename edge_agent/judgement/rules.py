"""One small pure function per rule: what was measured against one limit, for PASS as well as for NG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from edge_agent.errors import EngineError
from edge_agent.measured import Measured, least_px
from edge_agent.recipe import AreaRatio, BlobArea, BlobCount, MeanScore, PeakScore, Recipe, Rule, TotalArea, Zone
from edge_agent.records import Blob, Finding

_NOTHING = Measured(blobs=(), count={}, area_px={}, peak={}, zones={}, inspected_px=1.0)


def names_of(recipe: Recipe) -> list[str]:
    """Return what the recipe's rules are called in findings and in the reasons of an NG, in their order."""
    return [finding.rule for rule in recipe.rules for finding in find(rule, _NOTHING, recipe.mm_per_px)]


def names_in_line(recipes: Iterable[tuple[str, Recipe]]) -> list[str]:
    """Return what the rules of a line are called in its verdicts, each once: by recipe and view, '' for a line without views."""
    return list(dict.fromkeys(f"{view}/{rule}" if view else rule for view, recipe in recipes for rule in names_of(recipe)))


def find(rule: Rule, measured: Measured, mm_per_px: float | None) -> list[Finding]:
    """Return the rule's findings: one each, a zone one per limit. Raises EngineError for a value that is no number."""
    match rule:
        case BlobCount():
            return [_finding("blob_count", rule.class_name, _sum(measured.count, rule.class_name), rule.max)]
        case BlobArea():
            return [_blob_area(rule, measured, mm_per_px)]
        case TotalArea():
            area_px = _sum(measured.area_px, rule.class_name)
            return [_finding("total_area", rule.class_name, *_in_unit(area_px, rule.max_px, rule.max_mm2, mm_per_px))]
        case AreaRatio():
            ratio = _sum(measured.area_px, rule.class_name) / measured.inspected_px if measured.inspected_px else math.nan
            return [_finding("area_ratio", rule.class_name, ratio, rule.max)]
        case PeakScore():
            peaks = [peak for name, peak in measured.peak.items() if rule.class_name in (None, name)]
            return [_finding("peak_score", rule.class_name, max(peaks, default=0.0), rule.max)]
        case MeanScore():
            return [_finding("mean_score", rule.class_name, _highest_mean(measured, rule.class_name), rule.max)]
        case Zone():
            return _zone(rule, measured, mm_per_px)


def _finding(rule: str, class_name: str | None, value: float, limit: float, unit: str = "") -> Finding:
    label = rule if class_name is None else f"{rule}/{class_name}"
    if not (math.isfinite(value) and value >= 0):
        raise EngineError(f"rule {label} measured {value}, which no picture can give")
    value = _plain(value)
    return Finding(rule=label, value=value, limit=float(limit), margin=_plain(limit - value), ok=value <= limit, unit=unit)


def _plain(value: float) -> float:
    """Nine significant digits: no float noise at a limit, and yet one pixel's share of a large picture is not nothing."""
    return float(f"{value:.9g}")


def _of(measured: Measured, class_name: str | None) -> list[Blob]:
    return [blob for blob in measured.blobs if class_name in (None, blob.class_name)]


def _highest_mean(measured: Measured, class_name: str | None) -> float:
    """Return the highest mean of a blob; where not every blob is described, no more than the peak is known of the rest."""
    blobs = _of(measured, class_name)
    means = [blob.mean for blob in blobs]
    if len(blobs) < _sum(measured.count, class_name):
        means += [peak for name, peak in measured.peak.items() if class_name in (None, name)]
    return max(means, default=0.0)


def _sum(values: Mapping[str, float], class_name: str | None) -> float:
    return values.get(class_name, 0) if class_name is not None else sum(values.values())


def _in_unit(area_px: float, max_px: float | None, max_mm2: float | None, mm_per_px: float | None) -> tuple[float, float, str]:
    """Return value and limit in the unit in which the limit is given, and that."""
    if max_px is not None:
        return area_px, max_px, "px"
    assert max_mm2 is not None
    assert mm_per_px is not None
    return area_px * mm_per_px * mm_per_px, max_mm2, "mm2"


def _blob_area(rule: BlobArea, measured: Measured, mm_per_px: float | None) -> Finding:
    least = least_px(rule.min_px, rule.min_mm2, mm_per_px)
    areas = [blob.area_px for blob in _of(measured, rule.class_name) if blob.area_px >= least]
    return _finding("blob_area", rule.class_name, *_in_unit(max(areas, default=0.0), rule.max_px, rule.max_mm2, mm_per_px))


def _zone(rule: Zone, measured: Measured, mm_per_px: float | None) -> list[Finding]:
    measures = [zone for (name, of), zone in measured.zones.items() if name == rule.name and rule.class_name in (None, of)]
    findings = []
    if rule.max_count is not None:
        count = sum(zone.blobs for zone in measures)
        findings.append(_finding(f"zone/{rule.name}/count", rule.class_name, count, rule.max_count))
    if rule.max_area_px is not None or rule.max_area_mm2 is not None:
        area_px = sum(zone.area_px for zone in measures)
        measured_area = _in_unit(area_px, rule.max_area_px, rule.max_area_mm2, mm_per_px)
        findings.append(_finding(f"zone/{rule.name}/area", rule.class_name, *measured_area))
    return findings
