"""Counts against brute force, bounds against published values and their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.qualification.rates import by_group, count, count_at, rate, roc_auc


@pytest.mark.parametrize(
    ("errors", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.30850),  # 1 - 0.025 ** (1 / 10)
        (10, 10, 0.69150, 1.0),
        (5, 20, 0.08657, 0.49105),
        (1, 100, 0.00025, 0.05446),
        (50, 100, 0.39832, 0.60168),
        (0, 300, 0.0, 0.01222),
    ],
)
def test_bounds_are_those_of_clopper_and_pearson(errors: int, of: int, low: float, high: float) -> None:
    bounds = rate(errors, of)
    assert (bounds.low, bounds.high) == pytest.approx((low, high), abs=1e-5)
    assert bounds.share == errors / of


def test_of_nothing_nothing_is_known() -> None:
    assert rate(0, 0).as_dict() == {"count": 0, "of": 0, "share": None, "low": 0.0, "high": 1.0}


def test_the_table_is_what_counting_by_hand_gives() -> None:
    rng = np.random.default_rng(3)
    truth, scores = rng.random(200) < 0.3, rng.integers(0, 256, 200) / 255
    for threshold in np.arange(1, 10) / 10:
        called = [score * 255 >= threshold * 255 - 1e-6 for score in scores]
        pairs = list(zip(truth, called, strict=True))
        found = count_at(truth, scores, float(threshold))
        assert (found.tp, found.tn) == (pairs.count((True, True)), pairs.count((False, False)))
        assert (found.fp, found.fn) == (pairs.count((False, True)), pairs.count((True, False)))
        assert found.precision == found.tp / called.count(True)
        assert found.recall == pytest.approx(1 - found.slip)  # type: ignore[operator]
        assert found.fp_rate == found.fp / (~truth).sum()


def test_a_score_at_the_threshold_is_called_defective_as_in_the_line() -> None:
    scores = np.array([51 / 255, 50 / 255])  # 0.2 is level 51
    assert (count_at(np.array([True, True]), scores, 0.2).tp, count_at(np.array([True, True]), scores, 0.2).fn) == (1, 1)


def test_shares_of_nothing_are_not_numbers() -> None:
    nothing = count(np.array([False]), np.array([False]))
    assert (nothing.precision, nothing.recall, nothing.slip, nothing.fp_rate) == (None, None, None, 0.0)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    truth = np.array([True, True, True, False, False, False, False])
    scores = np.array([0.9, 0.5, 0.1, 0.5, 0.2, 0.1, 0.0])
    pairs = itertools.product(scores[truth], scores[~truth])
    expected = np.mean([1.0 if bad > good else 0.5 if bad == good else 0.0 for bad, good in pairs])
    assert roc_auc(truth, scores) == pytest.approx(expected)
    assert roc_auc(np.array([True]), np.array([0.3])) is None


def test_a_group_slips_where_any_of_its_images_does() -> None:
    groups = ["a", "a", "a", "b", "b", "c"]
    is_defective = np.array([True, True, False, True, True, False])
    passed = np.array([False, True, True, False, False, True])
    slips = by_group(groups, is_defective, passed)
    assert (slips.count, slips.of) == (1, 2), "a slips once for two images, c has no defect"
    rejects = by_group(groups, ~is_defective, ~passed)
    assert (rejects.count, rejects.of) == (0, 2)
