"""What the doctor says of a machine and of what the settings name beyond their files: against real peers, held ports, a running
station."""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
import zmq
from stations import ROOT, Program, StationFolder, an_ordinary_user, open_folder

from edge_agent.commands.doctor import machine as doctor_machine
from edge_agent.commands.doctor import station as doctor_station
from edge_agent.commands.doctor.looks import NOTE, PROBLEM, WELL, Look
from edge_agent.daemon import Daemon
from edge_agent.events import EVENTS
from edge_agent.plc import alarms
from edge_agent.plc.counters import FOLDER, LineCounters
from edge_agent.settings import Station, load_station

Images = Callable[[int], list[np.ndarray]]


def loaded(station: StationFolder) -> Station:
    return load_station(station.write())


def by_level(looks: list[Look]) -> list[str]:
    return [look.level for look in looks]


def test_the_machine_is_examined_with_a_remedy_for_every_find(
    edge_agent: Program, within: Program, station: StationFolder, images: Images
) -> None:
    station.add_images(images(2))
    station.settings["cameras"].append({"name": "far", "kind": "video", "url": "http://127.0.0.1:1/stream"})
    result = edge_agent("check", "--config", station.write(), "--json")
    told = json.loads(result.stdout)
    assert (result.returncode, told["ok"], told["problems"]) == (1, False, [])
    assert {look["area"] for look in told["machine"]} >= {"python", "libraries", "gpu", "clock", "disk", "disk speed", "cameras"}
    assert all(look.get("remedy") for look in told["machine"] if look["level"] != WELL), told
    (far,) = [look for look in told["machine"] if look["level"] == PROBLEM]
    assert far["told"].startswith("far: ")
    plain = within("check", "--config", station.folder / "station.yaml")
    assert "PROBLEM cameras" in plain.stdout
    assert "Remedy: look at its cable" in plain.stdout
    assert re.search(r"^1 problem, \d+ notes?$", plain.stdout, re.M)


def test_a_bad_file_weighs_more_than_a_bad_machine(within: Program, station: StationFolder) -> None:
    station.settings["cameras"] = [{"name": "camera", "kind": "video", "url": "http://127.0.0.1:1/stream"}]
    station.recipe["deadline_ms"] = -1
    assert within("check", "--config", station.write()).returncode == 78


def test_without_settings_only_the_machine_is_examined(within: Program) -> None:
    told = json.loads(within("check", "--json").stdout)
    assert {"python", "libraries", "clock"} <= {look["area"] for look in told["machine"]}
    assert not {"ports", "cameras", "collector"} & {look["area"] for look in told["machine"]}


def test_the_libraries_looked_for_are_those_declared() -> None:
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    wanted = {re.split(r"[><=]", line)[0] for line in declared["options"]["install_requires"].split()}
    assert set(doctor_machine.LIBRARIES) == wanted


def test_a_missing_library_is_a_problem(monkeypatch: pytest.MonkeyPatch, station: StationFolder) -> None:
    real = doctor_machine._version
    monkeypatch.setattr(doctor_machine, "_version", lambda name: "" if name in ("apsw", "openvino") else real(name))
    bad = [look for look in doctor_machine.of_libraries(loaded(station)) if look.level == PROBLEM]
    assert [look.told.split()[0] for look in bad] == ["apsw", "openvino"]
    assert bad[0].remedy == "pip install apsw"


class NvmlError(Exception):
    """What NVML raises where there is no driver."""


def no_driver() -> None:
    raise NvmlError("NVML Shared Library Not Found")


NO_DRIVER = SimpleNamespace(NVMLError=NvmlError, nvmlInit=no_driver)
NO_GPU = SimpleNamespace(
    NVMLError=NvmlError, nvmlInit=lambda: None, nvmlSystemGetDriverVersion=lambda: "580.1", nvmlDeviceGetCount=lambda: 0
)


