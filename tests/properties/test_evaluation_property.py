"""Whatever the scores: a higher threshold never calls more images defective, bounds hold the rate, and a pick keeps its word."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import EdgeAgentError
from edge_agent.qualification.pick import pick, read_condition
from edge_agent.qualification.rates import count_at, rate, roc_auc

IMAGES = st.lists(st.tuples(st.booleans(), st.integers(0, 255)), min_size=1, max_size=40)
THRESHOLDS = [step / 100 for step in range(1, 100)]
CONDITIONS = [
    f"{what}{share}" for what in ("precision>=", "recall>=", "slip<=", "false_reject<=") for share in (0, 0.1, 0.5, 0.9, 1)
]


@settings(max_examples=100, deadline=None)
@given(IMAGES, st.sampled_from(CONDITIONS))
def test_thresholds_and_picks(images: list[tuple[bool, int]], asked: str) -> None:
    truth = np.array([is_defective for is_defective, _ in images])
    scores = np.array([level for _, level in images]) / 255
    counts = [count_at(truth, scores, threshold) for threshold in THRESHOLDS]
    for lower, higher in pairwise(counts):
        assert higher.fp <= lower.fp and higher.tp <= lower.tp
        assert higher.fn >= lower.fn and higher.tn >= lower.tn
    assert all(each.tp + each.tn + each.fp + each.fn == len(images) for each in counts)
    area = roc_auc(truth, scores)
    assert area is None or 0 <= area <= 1
    condition = read_condition(asked)
    try:
        chosen = counts[pick(condition, THRESHOLDS, counts)]
    except EdgeAgentError:
        assert not any(condition.holds(each) for each in counts)
        return
    assert condition.holds(chosen)
    first, second = ("fp", "fn") if condition.what in ("slip", "recall") else ("fn", "fp")
    best = min((getattr(each, first), getattr(each, second)) for each in counts if condition.holds(each))
    assert (getattr(chosen, first), getattr(chosen, second)) == best


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_bounds_hold_the_rate_and_mirror_each_other(wrong: int, right: int) -> None:
    one, other = rate(wrong, wrong + right), rate(right, wrong + right)
    assert 0 <= one.low <= (one.share or 0.0) <= one.high <= 1
    assert abs(one.low - (1 - other.high)) < 1e-9
