"""`edge-agent simulate-camera`: its words, its end, its truth, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from stations import Program

from edge_agent.commands.simulate_camera import _serial_of

ADDRESS = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.253"


def test_it_says_when_it_is_ready_and_how_to_use_it(edge_agent: Program, tmp_path: Path) -> None:
    done = edge_agent(
        *("simulate-camera", "--address", ADDRESS, "--size", "320x200", "--trigger-rate", 100, "--serial", "S-7"),
        *("--seconds", 0.5, "--truth", "truth.jsonl"),
    )
    assert done.returncode == 0, done.stderr
    ready, stopped = done.stdout.splitlines()
    told, settings = ready.split("; in the settings: ")
    assert told == "camera S-7, 320x200, is ready"
    assert yaml.safe_load(settings) == {
        "name": "simulated-camera-s-7",
        "kind": "aravis",
        "address": ADDRESS,
        "width": 320,
        "height": 200,
        "trigger": "hardware",
        "counter": "Counter0",
    }
    truths = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert 20 < len(truths) < 60
    assert stopped == (
        f"camera stopped: {len(truths)} triggers, 0 packets_lost, 0 resend_commands, 0 packets_resent, {len(truths)} unarmed"
    )
    assert [truth["trigger"] for truth in truths] == list(range(1, len(truths) + 1))
    assert {truth["fate"] for truth in truths} == {"unarmed"}  # no host
    now_us = time.time_ns() // 1000
    assert all(now_us - 60e6 < truth["trigger_time_us"] <= now_us for truth in truths)


def test_cameras_at_two_addresses_have_two_serial_numbers() -> None:
    addresses = ("127.0.0.2", "127.0.0.3", "127.0.1.2", "192.168.100.200", "192.168.100.201")
    serials = [_serial_of(address) for address in addresses]
    assert serials[0] == "SIM-2"
    assert len(set(serials)) == len(addresses)
    assert all(len(serial) < 16 for serial in serials)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "simulate-camera", "--address", ADDRESS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "is ready" in process.stdout.readline()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    assert rest.startswith("camera stopped: 0 triggers")
    assert process.returncode == 0


def test_images_give_the_sensor_its_size(edge_agent: Program, tmp_path: Path) -> None:
    for n, size in enumerate([(40, 60), (80, 60)]):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full(size, n, np.uint8))
    done = edge_agent("simulate-camera", "--address", ADDRESS, "--images", tmp_path, "--seconds", 0.1)
    assert "60x40, is ready" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--address", "8.8.8.8"], 78, "address 8.8.8.8 is not this machine's"),
        (["--address", "belt"], 2, "--address belt is no IPv4 address"),
        (["--address", "0.0.0.0"], 2, "--address 0.0.0.0: a camera has one address"),
        (["--size", "4x4"], 2, "--size 4x4 is no width and height from 8x1 to 16384x16384"),
        (["--faults", "loss=2"], 2, "`loss=2`: 2 is no number from 0 to 1"),
        (["--serial", "x" * 16], 2, "1 to 15 ASCII characters"),
        (["--truth", "none/truth.jsonl"], 78, "--truth none/truth.jsonl cannot be written: No such file"),
        (["--images", "none"], 78, "the image folder none does not exist"),
    ],
)
def test_what_it_refuses_it_names(edge_agent: Program, words: list[str], code: int, told: str) -> None:
    done = edge_agent("simulate-camera", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_in_use_is_told(edge_agent: Program) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((ADDRESS, 3956))
        done = edge_agent("simulate-camera", "--address", ADDRESS)
    assert done.returncode == 1
    assert f"address {ADDRESS}: port 3956" in done.stderr
    assert "in use by another program" in done.stderr
