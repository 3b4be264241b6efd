"""Thresholds of several classes, one class at a time: what single moves save, and what they leave alone."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.judgement.judge import Judge
from edge_agent.measured import Measured, ZoneMeasure
from edge_agent.qualification.classes import alone, rules_of_several
from edge_agent.qualification.pick import errors_of, middle_of_best, read_condition
from edge_agent.qualification.rates import count
from edge_agent.qualification.refine import Calls, refine
from edge_agent.recipe import AreaRatio, BlobArea, BlobCount, MeanScore, PeakScore, Recipe, Rule, TotalArea, Zone
from edge_agent.records import NG, Blob

STEPS = 9  # thresholds 1 to 9: a class calls an image defective where its score reaches one


def calls_of(images: list[tuple[bool, tuple[int, ...]]]) -> Calls:
    """Images as (is defective, each class's score)."""
    scores = np.array([scores for _, scores in images])
    is_ng_of: NDArray[np.bool_] = scores[:, None, :] >= np.arange(1, STEPS + 1)[None, :, None]
    return Calls(np.array([is_defective for is_defective, _ in images], np.bool_), is_ng_of)


def thresholds_of(asked: str, calls: Calls) -> tuple[int, ...] | None:
    condition = read_condition(asked)
    common = middle_of_best(condition, [calls.counts([each] * calls.classes) for each in range(calls.thresholds)])
    places = refine(condition, calls, common)
    return None if places is None else tuple(place + 1 for place in places)


def test_a_class_that_cries_wolf_is_made_strict_and_the_others_stay_keen() -> None:
    good = [(False, (0, 7)), (False, (0, 7)), (False, (1, 0))]
    calls = calls_of([*good, (True, (4, 0)), (True, (5, 0)), (True, (0, 9))])
    assert thresholds_of("false_reject<=0", calls) == (3, 9), "together only 8 and 9 would do, with two slips; 3 is amid 2, 3, 4"
    assert calls.counts((2, 8)).fn == calls.counts((2, 8)).fp == 0


def test_two_classes_that_gain_only_together_are_found() -> None:
    """One false reject is allowed: the second class has spent it, and lowering the first costs one more."""
    good = [(False, (5, 0)), (False, (0, 6)), *[(False, (0, 0))] * 8]
    calls = calls_of([*good, *[(True, (4, 0))] * 3, *[(True, (0, 6))]])
    assert calls.counts((5, 5)).fn == 3
    first, second = thresholds_of("false_reject<=10%", calls) or (0, 0)
    found = calls.counts((first - 1, second - 1))
    assert (found.fn, found.fp) == (1, 1)


def test_a_class_whose_own_threshold_saves_nothing_stays_with_the_others() -> None:
    calls = calls_of([(False, (3, 0)), (True, (8, 0)), (True, (8, 9)), (False, (0, 1))])
    assert thresholds_of("slip<=0", calls) == (6, 6), "the middle of 4 to 8 for both"


def test_it_may_reach_what_no_common_threshold_does() -> None:
    calls = calls_of([(False, (9, 0)), (True, (0, 1)), (True, (0, 5)), (True, (9, 5))])
    assert middle_of_best(read_condition("precision>=1"), [calls.counts([each] * 2) for each in range(STEPS)]) is None
    assert thresholds_of("precision>=1", calls) is None, "the first class rejects the good part at every threshold"
    calls = calls_of([(False, (8, 0)), (False, (0, 0)), (True, (0, 2)), (True, (0, 2))])
    assert thresholds_of("recall>=1", calls) == (9, 2)


@example(
    [(False, (0, 0, 1)), (False, (0, 0, 1)), (False, (7, 0, 0)), (True, (1, 1, 0)), (True, (8, 0, 1))], "slip<=0.3"
)  # the last class gains only where the first has settled
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.tuples(*[st.integers(0, STEPS)] * 3)), min_size=1, max_size=25),
    st.sampled_from(["false_reject<=0.2", "false_reject<=0", "slip<=0.3", "precision>=0.7", "recall>=0.9"]),
)
def test_it_fulfils_the_condition_and_is_never_worse_than_one_shift(images: list[tuple[bool, tuple[int, ...]]], asked: str) -> None:
    calls, condition = calls_of(images), read_condition(asked)
    together = [calls.counts([each] * 3) for each in range(STEPS)]
    common = middle_of_best(condition, together)
    places = refine(condition, calls, common)
    if places is None:
        assert common is None
        return
    found = calls.counts(places)
    assert condition.holds(found)
    assert places == refine(condition, calls, common)
    if common is not None:
        assert errors_of(condition, found) <= errors_of(condition, together[common])
        if errors_of(condition, found) == errors_of(condition, together[common]):
            assert places == (common,) * 3
    for of in range(3):
        along = calls.counts_along(of, places)
        assert along[places[of]] == found
        better = [each for each in along if condition.holds(each) and errors_of(condition, each) < errors_of(condition, found)]
        assert not better, "a single class could still save an error"


