"""The gate: what it counts, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.qualification.gate import Case, Limits, compare, fastest, refusals

LIMITS = Limits(images=4)
GOOD = [Case(f"g{i}", "PASS", -3.0, False) for i in range(6)]
BAD = [Case(f"b{i}", "NG", 2.0, True, float(10 * i + 5)) for i in range(6)]


def changed(cases: list[Case], index: int, outcome: str) -> list[Case]:
    return [replace(case, outcome=outcome) if i == index else case for i, case in enumerate(cases)]


def against(candidate: list[Case], speedup: float = 2.0, reference: list[Case] | None = None) -> str:
    return "; ".join(refusals(compare(reference or GOOD + BAD, candidate), speedup, LIMITS))


def test_a_faster_one_with_the_same_verdicts_passes() -> None:
    assert against(GOOD + BAD) == ""


def test_a_slip_more_is_refused_and_told_with_its_bounds() -> None:
    found = compare(GOOD + BAD, changed(GOOD + BAD, 6, "PASS"))
    assert found.flipped == (6,)
    assert (found.new_slips.count, found.new_slips.of) == (1, 6)
    assert found.new_slips.low > 0
    assert found.new_slips.high < 1
    assert (found.small_recall[0].count, found.small_recall[1].count, found.small_recall[1].of) == (2, 1, 2)
    assert "1 of 6 defective parts slip" in against(changed(GOOD + BAD, 6, "PASS"))


def test_a_mended_slip_does_not_pay_for_a_new_one() -> None:
    reference = changed(GOOD + BAD, 11, "PASS")
    candidate = changed(GOOD + BAD, 10, "PASS")
    found = compare(reference, candidate)
    assert (found.slips[0].count, found.slips[1].count) == (1, 1)
    assert (found.new_slips.count, found.mended_slips.count) == (1, 1)
    assert "slip" in against(candidate, reference=reference)


def test_a_false_reject_more_is_refused() -> None:
    assert "1 of 6 good parts are rejected" in against(changed(GOOD + BAD, 0, "NG"))


def test_without_labels_fp32_says_what_is_right() -> None:
    reference = [replace(case, is_defective=None, defect_px=None) for case in GOOD + BAD]
    assert against(changed(reference, 8, "PASS"), reference=reference).count("pass now") == 1
    assert against(reference, reference=reference) == ""


@pytest.mark.parametrize(
    ("candidate", "reference", "speedup", "why"),
    [
        (GOOD + BAD, GOOD + BAD, 1.0, "1.00 times FP32's speed"),
        (GOOD, GOOD, 2.0, "none of the images NG"),
        (BAD[:3], BAD[:3], 2.0, "only 3 images"),
        (changed(GOOD + BAD, 0, "FAULT"), GOOD + BAD, 2.0, "1 parts become FAULT"),
    ],
)
def test_what_else_is_refused(candidate: list[Case], reference: list[Case], speedup: float, why: str) -> None:
    assert why in against(candidate, speedup, reference)


def test_pictures_that_show_no_part_prove_nothing() -> None:
    empty = [Case(f"e{i}", "FAULT", None) for i in range(9)]
    assert "only 1 images" in against([*empty, BAD[0]], reference=[*empty, BAD[0]])


def test_pictures_that_nobody_judges_dilute_no_share() -> None:
    empty = [Case(f"e{i}", "FAULT", None, i % 2 == 0) for i in range(3000)]
    found = compare([*empty, *GOOD, *BAD], [*empty, *changed(GOOD, 0, "NG"), *BAD])
    assert (found.flips.count, found.flips.of, found.judged, found.images) == (1, 12, 12, 3012)
    assert (found.new_false_rejects.of, found.new_slips.of) == (6, 6)
    assert "1 of 12 verdicts flipped" in "; ".join(refusals(found, 2.0, LIMITS))


@pytest.mark.parametrize("lost", range(6))
def test_defects_of_one_size_are_small_in_whatever_order_they_come(lost: int) -> None:
    reference = [Case(str(n), "NG", 1.0, True, 10.0) for n in range(6)]
    old, new = compare(reference, changed(reference, lost, "PASS")).small_recall
    assert (old.count, new.count, new.of) == (6, 5, 6)


def test_margins_tell_how_far_images_moved() -> None:
    found = compare(GOOD + BAD, [replace(case, margin=(case.margin or 0) + 0.5) for case in GOOD + BAD])
    assert found.shift_median == pytest.approx(0.5)
    assert found.least_margin == (2.0, 2.5)


def test_the_fastest_of_those_that_pass_is_chosen() -> None:
    assert fastest({"fp16": 1.2, "int8": 1.9}) == "int8"
    assert fastest({}) is None
