"""Rules at, below and above their limits; what no picture can give is never a PASS."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from edge_agent.commands.drawing import told
from edge_agent.errors import EngineError
from edge_agent.judgement.judge import Judge
from edge_agent.judgement.quality import QualityGate, focus
from edge_agent.judgement.rules import find
from edge_agent.measured import Measured, ZoneMeasure, merge
from edge_agent.recipe import (
    AreaRatio,
    BlobArea,
    BlobCount,
    MeanScore,
    ModelReference,
    PeakScore,
    Presence,
    Quality,
    Recipe,
    TotalArea,
    Zone,
)
from edge_agent.records import NG, PASS, Blob


def blob(area: float = 10, mean: float = 0.7, name: str = "a") -> Blob:
    return Blob(class_name=name, area_px=area, x=0, y=0, width=1, height=1, centroid_x=0, centroid_y=0, peak=0.9, mean=mean)


def measured(*blobs: Blob, peak: float = 0.9, inspected: float = 1000) -> Measured:
    names = ("a", "b")
    return Measured(
        blobs,
        {n: sum(b.class_name == n for b in blobs) for n in names},
        {n: sum(b.area_px for b in blobs if b.class_name == n) for n in names},
        {"a": peak, "b": 0.1},
        {("seal", n): ZoneMeasure(sum(b.class_name == n for b in blobs), 4.0) for n in names},
        inspected,
    )


TRIANGLE = ((0, 0), (9, 0), (0, 9))


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (BlobCount(max=1), [2]),
        (BlobCount(max=1, class_name="a"), [1]),
        (BlobArea(max_px=30), [30]),
        (BlobArea(max_mm2=5), [30 * 0.25]),
        (BlobArea(max_px=30, min_px=31), [0]),
        (BlobArea(max_px=30, min_mm2=31 * 0.25), [0]),
        (BlobArea(max_mm2=5, min_mm2=30 * 0.25), [30 * 0.25]),
        (TotalArea(max_px=40), [40]),
        (AreaRatio(max=0.04), [0.04]),
        (PeakScore(max=0.9), [0.9]),
        (PeakScore(max=0.9, class_name="b"), [0.1]),
        (MeanScore(max=0.6), [0.7]),
        (Zone(name="seal", polygon=TRIANGLE, max_count=1, max_area_px=7), [2, 8]),
    ],
)
def test_every_rule_tells_value_limit_and_margin(rule: object, values: list[float]) -> None:
    findings = find(rule, measured(blob(10), blob(30, 0.5, "b")), 0.5)
    assert [finding.value for finding in findings] == pytest.approx(values)
    for finding in findings:
        assert finding.margin == pytest.approx(finding.limit - finding.value)
        assert finding.ok == (finding.value <= finding.limit) == (finding.margin >= 0)


def test_an_area_tells_its_unit_and_nothing_else_has_one() -> None:
    rules = (BlobArea(max_px=30), BlobArea(max_mm2=5), TotalArea(max_mm2=5), BlobCount(max=1), AreaRatio(max=1))
    zone = Zone(name="seal", polygon=TRIANGLE, max_count=1, max_area_mm2=7)
    findings = [finding for rule in (*rules, zone) for finding in find(rule, measured(blob(10)), 0.5)]
    assert [finding.unit for finding in findings] == ["px", "mm2", "mm2", "", "", "", "mm2"]
    assert b"unit" not in msgspec.json.encode(findings[3])
    assert told(findings[1]) == "blob_area: 2.5 within 5 mm2"
    assert told(findings[3]) == "blob_count: 1 within 1"


def recipe(*rules: object) -> Recipe:
    return Recipe(name="r", model=ModelReference(name="m"), rules=rules)


def test_the_judge_names_every_broken_rule_and_keeps_all_findings() -> None:
    judge = Judge(recipe(BlobCount(max=0), TotalArea(max_px=100), PeakScore(max=0.5)))
    judgement = judge.judge(measured(blob()), [])
    assert (judgement.outcome, judgement.reasons) == (NG, ("blob_count", "peak_score"))
    assert [finding.rule for finding in judgement.findings] == ["blob_count", "total_area", "peak_score"]


def test_a_clean_part_is_judged_afresh_each_time() -> None:
    judge = Judge(recipe(BlobCount(max=0), PeakScore(max=0.5)))
    for peak, outcome in ((0.2, PASS), (0.6, NG), (0.3, PASS)):
        judgement = judge.judge(measured(peak=peak), [])
        assert judgement.outcome == outcome
        assert judgement.findings[1].value == peak


@pytest.mark.parametrize("peak", [math.nan, math.inf, -0.1])
def test_what_no_picture_can_give_is_an_engine_error(peak: float) -> None:
    judge = Judge(recipe(PeakScore(max=1, class_name="a")))
    judge.judge(measured(peak=0.1), [])
    with pytest.raises(EngineError):
        judge.judge(measured(peak=peak), [])


def test_nothing_inspected_is_never_a_pass() -> None:
    with pytest.raises(EngineError):
        Judge(recipe(AreaRatio(max=1))).judge(measured(inspected=0), [])


def test_regions_are_merged() -> None:
    both = merge([measured(blob(10)), measured(blob(20), peak=0.95)])
    assert (both.count["a"], both.area_px["a"], both.peak["a"], both.inspected_px) == (2, 30, 0.95, 2000)
    assert both.zones["seal", "a"] == ZoneMeasure(2, 8.0)


def textured(level: int = 120) -> np.ndarray:
    noise = np.random.default_rng(3).integers(-30, 30, (256, 256))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


GATE = {"min_mean_gray": 20, "max_saturated_share": 0.1, "min_focus": 50, "frozen": True}


def test_a_good_picture_passes_with_findings() -> None:
    findings, reason = QualityGate(Quality(**GATE), Presence(gray_above=40, min_share=0.5)).look(textured())
    assert reason == ""
    assert [finding.rule for finding in findings] == ["mean_gray", "saturated_share", "frozen", "presence", "focus"]
    assert all(finding.ok for finding in findings)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((256, 256), np.uint8), "dark"),
        (np.full((256, 256), 255, np.uint8), "saturated"),
        (np.full((256, 256), 30, np.uint8), "no_part"),
        (np.full((256, 256), 120, np.uint8), "out_of_focus"),
    ],
)
def test_a_bad_picture_is_named(picture: np.ndarray, reason: str) -> None:
    assert QualityGate(Quality(**GATE), Presence(gray_above=40, min_share=0.5)).look(picture)[1] == reason


def test_the_same_picture_twice_is_frozen() -> None:
    gate = QualityGate(Quality(frozen=True), None)
    assert [gate.look(picture)[1] for picture in (textured(), textured(), textured(130))] == ["", "frozen", ""]


@pytest.mark.parametrize("master", [textured(130), textured(130)[:200]])
def test_a_camera_that_is_frozen_while_a_master_part_is_judged_is_noticed(master: np.ndarray) -> None:
    gate = QualityGate(Quality(), None)
    shown = [(textured(), True), (master, False), (textured(), True), (master, False), (textured(140), True)]
    assert [gate.look(picture, is_live)[1] for picture, is_live in shown] == ["", "", "frozen", "", ""]


def test_blur_lowers_focus() -> None:
    import cv2

    sharp = textured()
    assert focus(cv2.GaussianBlur(sharp, (0, 0), 2)) < focus(sharp) / 10
