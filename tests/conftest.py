"""Fixtures of every room's tests."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from bright import gray, with_defect
from stations import Program, StationFolder

from edge_agent import cli, events, logwriter

settings.register_profile("patient", deadline=None)  # two files of tests run at a time, beside whole daemons
settings.load_profile("patient")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # some of these import OpenVINO before the product does
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes are started here: each would compile all it imports anew
# These tests hold whole daemons, sockets and simulated cameras against the clock: on a machine that stood still meanwhile, what is
# right may fail. It is tried once more, shown as R, and fails if it fails again.
AGAINST_THE_CLOCK = {"camera", "collector", "commands", "grabber", "line", "metrics", "plc", "simulator", "supervision", "uplink"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in AGAINST_THE_CLOCK:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture
def station(tmp_path: Path) -> StationFolder:
    return StationFolder(tmp_path)


@pytest.fixture
def images() -> Callable[[int], list[np.ndarray]]:
    """n frames, every third with a defect."""

    def make(n: int) -> list[np.ndarray]:
        return [with_defect(gray(), 10, 20, 8, 6) if i % 3 == 2 else gray() for i in range(n)]

    return make


@pytest.fixture
def edge_agent(tmp_path: Path) -> Program:
    """`edge_agent(*words)` runs the program in a scratch folder and returns its output and exit code."""

    def start(*words: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_agent", *map(str, words)]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    return start


@pytest.fixture
def within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """As `edge_agent`, but in this process, whose libraries are loaded: for what the program does, not how it is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(cli, "configure_logging", lambda level: monkeypatch.setattr(events, "_threshold", logwriter.LEVELS[level]))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # the daemon sets its own, which is undone
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command, out, err = list(map(str, words)), io.StringIO(), io.StringIO()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(err))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(command)
            except SystemExit as ended:  # argparse
                code = int(ended.code or 0)
            finally:
                structlog.reset_defaults()
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
