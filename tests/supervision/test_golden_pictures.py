"""Known pictures are judged before any part: a recipe or model that gets one wrong is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from bright import gray, with_defect
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError
from edge_agent.recipe import load_recipe
from edge_agent.settings import load_station

GOOD, BAD = gray(), with_defect(gray(), 10, 20, 8, 6)


def open_daemon(station: StationFolder, good: np.ndarray, bad: np.ndarray) -> None:
    station.add_images([GOOD])
    station.recipe["golden"] = {"good": ["good.png"], "bad": ["bad.png"]}
    file = station.write()
    cv2.imwrite(str(station.folder / "recipes" / "good.png"), good)
    cv2.imwrite(str(station.folder / "recipes" / "bad.png"), bad)
    daemon = Daemon(load_station(file))
    daemon.start()
    daemon.close()


@pytest.mark.parametrize("prepare", ["native", "tile"])
def test_pictures_that_come_out_right_let_the_station_start(station: StationFolder, prepare: str) -> None:
    station.recipe["regions"] = [{"name": "whole", "prepare": prepare, "overlap_px": 16}]
    scale = 1 if prepare == "native" else 3  # several tiles take their turns at one tensor slot
    large = [np.kron(picture, np.ones((scale, scale), np.uint8)) for picture in (GOOD, BAD)]
    open_daemon(station, *large)


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        (BAD, BAD, r"good\.png: is NG \(blob_count, peak_score\).*must be PASS"),
        (GOOD, GOOD, r"bad\.png: is PASS \(all rules kept\).*must be NG"),
        (gray(level=10), BAD, r"good\.png: is FAULT \(no_part\).*must be PASS"),
        (gray(32, 32), BAD, r"good\.png: .*32x32.*Mend golden"),
    ],
)
def test_a_picture_that_comes_out_wrong_is_refused(station: StationFolder, good: np.ndarray, bad: np.ndarray, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        open_daemon(station, good, bad)


def test_an_absent_picture_is_refused(station: StationFolder) -> None:
    station.add_images([GOOD])
    station.recipe["golden"] = {"good": ["absent.png"], "bad": ["absent.png"]}
    with pytest.raises(ConfigurationError, match=r"absent\.png"):
        Daemon(load_station(station.write()))


def test_golden_pictures_are_no_part_of_the_recipes_hash(station: StationFolder) -> None:
    station.write()
    file = station.folder / "recipes" / "part.yaml"
    before = load_recipe(file).hash
    station.recipe["golden"] = {"good": ["good.png"], "bad": ["bad.png"]}
    station.write()
    assert load_recipe(file).hash == before
