"""The drawn parts: the same for the same numbers, true to their truth, with defects that show and only where the label says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.camera.texture import FAMILIES, PartTruth, draw_part, label_of, truth_of
from edge_agent.camera.texture_defects import DEFECTS

SIZE = 256


def twins(index: int) -> tuple[PartTruth, NDArray[np.float32], NDArray[np.bool_]]:
    """A defective part's truth, how it differs from the same part without its defect, and its label."""
    bad = draw_part(5, index, SIZE, SIZE, defect_share=1.0, empty_share=0.0)
    good = draw_part(5, index, SIZE, SIZE, defect_share=0.0, empty_share=0.0)
    return bad.truth, np.abs(bad.pixels.astype(np.float32) - good.pixels), label_of(bad.truth, SIZE, SIZE)


def test_the_same_numbers_draw_the_same_part() -> None:
    first, again = draw_part(7, 3), draw_part(7, 3)
    assert first.truth == again.truth
    assert np.array_equal(first.pixels, again.pixels)


@pytest.mark.parametrize(("seed", "index"), [(7, 4), (8, 3), (3, 7)])
def test_other_numbers_draw_another_part(seed: int, index: int) -> None:
    assert not np.array_equal(draw_part(7, 3, SIZE, SIZE).pixels, draw_part(seed, index, SIZE, SIZE).pixels)


def test_truth_needs_no_drawing() -> None:
    for index in range(30):
        drawn = draw_part(2, index, SIZE, SIZE, defect_share=0.4, empty_share=0.2)
        assert drawn.truth == truth_of(2, index, SIZE, SIZE, defect_share=0.4, empty_share=0.2)


def test_shares_are_kept() -> None:
    kinds = [truth_of(1, index, defect_share=0.3, empty_share=0.1).kind for index in range(2000)]
    assert kinds.count("defective") / 2000 == pytest.approx(0.3, abs=0.04)
    assert kinds.count("empty") / 2000 == pytest.approx(0.1, abs=0.03)


def test_every_family_and_defect_occurs() -> None:
    truths = [truth_of(1, index, defect_share=1.0, empty_share=0.0) for index in range(300)]
    assert {(t.family, t.defect) for t in truths} == {(f, d) for f in FAMILIES for d in DEFECTS}


def test_there_are_six_of_each() -> None:
    assert len(FAMILIES) >= 6
    assert len(DEFECTS) >= 6


def test_only_the_families_and_defects_asked_for_are_drawn() -> None:
    asked: dict[str, tuple[str, ...]] = {"families": ("turned", "moire"), "defects": ("crack",)}
    truths = [truth_of(1, index, defect_share=0.5, empty_share=0.1, **asked) for index in range(200)]
    assert {truth.family for truth in truths} == {"turned", "moire", ""}
    assert {truth.defect for truth in truths} == {"crack", ""}
    assert draw_part(1, 4, SIZE, SIZE, **asked).truth.family in asked["families"]


def test_a_moire_has_the_gray_levels_of_dagms_first_class() -> None:
    """Measured there: mean 70.6 +- 3.8, deviation 28.0 +- 3.0, 5 % of the pixels below 31, half below 67, 95 % below 122."""
    drawn = [draw_part(3, index, defect_share=0, empty_share=0, families=("moire",)).pixels for index in range(12)]
    assert np.mean([frame.mean() for frame in drawn]) == pytest.approx(70.6, abs=3.8)
    assert np.mean([frame.std() for frame in drawn]) == pytest.approx(28.0, abs=3.0)
    assert np.percentile(drawn, (5, 50, 95)) == pytest.approx((31, 67, 122), abs=6)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_defect_shows_on_every_family(family: str) -> None:
    for number, defect in enumerate(DEFECTS):
        only = {"families": (family,), "defects": (defect,), "empty_share": 0.0}
        bad, good = (draw_part(9, number, SIZE, SIZE, defect_share=share, **only) for share in (1.0, 0.0))  # type: ignore[arg-type]
        change = np.abs(bad.pixels.astype(np.float32) - good.pixels)
        label = label_of(bad.truth, SIZE, SIZE)
        assert change[label].max() >= 25, f"{defect} on {family}"
        assert 0 < (change > 8).sum() < label.sum(), f"{defect} on {family} is larger than its weak label"


def test_only_a_defective_part_has_a_defect_and_an_ellipse() -> None:
    for index in range(100):
        truth = truth_of(1, index, defect_share=0.5, empty_share=0.2)
        assert (truth.kind == "defective") == bool(truth.defect) == (truth.ellipse is not None)
        assert label_of(truth, 512, 512).any() == (truth.kind == "defective")


def test_brightness_tells_a_part_from_an_empty_belt() -> None:
    for index in range(40):
        drawn = draw_part(4, index, SIZE, SIZE, defect_share=0.3, empty_share=0.3)
        low, high = (8, 16) if drawn.truth.kind == "empty" else (60, 155)
        assert low < drawn.pixels.mean() < high, drawn.truth


def test_a_defect_shows_inside_its_ellipse_and_nowhere_else() -> None:
    for index in range(40):
        truth, change, label = twins(index)
        assert change[label].max() >= 15, f"part {index}: {truth} cannot be seen"
        assert change[label].mean() > 20 * change[~label].mean(), f"part {index}: {truth} reaches out of its label"


def test_the_label_is_the_filled_ellipse() -> None:
    truth = PartTruth("defective", "grain", "stain", (60.0, 40.0, 30.0, 10.0, 90.0))
    rows, cols = np.nonzero(label_of(truth, 100, 120))
    assert (rows.min(), rows.max()) == pytest.approx((10, 70), abs=1)
    assert (cols.min(), cols.max()) == pytest.approx((50, 70), abs=1)
    assert rows.size == pytest.approx(np.pi * 30 * 10, rel=0.1)


@pytest.mark.parametrize(("rows", "cols"), [(96, 160), (480, 640)])
def test_any_size_can_be_drawn(rows: int, cols: int) -> None:
    for index in range(8):
        assert draw_part(1, index, rows, cols, defect_share=0.9).pixels.shape == (rows, cols)
