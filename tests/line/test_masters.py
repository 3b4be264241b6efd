"""Stored pictures of master parts through the whole daemon, while parts of the production run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from bright import gray, with_defect
from running import wait_until
from simulation import ask
from stations import Program, StationFolder

from edge_agent.commands.doctor.station import _of_lines
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError
from edge_agent.masters import MasterPictures
from edge_agent.pictures import read_gray
from edge_agent.records import Pixels
from edge_agent.settings import ChallengeSettings, MasterPart, load_station
from edge_agent.wire import Request, Verdict

Images = Callable[[int], list[np.ndarray]]


def masters(station: StationFolder, bad: np.ndarray) -> None:
    cv2.imwrite(str(station.folder / "bad.png"), bad)
    cv2.imwrite(str(station.folder / "good.png"), gray())
    parts: list[dict[str, Any]] = [
        {"name": "bad1", "expect": "NG", "reasons": ["blob_count"], "image": "bad.png"},
        {"name": "good1", "expect": "PASS", "image": "good.png"},
    ]
    station.settings["lines"][0]["challenge"] = {"parts": parts}


@pytest.mark.parametrize(("bad", "state"), [(with_defect(gray(), 10, 20, 8, 6), "Ready"), (gray(), "Error")])
def test_pictures_of_master_parts_prove_the_line_while_it_runs(station: StationFolder, bad: np.ndarray, state: str) -> None:
    station.add_images([gray()])
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    masters(station, bad)
    settings = load_station(station.write())
    daemon = Daemon(settings)
    verdicts: list[Verdict] = []
    daemon.publisher.on_verdict = verdicts.append
    daemon.start()
    try:
        wait_until(lambda: len(verdicts) > 2, 30)
        assert ask(settings.settings.plc.control, Request(op="challenge", line="line")).ok
        wait_until(lambda: len([v for v in verdicts if v.challenge]) == 2, 30)
        n = len(verdicts)
        wait_until(lambda: len(verdicts) > n + 2, 30)
        book = daemon.publisher.book.lines["line"]
        assert book.state() == state
    finally:
        summary = daemon.close()
    assert summary["triggers"] == summary["outcomes"] == summary["published"]
    told = {v.challenge: v for v in verdicts if v.challenge}
    assert all(v.shadow for v in told.values())
    assert (told["bad1"].outcome, told["good1"].outcome) == ("NG" if state == "Ready" else "PASS", "PASS")
    after = {v.outcome for v in verdicts[-2:]}
    assert after == ({"PASS"} if state == "Ready" else {"FAULT"})
    if state == "Ready":
        return
    again = Daemon(settings)  # a restart is no way around it
    again.start()
    try:
        assert "bad1" in again.publisher.book.lines["line"].hold
    finally:
        again.close()


def test_a_stop_between_two_master_parts_opens_no_part_that_nobody_would_end(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add_images([gray()])
    station.settings["cameras"][0].update(repeat=True, trigger="software")
    masters(station, with_defect(gray(), 10, 20, 8, 6))
    daemon = Daemon(load_station(station.write()))
    readers: list[threading.Thread] = []

    def read_after_the_end(file: Path) -> Pixels:
        readers.append(threading.current_thread())
        daemon.publisher.thread.join(30)
        return read_gray(file)

    monkeypatch.setattr("edge_agent.masters.read_gray", read_after_the_end)
    daemon.start()
    try:
        assert ask(daemon.station.settings.plc.control, Request(op="challenge", line="line")).ok
        wait_until(lambda: bool(readers))
    finally:
        daemon.close()
    readers[0].join(10)
    book = daemon.publisher.book.lines["line"]
    assert (readers[0].is_alive(), book.triggers, book.open) == (False, 0, 0)


@pytest.mark.parametrize(("bad", "code", "came"), [(with_defect(gray(), 10, 20, 8, 6), 0, "NG"), (gray(), 1, "PASS")])
def test_whoever_waits_is_told_what_came_out(
    station: StationFolder, within: Program, bad: np.ndarray, code: int, came: str
) -> None:
    station.add_images([gray()])
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    masters(station, bad)
    file = station.write()
    daemon = Daemon(load_station(file))
    daemon.start()
    try:
        book = daemon.publisher.book.lines["line"]
        wait_until(lambda: book.state() == "Ready", 30)
        told = within("challenge", "--config", file, "--line", "line", "--wait", 60)
        assert told.returncode == code, told.stdout
        assert f"bad1: {came}" in told.stdout
        assert "good1: PASS, right" in told.stdout
        brought = within("challenge", "--config", file, "--line", "line", "--part", "bad1", "--wait", 60)
        assert (brought.returncode, "bad1: PASS, WRONG" in brought.stdout) == (1, True)
        again = within("challenge", "--config", file, "--line", "line", "--wait", 60)
        assert "do not let the line go" in again.stdout
        assert again.returncode == code
        assert book.state() == "Error"
    finally:
        daemon.close()


@pytest.mark.parametrize("is_reload", [False, True], ids=["recipe", "reload"])
def test_a_recipe_by_which_no_challenge_can_be_passed_is_told(
    station: StationFolder, within: Program, is_reload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add_images([gray()])
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    masters(station, with_defect(gray(), 10, 20, 8, 6))
    file = station.write()
    other = {**station.recipe, "rules": [{"rule": "peak_score", "max": 0.5}], "name": "part" if is_reload else "other"}
    said: list[str] = []
    monkeypatch.setattr("edge_agent.plc.challenge.say", lambda event, **_: said.append(event))
    daemon = Daemon(load_station(file))
    daemon.start()
    try:
        book = daemon.publisher.book.lines["line"]
        wait_until(lambda: book.state() == "Ready", 30)
        assert not said
        (station.folder / "recipes" / f"{other['name']}.yaml").write_text(yaml.safe_dump(other))
        told = within("control", "--config", file, *(["reload"] if is_reload else ["recipe", "other"]))
        assert told.stdout.startswith("ok; no challenge of line line can be passed: master part bad1 has to break 'blob_count'")
        assert "are now called peak_score" in told.stdout
        assert said == ["challenge.unpassable"]
        assert ask(daemon.station.settings.plc.control, Request(op="challenge", line="line")).ok
        wait_until(lambda: book.state() == "Error", 30)
        status = ask(daemon.station.settings.plc.control, Request(op="status")).status
        told_of = status["challenges"]["line"]
        assert told_of["remedy"].startswith("ask for a recipe with the rules that the master parts name")
        assert any("line can pass no challenge" in look.told for look in _of_lines(status))
        station.write()
        within("control", "--config", file, *(["reload"] if is_reload else ["recipe", "part"]))
        told_of = ask(daemon.station.settings.plc.control, Request(op="status")).status["challenges"]["line"]
        assert (told_of["unpassable"], told_of["remedy"][:13]) == ("", "mend the line")
    finally:
        daemon.close()


def test_pictures_belong_to_a_line_of_one_camera(station: StationFolder, images: Images) -> None:
    station.add_images(images(2))
    masters(station, gray())
    line = station.settings["lines"][0]
    line["views"] = [{"name": "top", "camera": line.pop("camera"), "recipe": line.pop("recipe")}]
    with pytest.raises(ConfigurationError, match="has images, which belong to one camera"):
        load_station(station.write())


def test_master_parts_without_room_for_a_thread_are_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is the publisher's thread, which must not end by it."""
    said: list[tuple[str, str]] = []
    monkeypatch.setattr("edge_agent.masters.say", lambda event, *, master, why, **_: said.append((event, why)))
    settings = ChallengeSettings(parts=(MasterPart(name="good1", expect="PASS", image="good.png"),))
    line = SimpleNamespace(book=SimpleNamespace(name="line"))
    pictures = MasterPictures(line, None, settings, Path())  # type: ignore[arg-type]

    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    for _ in range(2):
        pictures.run()
    assert [(event, "raise TasksMax=" in why) for event, why in said] == [("challenge.unjudged", True)] * 2
