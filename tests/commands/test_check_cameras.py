"""What `edge-agent check` says of a machine that cannot serve a station's Aravis cameras well, or not at all."""

from __future__ import annotations

import argparse
import configparser
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stations import ROOT, Program, StationFolder

from edge_agent import strictyaml
from edge_agent.commands import check
from edge_agent.commands.doctor import cameras as module
from edge_agent.commands.doctor.cameras import Machine, check_cameras, frame_bytes
from edge_agent.errors import Problem
from edge_agent.settings import load_station

WELL = Machine(lacks_library="", rmem_max=32 << 20, has_net_raw=True)
SIZE = {"width": 2448, "height": 2048}
DROP_IN = "/usr/share/doc/edge-agent/systemd/examples/packet-socket.conf"
SMALL, BARE = Machine("", 9_000_000, True), Machine("", 32 << 20, False)
WITHOUT = Machine("libaravis-0.8.so.0: no such file. Install Aravis: sudo apt-get install -y libaravis-0.8-0", 32 << 20, True)


def look(station: StationFolder, machine: Machine, **camera: Any) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of a station whose second camera is an Aravis one."""
    station.settings["cameras"][1:] = [{"name": "gige", "kind": "aravis", "address": "10.0.0.2", **camera}]
    file = station.write()
    return check_cameras(load_station(file), strictyaml.read(file), machine)


@pytest.mark.parametrize(
    ("machine", "camera", "key", "words"),
    [
        (SMALL, SIZE, "cameras.1", ["5013504 bytes", "9000000", "net.core.rmem_max=10027008 | sudo tee /etc/sysctl.d/"]),
        (WELL, {}, "cameras.1", ["no width and height", str(32 << 20)]),
        (BARE, {**SIZE, "socket": "packet"}, "cameras.1.socket", ["CAP_NET_RAW", "setcap", "this process", DROP_IN]),
        (WELL, {**SIZE, "trigger": "hardware"}, "cameras.1.trigger", ["unverified", "counter: Counter0"]),
        (WELL, {**SIZE, "counter": "Counter0"}, "cameras.1.counter", ["Counter0", "free_run", "trigger: hardware"]),
    ],
)
def test_what_a_machine_lacks_is_a_warning_with_its_remedy(
    station: StationFolder, machine: Machine, camera: dict[str, Any], key: str, words: list[str]
) -> None:
    problems, (warning,) = look(station, machine, **camera)
    assert not problems
    assert warning.key == key
    assert warning.line > 1
    assert warning.remedy
    for word in words:
        assert word in str(warning)


@pytest.mark.parametrize(
    ("machine", "camera"),
    [
        (WELL, SIZE),
        (BARE, {**SIZE, "socket": "auto"}),
        (WELL, {**SIZE, "trigger": "hardware", "counter": "Counter0"}),
        (WELL, {**SIZE, "trigger": "software", "socket": "packet"}),
        (Machine("", 2 * 2448 * 2048, True), SIZE),
        (Machine("", 0, True), SIZE),
    ],
)
def test_a_machine_that_serves_gets_no_word(station: StationFolder, machine: Machine, camera: dict[str, Any]) -> None:
    assert look(station, machine, **camera) == ([], [])


def shown(*files: str, **changes: str) -> str:
    """What `systemctl show` says of the unit and its drop-ins, as far as asked: a list adds up, of the rest the last counts."""
    told = {"LoadState": "loaded", "AmbientCapabilities": "", "PrivateUsers": "no", "RestrictAddressFamilies": ""}
    for file in files:
        for line in (ROOT / "systemd" / file).read_text().splitlines():
            key, _, value = line.partition("=")
            if key in told:
                told[key] = f"{told[key]} {value}".strip() if key == "RestrictAddressFamilies" else value
    told["AmbientCapabilities"] = told["AmbientCapabilities"].lower()
    return "".join(f"{key}={value}\n" for key, value in (told | changes).items())


UNIT, PACKET = "edge-agent.service", "examples/packet-socket.conf"


@pytest.mark.parametrize(
    ("told", "may"),
    [
        ("", None),
        (shown(LoadState="not-found"), None),
        (shown(UNIT), False),
        (shown(UNIT, AmbientCapabilities="cap_net_raw"), False),  # the capability alone, in a user namespace and without AF_PACKET
        (shown(UNIT, PACKET, PrivateUsers="yes"), False),
        (shown(UNIT, PACKET), True),
        (shown(AmbientCapabilities="cap_net_raw"), True),
        (shown(AmbientCapabilities="cap_net_raw", RestrictAddressFamilies="~AF_PACKET"), False),
    ],
)
def test_the_service_may_open_a_packet_socket_with_the_whole_drop_in(told: str, may: bool | None) -> None:
    assert module.may_unit_open(told) is may


def test_what_is_said_of_the_service_is_told_as_the_services(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "show", lambda *_: shown(UNIT))
    machine = replace(WELL, has_net_raw=module.this_machine().has_net_raw, whose=module.this_machine().whose)
    _, (warning,) = look(station, machine, **SIZE, socket="packet")
    assert "the service edge-agent has it not" in warning.message


def test_two_cameras_that_are_the_same_one_are_a_problem(station: StationFolder) -> None:
    same = {"kind": "aravis", "address": "10.0.0.2", **SIZE}
    station.settings["cameras"][1:] = [{"name": "left", **same}, {"name": "right", **same}]
    file = station.write()
    (problem,), _ = check_cameras(load_station(file), strictyaml.read(file), WELL)
    assert problem.key == "cameras.2.address"
    assert "10.0.0.2, as is that of left" in problem.message and "right" in problem.remedy


def test_a_link_that_is_not_there_is_a_warning_with_what_is(
    station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warnings() -> list[Problem]:
        return check_cameras(load_station(file), strictyaml.read(file), WELL)[1]

    monkeypatch.setattr(module, "_BY_ID", tmp_path / "by-id")
    station.settings["cameras"][1:] = [{"name": "usb", "kind": "v4l2", "by_id": "usb-Mine-index0"}]
    file = station.write()
    (warning,) = warnings()
    assert warning.key == "cameras.1.by_id"
    assert "by-id does not exist" in warning.message and "edge-agent cameras" in warning.remedy
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-Other-index0").touch()
    assert "by-id has usb-Other-index0" in warnings()[0].message
    (tmp_path / "by-id" / "usb-Mine-index0").touch()
    assert warnings() == []


def test_without_the_library_an_aravis_camera_is_impossible(station: StationFolder) -> None:
    (problem,), _ = look(station, WITHOUT, **SIZE)
    assert problem.key == "cameras.1.kind"
    assert "apt-get install -y libaravis-0.8-0" in str(problem)
    station.settings["cameras"][1:] = []
    file = station.write()
    assert check_cameras(load_station(file), strictyaml.read(file), WITHOUT) == ([], [])


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [
        ("Mono8", 800),
        ("Mono12", 1600),
        ("Mono12Packed", 1200),
        ("Mono10Packed", 1200),
        ("Mono10p", 1000),
        ("RGB8", 2400),
        ("RGB8Packed", 2400),
        ("?", 1600),
    ],
)
def test_a_frame_has_the_bytes_of_its_format(pixel_format: str, expected: int) -> None:
    assert frame_bytes(40, 20, pixel_format) == expected


def test_notes_are_told_and_the_exit_code_is_that_of_the_problems(
    station: StationFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    station.settings["cameras"] = [{"name": "camera", "kind": "aravis", "address": "10.0.0.2", "trigger": "hardware", **SIZE}]
    station.recipe["regions"] = [{"name": "whole", "prepare": "resize"}]
    file = station.write()

    def examine(machine: Machine, *words: str) -> tuple[int, str]:

        monkeypatch.setattr(check, "this_machine", lambda: machine)
        parser = argparse.ArgumentParser()
        check.add_arguments(parser)
        code = check.run(parser.parse_args(["--config", str(file), "--files", *words]))
        return code, capsys.readouterr().out

    code, told = examine(WELL, "--json")
    answer = json.loads(told)
    assert (code, answer["ok"], answer["problems"]) == (0, True, [])
    assert [warning["key"] for warning in answer["warnings"]] == ["cameras.0.trigger"]
    code, told = examine(WELL)
    assert code == 0
    assert f"note    files  {file}:" in told and "no problem found, 1 note" in told
    code, told = examine(WITHOUT, "--json")
    assert (code, json.loads(told)["ok"]) == (78, False)


def test_a_station_without_such_cameras_has_no_warnings(edge_agent: Program, station: StationFolder) -> None:
    station.add_images([])
    told = json.loads(edge_agent("check", "--config", station.write(), "--json").stdout)
    assert told["warnings"] == []


def test_the_shipped_limits_hold_two_frames_of_five_megapixels() -> None:
    parser = configparser.ConfigParser()
    parser.read_string("[limits]\n" + Path(ROOT / "config" / "sysctl" / "60-edge-agent.conf").read_text())
    limits = {key: int(value) for key, value in parser["limits"].items()}
    assert limits.keys() == {"net.core.rmem_max", "net.core.rmem_default"}
    assert limits["net.core.rmem_max"] >= 2 * 2448 * 2048
    assert limits["net.core.rmem_default"] <= limits["net.core.rmem_max"]
