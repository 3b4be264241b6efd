"""Pixels against masks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.qualification.pixels import confusion, overlap, pixel_scores, size_bins


def test_the_scores_are_those_worked_out_by_hand() -> None:
    truth = np.array([[0, 0, 0, 0], [1, 1, 2, 2]], np.uint8)
    called = np.array([[0, 0, 0, 1], [1, 1, 1, 0]], np.uint8)
    table = confusion(truth, called, 2)
    assert table.tolist() == [[3, 1, 0], [0, 2, 0], [1, 1, 0]]
    scores = pixel_scores(table, ["a", "b"])
    assert scores["accuracy"] == 5 / 8
    assert scores["mean_accuracy"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    keys = ("dice", "iou", "found", "accuracy", "mean_accuracy", "truth_px")
    assert [scores["classes"]["a"][key] for key in keys] == pytest.approx([4 / 6, 2 / 4, 1, 6 / 8, (1 + 4 / 6) / 2, 2])
    assert [scores["classes"]["b"][key] for key in keys] == pytest.approx([0, 0, 0, 6 / 8, (0 + 1) / 2, 2])
    assert [scores["any_defect"][key] for key in keys] == pytest.approx([6 / 8, 3 / 5, 3 / 4, 6 / 8, 3 / 4, 4])


def test_where_there_is_nothing_there_is_no_score() -> None:
    assert overlap(0, 0, 0) == (None, None)
    empty = pixel_scores(confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 1), ["a"])
    assert empty["classes"]["a"]["dice"] is None
    assert (empty["accuracy"], empty["mean_accuracy"]) == (1.0, 1.0)


def test_bins_hold_every_defect_once() -> None:
    areas = np.array([1, 3, 56, 59, 63, 100, 500, 5000], np.float64)
    bins = size_bins(areas)
    assert sum(((areas >= low) & (areas < high)).sum() for low, high in bins) == len(areas)
    assert len(bins) == 4
    assert len(size_bins(np.full(9, 7.0))) == 1
    assert size_bins(np.zeros(0)) == []
