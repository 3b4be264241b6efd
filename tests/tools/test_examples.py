"""What the network is trained and judged on: the split by group, the augmentation, the scores."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import cv2
import numpy as np
import pytest

Tool = Callable[[str], ModuleType]


def test_a_group_stays_on_one_side_and_every_class_is_held_out(tool: Tool) -> None:
    index = [{"image": f"{g}-{n}", "class": "Free" if g % 3 else "Crack", "group": str(g)} for g in range(60) for n in range(4)]
    train, val = tool("examples").split_by_group(index, 60, seed=3)
    assert not {row["group"] for row in train} & {row["group"] for row in val}
    assert len(train) + len(val) == len(index)
    assert 55 <= len(val) <= 70
    assert {row["class"] for row in val} == {"Free", "Crack"}


def test_mask_turns_and_is_cropped_with_its_frame(tool: Tool) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[2:5, 9:15] = 1
    rng, how = np.random.default_rng(0), tool("examples").Augmentation(0.1, 5.0, crop_px=32)
    for _ in range(20):
        frame, turned = tool("examples").augment(mask * 200, mask, rng, how)
        assert frame.shape == (32, 32)
        assert turned.any()
        assert np.array_equal(frame > 100, turned == 1)


def test_mask_stretches_with_its_frame_and_never_below_the_crop(tool: Tool) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 9:35] = 1
    rng, how = np.random.default_rng(0), tool("examples").Augmentation(crop_px=48, stretch=0.3)
    for _ in range(20):
        frame, stretched = tool("examples").stretch(mask * 200, mask, rng, how)
        assert frame.shape == stretched.shape
        assert min(frame.shape) >= 48
        assert np.mean((frame > 100) != stretched) < 0.03


def test_a_pasted_defect_lies_under_its_mask_and_nowhere_else(tool: Tool) -> None:
    good, source, mask = np.full((64, 64), 90, np.uint8), np.full((64, 64), 200, np.uint8), np.zeros((64, 64), np.uint8)
    mask[30:38, 20:40] = 1
    source[mask == 1] = 100
    frame, label = tool("examples").mix((good, mask * 0), [(source, mask)], np.random.default_rng(0), share=1.0)
    assert label.sum() == mask.sum()
    assert frame[label == 1].max() < 80
    assert np.array_equal(frame[cv2.dilate(label, np.ones((21, 21))) == 0], good[cv2.dilate(label, np.ones((21, 21))) == 0])


def test_half_of_the_draws_are_good_and_a_rare_kind_is_drawn_more_often(tool: Tool) -> None:
    masks = np.zeros((30, 4, 4), np.uint8)
    masks[20:] = 1
    kinds = np.array(["Free"] * 20 + ["Crack"] * 9 + ["Fray"])
    chances = tool("examples").Examples(masks, masks, kinds).chances()
    assert chances[:20].sum() == pytest.approx(0.5)
    assert chances[29] == pytest.approx(0.5 / 4)


def test_scores_count_slips_and_false_rejects(tool: Tool) -> None:
    peaks = np.array([0.95, 0.45, 0.65, 0.05])
    scores = tool("scores").score(peaks, np.array([True, True, False, False]), np.array(["pit", "dent", "good", "good"]))
    half = next(called for called in scores.at if called.threshold == 0.5)
    assert (half.tp, half.fn, half.fp, half.tn) == (1, 1, 1, 1)
    assert scores.errors == 2
    assert scores.auc == 0.75
    assert [(kind.name, kind.called[4]) for kind in scores.kinds] == [("dent", 0), ("good", 1), ("pit", 1)]


@pytest.mark.parametrize("frame_dice", [False, True])
def test_loss_falls_as_the_map_nears_the_mask(tool: Tool, frame_dice: bool) -> None:
    import torch

    weights = tool("loss").Weights(peak=0.3, frame_dice=frame_dice)
    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[0, 2:4, 2:5] = 1
    sure = (masks[:, None].float() - 0.5) * 20
    losses = [tool("loss").loss_of(sure * sign, masks, "sigmoid", weights).item() for sign in (-1.0, 0.0, 1.0)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.01
