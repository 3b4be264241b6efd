"""The Aravis camera against Aravis's own fake camera: somebody else's idea of GigE Vision, on loopback in a network of its own."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aravis import require_aravis

PROGRAM = "arv-fake-gv-camera-0.8"
DRIVER = Path(__file__).parents[1] / "arv_fake.py"
require_aravis()
if shutil.which(PROGRAM) is None:
    pytest.skip(f"needs {PROGRAM} (Debian: aravis-tools)", allow_module_level=True)


@functools.cache
def own_network() -> tuple[str, ...]:
    """What starts a program in a network namespace of its own; nothing where the system does not let us."""
    words = ("unshare", "-rn")
    if shutil.which(words[0]) is None:
        return ()
    return words if subprocess.run([*words, "true"], capture_output=True, check=False, timeout=10).returncode == 0 else ()


def run(what: str, timeout_s: float) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, (str(DRIVER.parents[1]), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(
        [*own_network(), sys.executable, str(DRIVER), what],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert ended.returncode == 0, ended.stderr
    heard: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return heard


def step(ids: list[int]) -> set[int]:
    """Steps of 16 bit frame ids, which go from 65535 to 1."""
    return {(after - before) % 65_535 for before, after in itertools.pairwise(ids)}


def test_opened_by_address_it_runs_free() -> None:
    heard = run("free_run", 40)
    assert len(heard["ids"]) == 12
    assert step(heard["ids"]) == {1}
    assert (heard["sizes"], heard["lost"]) == ([[128, 128]], 0)


def test_each_software_trigger_gets_its_picture() -> None:
    heard = run("software", 40)
    assert heard["due"] == list("ABCDE")
    assert (len(heard["ids"]), heard["lost"]) == (5, 0)


@pytest.mark.slow
def test_a_camera_that_was_killed_is_noticed_and_opened_again() -> None:
    heard = run("reconnect", 60)
    assert len(heard["before"]["ids"]) == len(heard["after"]["ids"]) == 5
    assert "camera cam" in heard["why"]
    assert heard["noticed_s"] < 8
