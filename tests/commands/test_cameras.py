"""`edge-agent cameras`: what it finds, in a form that the settings take; and `edge-agent trigger`, the short form."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import msgspec
import pytest
import yaml
from aravis import LIBRARY, Host
from fake_v4l2 import FakeKernel
from stations import Program

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.gige_discovery import discover
from edge_agent.camera_settings import CameraSettings
from edge_agent.commands import cameras
from edge_agent.errors import CameraError
from edge_agent.simulator import SimulatedCamera

ADDRESS, OTHER = (f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{last}" for last in (251, 252))
KEYS = {"kind", "address", "serial", "vendor", "model", "settings"}


def has_aravis() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


needs_aravis = pytest.mark.skipif(not has_aravis(), reason=f"needs the Aravis library {LIBRARY} (Debian: libaravis-0.8-0)")


def as_settings(line: str) -> CameraSettings:
    """The settings that the pasted line is."""
    return msgspec.convert(yaml.safe_load(line), CameraSettings)  # type: ignore[return-value]


@pytest.fixture
def no_aravis(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise CameraError("libaravis-0.8.so.0: no such file. Install Aravis")

    monkeypatch.setattr(cameras, "library", absent)


@needs_aravis
def test_one_camera_is_asked_by_its_address(edge_agent: Program) -> None:
    with SimulatedCamera(ADDRESS, serial="S 7:x") as camera:
        told = edge_agent("cameras", "--json", "--address", ADDRESS, timeout_s=20)
        shown = edge_agent("cameras", "--address", ADDRESS, timeout_s=20)
        assert not camera.is_acquiring
    assert told.returncode == 0, told.stderr
    (found,) = json.loads(told.stdout)["cameras"]
    assert found.keys() == KEYS
    assert (found["kind"], found["address"], found["serial"]) == ("aravis", ADDRESS, "S 7:x")
    assert found["vendor"] and found["model"]
    pasted = as_settings(found["settings"])
    assert (pasted.address, pasted.width, pasted.height, pasted.trigger) == (ADDRESS, 640, 480, "free_run")
    assert f"  - {found['settings']}\n" in shown.stdout


@needs_aravis
def test_a_camera_that_another_holds_is_listed_and_left_alone(edge_agent: Program) -> None:
    with SimulatedCamera(ADDRESS) as camera:
        camera.hold_control(20.0)
        told = edge_agent("cameras", "--json", "--address", ADDRESS, timeout_s=20)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["cameras"][0]["serial"] == "SIM-1"
    assert f"note: {ADDRESS}: control is denied: another program holds the camera" in told.stderr


@needs_aravis
def test_a_camera_that_a_station_reads_is_said_to_be_held(edge_agent: Program) -> None:
    with SimulatedCamera(ADDRESS), Host(ADDRESS):
        told = edge_agent("cameras", "--json", "--address", ADDRESS, timeout_s=20)
    assert "width: 640, height: 480" in json.loads(told.stdout)["cameras"][0]["settings"]
    assert f"note: {ADDRESS}: control is denied: another program holds the camera" in told.stderr
    assert "the camera lets go after its heartbeat, often 3000 ms" in told.stderr


@needs_aravis
def test_every_address_named_is_asked_and_two_lines_can_be_pasted_together(edge_agent: Program) -> None:
    with SimulatedCamera(ADDRESS, serial="A"), SimulatedCamera(OTHER, serial="A"):
        told = edge_agent("cameras", "--json", "--address", ADDRESS, "--address", OTHER, timeout_s=20)
    pasted = [as_settings(each["settings"]) for each in json.loads(told.stdout)["cameras"]]
    assert [each.address for each in pasted] == [ADDRESS, OTHER]
    assert len({each.name for each in pasted}) == 2


@needs_aravis
def test_the_simulated_camera_and_cameras_tell_the_same_line(edge_agent: Program) -> None:
    words = [sys.executable, "-m", "edge_agent", "simulate-camera", "--address", ADDRESS, "--size", "320x200"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as simulated:
        assert simulated.stdout is not None
        line = simulated.stdout.readline().strip().partition("in the settings: ")[2]
        told = edge_agent("cameras", "--json", "--address", ADDRESS, timeout_s=20)
        simulated.terminate()
    assert json.loads(told.stdout)["cameras"][0]["settings"] == line != ""


@needs_aravis
def test_nobody_at_the_address_is_said(edge_agent: Program) -> None:
    told = edge_agent("cameras", "--address", ADDRESS, timeout_s=20)
    assert told.returncode == 1
    assert f"no camera answers at {ADDRESS}" in told.stderr
    assert discover(ADDRESS, 0.2) is None
    assert edge_agent("cameras", "--address", "belt").returncode == 2


def test_found_or_not_it_ends_well(edge_agent: Program) -> None:
    told = edge_agent("cameras", "--json", timeout_s=30)
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer.keys() == {"cameras", "notes"}
    assert any("--address IP" in note for note in answer["notes"]) or any(each["kind"] == "aravis" for each in answer["cameras"])
    assert all(each.keys() == KEYS for each in answer["cameras"])


def test_without_the_library_usb_cameras_are_listed_all_the_same(no_aravis: None, tmp_path: Path) -> None:
    found, notes = cameras.find_cameras(FakeKernel(tmp_path))
    assert [each.serial for each in found] == ["ABC123"]
    assert as_settings(found[0].settings).serial == "ABC123"
    assert found[0].address.endswith("usb-Maker_Cam_ABC123-video-index0")
    assert len(notes) == 1
    assert "Install Aravis" in notes[0]


def test_the_library_s_absence_is_told_on_stderr(no_aravis: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cameras.run(Namespace(address=None, json=True)) == 0
    told = capsys.readouterr()
    assert "Install Aravis" in told.err
    assert "Install Aravis" in json.loads(told.out)["notes"][0]


def test_two_of_the_same_serial_are_told_apart_by_their_link(no_aravis: None, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.add("video2", "ABC123", "usb-Maker_Cam_ABC123-video-index2")
    kernel.add("video3", "ABC123", "metadata", index=1)
    found, _ = cameras.find_cameras(kernel)
    assert [as_settings(each.settings).by_id for each in found] == [
        "usb-Maker_Cam_ABC123-video-index0",
        "usb-Maker_Cam_ABC123-video-index2",
    ]
    assert len({as_settings(each.settings).name for each in found}) == 2


def test_what_captures_nothing_is_left_out_and_what_may_not_be_opened_is_noted(no_aravis: None, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.capabilities = k.CAP_STREAMING
    assert cameras.find_cameras(kernel)[0] == []
    kernel.errors[k.VIDIOC_QUERYCAP] = 13
    found, notes = cameras.find_cameras(kernel)
    assert len(found) == 1
    assert "Permission denied" in notes[-1] and "group video" in notes[-1]
    assert kernel.files == {}


@pytest.mark.parametrize("serial", ["007", "1e5", "yes", 'a"b', "x: y", "0x10"])
def test_a_serial_number_stays_text_in_the_settings(no_aravis: None, tmp_path: Path, serial: str) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.add("video4", serial, "link")
    found, _ = cameras.find_cameras(kernel)
    assert as_settings(found[1].settings).serial == serial


@pytest.mark.parametrize("address", ["belt", "::1"])
def test_what_no_camera_has_for_an_address_is_refused(within: Program, address: str) -> None:
    got = within("cameras", "--address", address)
    assert (got.returncode, got.stderr.count(f"--address {address} is no IPv4 address")) == (2, 1)


def test_trigger_says_what_control_trigger_says(edge_agent: Program, tmp_path: Path) -> None:
    nowhere = ("--connect", f"ipc://{tmp_path}/nobody", "--line", "line")
    short, long = edge_agent("trigger", "P1", *nowhere), edge_agent("control", "trigger", "P1", *nowhere)
    assert short.returncode == long.returncode == 1
    assert short.stderr == long.stderr != ""