BLOB = Blob(
    class_name="",
    area_px=9.0,
    x=0.0,
    y=0.0,
    width=3.0,
    height=3.0,
    centroid_x=1.0,
    centroid_y=1.0,
    peak=0.8,
    mean=0.7,
    area_mm2=None,
)
CORNER = ((0.0, 0.0), (8.0, 0.0), (8.0, 8.0))
RULES: list[Rule] = [
    BlobCount(max=0),
    BlobCount(max=1, class_name="a"),
    BlobArea(max_px=20),
    TotalArea(max_px=0),
    TotalArea(max_px=30, class_name="b"),
    AreaRatio(max=0),
    PeakScore(max=0.6),
    MeanScore(max=0.5, class_name="b"),
    Zone(name="corner", polygon=CORNER, max_count=0, max_area_px=0),
    Zone(name="corner", polygon=CORNER, max_area_px=12, class_name="a"),
]


def recipe_of(*rules: Rule) -> Recipe:
    return Recipe(name="part", model={"name": "m"}, rules=list(rules))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(RULES), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.booleans()), max_size=4),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_part_is_ng_just_where_one_class_alone_makes_it_so(
    rules: list[Rule], blobs: list[tuple[str, int, bool]], peaks: tuple[float, float]
) -> None:
    recipe = recipe_of(*rules)
    assert rules_of_several(recipe) == []
    drawn = [msgspec.structs.replace(BLOB, class_name=name, area_px=float(area)) for name, area, _ in blobs]
    inside = {name: [area for of, area, is_inside in blobs if of == name and is_inside] for name in "ab"}
    measured = Measured(
        blobs=tuple(drawn),
        count={name: sum(of == name for of, _, _ in blobs) for name in "ab"},
        area_px={name: float(sum(area for of, area, _ in blobs if of == name)) for name in "ab"},
        peak=dict(zip("ab", peaks, strict=True)),
        zones={("corner", name): ZoneMeasure(len(inside[name]), float(sum(inside[name]))) for name in "ab"},
        inspected_px=100.0,
    )
    verdicts = [Judge(alone(recipe, name)).judge(measured, []).outcome == NG for name in "ab"]
    assert any(verdicts) == (Judge(recipe).judge(measured, []).outcome == NG)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (BlobCount(max=1), "blob_count"),
        (TotalArea(max_px=5), "total_area"),
        (AreaRatio(max=0.1), "area_ratio"),
        (MeanScore(max=0.5), "mean_score"),
        (Zone(name="z", polygon=CORNER, max_count=0, max_area_px=3), "zone"),
    ],
)
def test_rules_that_add_classes_up_are_told(rule: Rule, name: str) -> None:
    assert rules_of_several(recipe_of(rule, BlobCount(max=0))) == [name]


def test_counts_are_those_of_the_calls() -> None:
    calls = calls_of([(True, (3, 5)), (False, (2, 2)), (True, (0, 0))])
    is_ng = np.array([True, True, False])
    assert calls.counts((2, 1)) == count(calls.is_defective, is_ng) == calls.counts_along(0, (8, 1))[2]
