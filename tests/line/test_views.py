"""Several cameras look at one part: one outcome, whatever any of them does."""

from __future__ import annotations

import time
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from bright import gray, with_defect
from simulation import ask
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.settings import load_station
from edge_agent.wire import Request, Verdict

DEFECT = with_defect(gray(), 10, 20, 8, 6)


class Station:
    """A line with the views top and side, each on a folder of its own, triggered by hand."""

    def __init__(self, station: StationFolder, top: list[np.ndarray], side: list[np.ndarray], **line: Any) -> None:
        for name, frames in (("top", top), ("side", side)):
            (station.folder / name).mkdir()
            for index, frame in enumerate(frames):
                cv2.imwrite(str(station.folder / name / f"{index:04d}.png"), frame)
        station.settings["cameras"] = [
            {"name": name, "kind": "folder", "path": name, "trigger": "software", "repeat": True} for name in ("top", "side")
        ]
        views = [{"name": name, "camera": name, "recipe": name} for name in ("top", "side")]
        station.settings["lines"] = [{"name": "line", "views": views, "frames": 4, **line}]
        station.recipe = {**station.recipe, "name": "top", "deadline_ms": 3000}
        station.write()
        station.recipe = {**station.recipe, "name": "side", "rules": [{"rule": "blob_count", "max": 0}]}
        self.control = station.settings["plc"]["control"]
        self.verdicts: list[Verdict] = []
        self.daemon = Daemon(load_station(station.write()))
        self.daemon.publisher.on_verdict = self.verdicts.append

    def __enter__(self) -> Station:
        self.daemon.start()
        self.wait(lambda: self.daemon.publisher.heartbeat()["lines"]["line"]["state"] == "Ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.summary = self.daemon.close()

    def wait(self, is_true: Any, timeout_s: float = 10) -> None:
        until = time.monotonic() + timeout_s
        while not is_true():
            self.daemon.look_at_views()
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.005)

    def view(self, name: str, part_id: str = "") -> None:
        """Trigger one view alone, as a camera of its own would be."""
        next(line for line in self.daemon.lines if line.book.name == f"line.{name}").grabber.triggers.trigger(part_id)

    def outcomes(self, count: int) -> list[tuple[str, str, tuple[str, ...]]]:
        self.wait(lambda: len(self.verdicts) >= count)
        assert len(self.verdicts) == count
        return [(v.part_id, v.outcome, v.reasons) for v in self.verdicts]


def test_one_trigger_one_outcome_of_both_views(station: StationFolder) -> None:
    with Station(station, [gray(level=150), gray(level=151), DEFECT], [gray(level=150), DEFECT, DEFECT]) as here:
        for index, part_id in enumerate("ABC"):
            assert ask(here.control, Request(op="trigger", line="line", part_id=part_id)).ok
            here.outcomes(index + 1)
        assert here.outcomes(3) == [
            ("A", "PASS", ()),
            ("B", "NG", ("side/blob_count",)),
            ("C", "NG", ("top/blob_count", "top/peak_score", "side/blob_count")),
        ]
    verdict = here.verdicts[2]
    assert [blob.class_name for blob in verdict.blobs] == ["top/defect", "side/defect"]
    assert {finding.rule for finding in verdict.findings} >= {"top/presence", "side/blob_count"}
    assert verdict.recipe == "top+side"
    assert here.summary["triggers"] == here.summary["outcomes"] == here.summary["published"] == 3


def test_a_trigger_that_one_view_cannot_take_opens_no_part(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)]) as here:
        here.daemon.lines[1].grabber.camera.trigger_mode = "free_run"
        reply = ask(here.control, Request(op="trigger", line="line", part_id="A"))
        assert not reply.ok
        assert "camera side runs free" in reply.error
    assert here.summary["triggers"] == 0


def test_views_without_a_part_id_are_joined_by_their_time(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)], join_window_ms=150) as here:
        for _ in range(3):
            here.view("top")
            time.sleep(0.02)
            here.view("side")
            time.sleep(0.25)
        assert [outcome for _, outcome, _ in here.outcomes(3)] == ["PASS"] * 3


def test_a_view_that_does_not_come_is_a_fault(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)], join_window_ms=100) as here:
        here.view("top", "A")
        assert here.outcomes(1) == [("A", "FAULT", ("no_frame",))]
        for name in ("top", "side"):
            here.view(name, "B")
        assert here.outcomes(2)[1] == ("B", "PASS", ())


def test_two_pictures_of_one_view_for_one_part_are_ambiguous(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)], join_window_ms=2000) as here:
        here.view("top")
        here.view("top")
        assert {reasons for _, _, reasons in here.outcomes(2)} == {("ambiguous",)}


def test_a_bad_picture_of_one_view_is_the_parts_fault_and_costs_no_second_outcome(station: StationFolder) -> None:
    with Station(station, [gray(level=10)], [gray(level=150)]) as here:
        assert ask(here.control, Request(op="trigger", line="line", part_id="A")).ok
        assert here.outcomes(1) == [("A", "FAULT", ("no_part",))]
        time.sleep(0.1)
        here.outcomes(1)


def test_the_line_is_ready_when_all_its_views_are(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)]) as here:
        here.daemon.lines[1].book.ready = False
        here.daemon.lines[1].book.why_not_ready = "the cable is out"
        here.daemon.look_at_views()
        line = here.daemon.publisher.heartbeat()["lines"]["line"]
        assert (line["state"], line["why"]) == ("Error", "side: the cable is out")
        refused = ask(here.control, Request(op="recipe", line="line", name="top"))
        assert not refused.ok
        assert "has views" in refused.error


@pytest.mark.parametrize(
    "line", [{"camera": "a"}, {"camera": "a", "recipe": "r", "views": [{"name": "v", "camera": "a", "recipe": "r"}]}, {}]
)
def test_a_line_has_one_camera_or_views(station: StationFolder, line: dict[str, Any]) -> None:
    file = station.write()
    settings = yaml.safe_load(file.read_text()) | {"lines": [{"name": "line", **line}]}
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(Exception, match="either camera and recipe, or views"):
        load_station(file)


def test_a_part_of_several_views_says_what_judges_it_by_now(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=151)]) as here:
        before = here.daemon.publisher.book.lines["line"].identity
        assert before is not None
        side = here.daemon.lines[1]
        side.swap(here.daemon._forge("side", 2, side.guard_ms))
        side.bundle.identity = side.book.identity = msgspec.structs.replace(
            side.bundle.identity, engine_id="came-late", deadline_ms=50
        )
        here.view("top", "A")
        here.view("side", "A")
        here.outcomes(1)
        assert before.engine_id != "came-late"
        assert here.verdicts[0].engine_id == f"{before.engine_id}+came-late"
        line = here.daemon.publisher.book.lines["line"]
        assert line.identity is not None
        assert line.identity.deadline_ms == 50


def test_the_recipe_of_a_line_of_one_view_is_not_changed_either(station: StationFolder) -> None:
    with Station(station, [gray(level=150)], [gray(level=150)]) as here:
        here.daemon._views["line"].pop()
        refused = ask(here.control, Request(op="recipe", line="line", name="side"))
        assert not refused.ok
        assert "has views" in refused.error