@pytest.mark.parametrize("nvml", [None, NO_DRIVER, NO_GPU])
@pytest.mark.parametrize(("kind", "level"), [("tensorrt", PROBLEM), ("auto", NOTE), ("cpu", WELL)])
def test_without_a_gpu_the_machine_is_as_bad_as_the_engine_makes_it(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch, nvml: Any, kind: str, level: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(doctor_machine, "_GPU_NODES", ())
    monkeypatch.setenv("PATH", "")
    station.settings["engine"] = {"kind": kind}
    look = next(iter(doctor_machine.of_gpu(loaded(station))))
    assert (look.area, look.level) == ("gpu", level), look
    assert bool(look.remedy) == (level != WELL)


def test_a_gpu_whose_driver_tells_nothing_is_a_note(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NO_DRIVER)
    monkeypatch.setattr(doctor_machine, "_GPU_NODES", (tmp_path,))
    station.settings["engine"] = {"kind": "tensorrt"}
    assert next(iter(doctor_machine.of_gpu(loaded(station)))).level == NOTE


@pytest.mark.parametrize(
    ("is_unsynchronized", "error_ms", "level", "word"),
    [(True, 0, NOTE, "not synchronized"), (False, 250, NOTE, "250 ms"), (False, 3.25, WELL, "3.2 ms")],
)
def test_a_clock_that_may_be_wrong_is_a_note(is_unsynchronized: bool, error_ms: float, level: str, word: str) -> None:
    look = doctor_machine.clock_look(is_unsynchronized, error_ms)
    assert look.level == level
    assert word in look.told


def test_the_kernel_is_asked_for_its_clock() -> None:
    (look,) = doctor_machine.of_clock()
    assert look.area == "clock"


def test_the_disk_is_flushed_and_left_as_it_was(station: StationFolder) -> None:
    looks = {look.area: look for look in doctor_machine.of_state(loaded(station))}
    assert re.search(r"at most [\d.]+ ms", looks["disk speed"].told)
    assert looks["disk"].level == WELL
    assert not list(station.folder.glob(".edge-agent-check*"))
    assert not (station.folder / "state").exists()


def test_a_state_folder_that_this_user_may_not_look_into_is_one_note(within: Program, images: Images) -> None:
    station = StationFolder(open_folder())
    station.add_images(images(2))
    file = station.write()
    (station.folder / "state").mkdir(mode=0)
    try:
        with an_ordinary_user():
            machine = json.loads(within("check", "--json", "--config", file).stdout)["machine"]
    finally:
        (station.folder / "state").chmod(0o755)
        shutil.rmtree(station.folder)
    (look,) = [look for look in machine if str(station.folder / "state") in look["told"]]
    assert (look["area"], look["level"], look["remedy"]) == ("state folder", NOTE, "run it with sudo")
    assert "engine" not in {look["area"] for look in machine}


def test_a_disk_too_small_for_the_cap_is_a_note(station: StationFolder) -> None:
    station.settings["uplink"] = {"outbox_cap_mb": 1_000_000}
    looks = {look.area: look for look in doctor_machine.of_state(loaded(station))}
    assert looks["disk"].level == NOTE
    assert "outbox_cap_mb" in looks["disk"].remedy


def test_a_disk_that_refuses_is_a_problem() -> None:
    look = doctor_machine._flush_look(Path("/proc"))
    assert look.level == PROBLEM


def test_ports_are_free_or_held_by_somebody_with_a_name(station: StationFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as another:
        station.settings["plc"]["verdicts"] = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        station.settings["metrics"] = {"port": another.getsockname()[1]}
        verdicts, metrics = doctor_station.of_ports(loaded(station), False)
        assert (verdicts.level, metrics.level) == (PROBLEM, NOTE)  # without metrics parts are judged all the same
        assert "python" in verdicts.told.partition(f"held by process {os.getpid()}: ")[2]
        assert by_level(list(doctor_station.of_ports(loaded(station), True))) == [WELL, WELL]
    assert by_level(list(doctor_station.of_ports(loaded(station), False))) == [WELL, WELL]


def test_an_address_that_no_interface_has_yet_is_a_note(station: StationFolder) -> None:
    station.settings["plc"] = {"verdicts": "tcp://192.0.2.7:5556", "control": "tcp://127.0.0.1:*", "allow_plaintext": True}
    for is_running in (False, True):
        verdicts, *_ = doctor_station.of_ports(loaded(station), is_running)
        assert (verdicts.level, "the station waits for it" in verdicts.told) == (NOTE, True)


def test_a_station_at_every_address_is_seen_running_and_its_ports_held(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        verdicts, control = (f"tcp://*:{each.getsockname()[1]}" for each in (first, second))
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    station.settings["plc"].update(verdicts=verdicts, control=control, allow_plaintext=True)
    settings = loaded(station)
    daemon = Daemon(settings)
    daemon.start()
    try:
        assert doctor_station.of_running(settings)[0]
        assert not {WELL} & {*by_level(list(doctor_station.of_ports(settings, False)))}
    finally:
        daemon.close()
    assert by_level(list(doctor_station.of_ports(settings, False))) == [WELL, WELL]


def test_a_running_station_tells_how_its_lines_are(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    settings = loaded(station)
    assert doctor_station.of_running(settings)[0] is False
    daemon = Daemon(settings)
    daemon.start()
    try:
        is_running, looks = doctor_station.of_running(settings)
        assert is_running
        assert "line line: " in looks[1].told
        station.settings["station"] = "another"
        is_running, (look,) = doctor_station.of_running(loaded(station))
        assert (is_running, look.level) == (False, PROBLEM)
        assert "'test'" in look.told
    finally:
        daemon.close()


def ask_of(station: StationFolder, recipe: str, mode: str) -> None:
    """Leave what a daemon does that was asked for these over the control socket."""
    line = LineCounters(station.folder / "state" / FOLDER / "line", 1)
    line.begin("part", "online")
    line.ask_recipe(recipe)
    line.ask_mode(mode)
    line.close()


def of_station(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(look["level"], look["told"]) for look in told["machine"] if look["area"] == "station" and look["level"] != WELL]


def test_what_was_asked_for_instead_of_the_settings_is_a_note(within: Program, station: StationFolder, images: Images) -> None:
    station.add_images(images(1))
    file = station.write()
    check = partial(within, "check", "--config", file, "--json")
    assert of_station(json.loads(check().stdout)) == []
    other = station.folder / "recipes" / "other.yaml"
    other.write_text((station.folder / "recipes" / "part.yaml").read_text().replace("name: part", "name: other"))
    ask_of(station, "other", "offline")
    was = {each: each.read_bytes() for each in (station.folder / "state").rglob("*") if each.is_file()}
    result = check()
    recipe, mode = of_station(json.loads(result.stdout))
    assert (result.returncode, recipe[0], mode[0]) == (0, NOTE, NOTE)
    assert recipe[1] == "line line judges by recipe other, asked for instead of the settings' part"
    assert mode[1] == "line line is offline, asked for instead of the settings' online"
    assert "recipe other: the model bright as it is" in result.stdout
    assert {each: each.read_bytes() for each in was} == was
    station.settings["lines"][0]["mode"] = "shadow"
    station.write()
    assert [told for _, told in of_station(json.loads(check().stdout))] == [recipe[1]]
    assert within("check", "--config", file, "--files", "--json").stdout.count("other") == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (None, "the file does not exist"),
        ({"deadline_ms": -5}, "deadline_ms"),
        ({"model": {"name": "gone"}}, "gone"),
        ({"classes": {"scratch": {"threshold": 0.5}}}, "'scratch'"),
        ({"golden": {"good": ["../images/0000.png"], "bad": ["gone.png"]}}, "gone.png, which cannot be read"),
    ],
)
def test_a_recipe_asked_for_that_a_start_cannot_use_is_a_problem(
    within: Program, station: StationFolder, images: Images, change: dict[str, Any] | None, why: str
) -> None:
    station.add_images(images(1))
    file = station.write()
    if change is not None:
        (station.folder / "recipes" / "other.yaml").write_text(yaml.safe_dump({**station.recipe, "name": "other", **change}))
    ask_of(station, "other", "online")
    result = within("check", "--config", file, "--json")
    told = json.loads(result.stdout)
    problems = [text for level, text in of_station(told) if level == PROBLEM]
    assert (result.returncode, told["problems"]) == (1, [])
    assert len(problems) == 1, problems
    assert problems[0].startswith("line line: a start would leave it offline, for recipe other cannot be used any more: ")
    assert why in problems[0]


def test_a_line_that_cannot_judge_is_a_problem() -> None:
    line = {"state": "Error", "mode": "online", "recipe": "cap", "seq": 3, "why": "no camera"}
    (look,) = doctor_station._of_lines({"lines": {"one": line}, "alarms": []})
    assert look.level == PROBLEM
    assert "no camera" in look.told
    held = {"one": {"remedy": "bring its master parts"}}
    (look,) = doctor_station._of_lines({"lines": {"one": line}, "alarms": [], "challenges": held})
    assert look.remedy == "bring its master parts"


def test_every_alarm_is_told_with_its_events_meaning_and_remedy(station: StationFolder) -> None:
    """Those that the link's alarms raise, each by the name of the event that it logs."""
    source = ast.parse(inspect.getsource(alarms))
    turns = [node.args for node in ast.walk(source) if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.turn"]
    named = {(ast.literal_eval(turn[2]), ast.unparse(turn[0]).strip("f'").replace("{line}", "one")) for turn in turns}
    assert len(named) == 4
    for event, alarm in named:
        (look,) = doctor_station._of_lines({"lines": {}, "alarms": [alarm]})
        assert look.level == NOTE
        assert f"{alarm}: {EVENTS[event].meaning} (event {event})" in look.told
        assert look.remedy == EVENTS[event].remedy
    (stranger,) = doctor_station._of_lines({"lines": {}, "alarms": ["of_tomorrow"]})
    assert stranger.remedy


def test_a_collector_is_one_that_speaks_zeromq(station: StationFolder) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind("tcp://127.0.0.1:*")
        endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        assert doctor_station.handshake(endpoint) == ""
        assert not router.poll(20), "the doctor said something to the collector"
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        assert doctor_station.handshake(f"tcp://127.0.0.1:{deaf.getsockname()[1]}") is None
    station.settings["uplink"] = {}
    (look,) = doctor_station.of_collector(loaded(station))
    assert look.level == NOTE


def test_cameras_that_are_there_and_not(station: StationFolder, images: Images, tmp_path: Path) -> None:
    station.add_images(images(2))
    (tmp_path / "film.mp4").write_bytes(b"x" * 4096)
    with socket.create_server(("127.0.0.1", 0)) as stream:
        station.settings["cameras"] += [
            {"name": "drawn", "kind": "synthetic"},
            {"name": "film", "kind": "video", "url": "film.mp4"},
            {"name": "stream", "kind": "video", "url": f"rtsp://127.0.0.1:{stream.getsockname()[1]}/x"},
            {"name": "usb", "kind": "v4l2", "by_id": "usb-Nobody-video-index0"},
            {"name": "gige", "kind": "aravis", "address": "127.0.0.1"},
        ]
        looks = list(doctor_station.of_cameras(loaded(station)))
    assert by_level(looks) == [WELL] * 4 + [PROBLEM] * 2
    assert all(look.remedy for look in looks if look.level == PROBLEM)
    assert "2 images" in looks[0].told


def test_a_folder_tells_how_many_images_its_camera_shows(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    (station.images / "more.png").mkdir()
    (station.images / "notes.txt").touch()
    station.settings["cameras"].append({"name": "few", "kind": "folder", "path": "images", "preload": 2})
    all_of_them, few = doctor_station.of_cameras(loaded(station))
    assert "3 images in" in all_of_them.told and "2 images in" in few.told


def test_pictures_that_are_not_there_are_one_find_each(within: Program, station: StationFolder) -> None:
    station.settings["cameras"].append({"name": "film", "kind": "video", "url": "gone.mp4"})
    told = json.loads(within("check", "--json", "--config", station.write()).stdout)
    folder, film = told["problems"]
    assert (folder["key"], film["key"]) == ("cameras.0", "cameras.1")
    assert "images does not exist" in folder["message"] and "folder with images" in folder["remedy"]
    assert "gone.mp4 does not exist" in film["message"] and "video file" in film["remedy"]
    assert not [look for look in told["machine"] if look["area"] == "cameras"]
