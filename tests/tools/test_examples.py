"""What the network is trained and judged on: the split by group, the augmentation, the scores."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

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


def test_scores_count_slips_and_false_rejects(tool: Tool) -> None:
    peaks = np.array([0.95, 0.45, 0.65, 0.05])
    scores = tool("scores").score(peaks, np.array([True, True, False, False]))
    half = next(called for called in scores.at if called.threshold == 0.5)
    assert (half.tp, half.fn, half.fp, half.tn) == (1, 1, 1, 1)
    assert scores.errors == 2
    assert scores.auc == 0.75


def test_loss_falls_as_the_map_nears_the_mask(tool: Tool) -> None:
    import torch

    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[0, 2:4, 2:5] = 1
    sure = (masks[:, None].float() - 0.5) * 20
    losses = [tool("train").loss_of(sure * sign, masks, "sigmoid").item() for sign in (-1.0, 0.0, 1.0)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.01
