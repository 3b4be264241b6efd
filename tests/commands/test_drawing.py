"""What is drawn around a picture hides nothing of it: defects lie at its edges, too."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_agent.commands.drawing import captioned, card, framed, heat, overlay
from edge_agent.records import NG

FRAME = np.random.default_rng(0).integers(0, 200, (64, 96), np.uint8)


def test_an_overlay_is_the_frame_with_its_pixels_where_they_were() -> None:
    shown = captioned(overlay(FRAME, (), None), "part", NG, ["blob_count"])
    assert (shown[: FRAME.shape[0], : FRAME.shape[1]] == FRAME[:, :, None]).all()


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (3, 3), (2048, 2448)])
def test_a_frame_is_around_the_picture(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 255, np.uint8)
    shown = framed(picture, NG)
    (edge,) = {grown - side for grown, side in zip(shown.shape[:2], shape, strict=True)}
    inner = shown[edge // 2 : -(edge // 2), edge // 2 : -(edge // 2)]
    assert inner.shape == picture.shape and (inner == 255).all()
    assert int((shown == 255).all(axis=2).sum()) == shape[0] * shape[1]


def test_a_card_shows_both_pictures_to_their_ends() -> None:
    white = np.full((60, 60), 255, np.uint8)
    shown = card(overlay(white, (), None), heat(white), "part", NG, [], side=66)
    assert (shown[3:63, 3:63] == 255).all()
    assert (cv2.cvtColor(shown[3:63, 75:135], cv2.COLOR_BGR2GRAY) > 200).all()
