"""What can be asked of a threshold, which one is chosen, and what is said where none will do."""

from __future__ import annotations

import pytest

from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.qualification.pick import pick, read_condition
from edge_agent.qualification.rates import Counts

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
#          slips 0 false rejects 40 .. slips 8 false rejects 0, of 20 defective and 80 good images
COUNTS = [Counts(20 - fn, 80 - fp, fp, fn) for fn, fp in [(0, 40), (1, 10), (2, 2), (2, 2), (2, 2), (8, 0)]]


@pytest.mark.parametrize(
    ("text", "what", "side", "limit"),
    [
        ("precision>=0.9925", "precision", ">=", 0.9925),
        (" recall >= 95% ", "recall", ">=", 0.95),
        ("slip<=.05", "slip", "<=", 0.05),
        ("false_reject<=1e-3", "false_reject", "<=", 0.001),
    ],
)
def test_a_condition_is_read(text: str, what: str, side: str, limit: float) -> None:
    condition = read_condition(text)
    assert (condition.what, condition.side, condition.limit) == (what, side, pytest.approx(limit))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is no condition"),
        ("precision", "is no condition"),
        ("precision>0.9", "is no condition"),
        ("accuracy>=0.9", "is no condition"),
        ("precision>=-1", "is no condition"),
        ("precision>=0.9 and slip<=1", "is no condition"),
        ("precision<=0.9", "with >= only"),
        ("slip>=0.9", "with <= only"),
        ("precision>=99", "above 1"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_is_one(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        read_condition(text)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("false_reject<=0.5", 0.1),  # the fewest slips
        ("false_reject<=0.2", 0.2),
        ("false_reject<=0.025", 0.4),  # three are equal: the middle one
        ("false_reject<=0", 0.6),
        ("precision>=0.9", 0.4),
        ("slip<=0.1", 0.4),  # of those the fewest false rejects
        ("slip<=0.05", 0.2),
        ("recall>=1", 0.1),
    ],
)
def test_the_best_of_those_that_fulfil_it_is_chosen(text: str, threshold: float) -> None:
    assert THRESHOLDS[pick(read_condition(text), THRESHOLDS, COUNTS)] == threshold


def test_what_cannot_be_reached_is_told_with_the_best_that_can() -> None:
    counts = COUNTS[:5]
    with pytest.raises(EdgeAgentError) as error:
        pick(read_condition("precision>=0.99"), THRESHOLDS[:5], counts)
    assert "no threshold from 0.1 to 0.5 reaches precision >= 0.99" in str(error.value)
    assert "precision 0.9000, at the threshold" in str(error.value)
    assert "2 of 20 defective images passed and 2 of 80 good ones rejected" in str(error.value)


def test_without_defective_images_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(EdgeAgentError, match="nothing to measure it on"):
        pick(read_condition("slip<=0.1"), [0.5], [Counts(0, 3, 0, 0)])
