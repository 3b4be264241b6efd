"""systemd/alarm.sh as systemd runs it: what it tells the journal and the site's hook, by systemd's own words or by systemctl's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "systemd" / "alarm.sh"
HANDED_OVER = {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "78"}


class Alarm:
    """A machine of which systemctl tells `result` and `status`, with a hook that writes down what it is given."""

    def __init__(self, folder: Path) -> None:
        self.hook, self.heard = folder / "alarm", folder / "heard"
        self.hook.write_text(f'#!/bin/sh\necho "$@" >{self.heard}\n')
        self.hook.chmod(0o755)
        self.folder = folder
        self.shows("success", "0")

    def shows(self, result: str, status: str) -> None:
        program = self.folder / "systemctl"
        program.write_text(f'#!/bin/sh\ncase "$*" in *Result*) echo {result} ;; *ExecMainStatus*) echo {status} ;; esac\n')
        program.chmod(0o755)

    def rings(self, unit: str = "edge-agent.service", **environment: str) -> str:
        """What it says; the hook's arguments are in `heard`."""
        text = SCRIPT.read_text().replace("/etc/edge-agent/alarm", str(self.hook))
        environment["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-c", text, "alarm", unit], env=environment, capture_output=True, text=True, check=True)
        return done.stderr


@pytest.fixture
def alarm(tmp_path: Path) -> Alarm:
    return Alarm(tmp_path)


def test_what_systemd_hands_over_counts_also_where_the_unit_runs_again(alarm: Alarm) -> None:
    told = alarm.rings(**HANDED_OVER)
    assert told.startswith("<1>edge-agent.service has failed and is not started again by itself: exit-code, status 78.")
    assert "will never work" in told
    assert alarm.heard.read_text() == "edge-agent.service exit-code\n"


def test_an_older_systemd_is_asked(alarm: Alarm) -> None:
    alarm.shows("watchdog", "6")
    assert ": watchdog, status 6." in alarm.rings()
    assert alarm.heard.read_text() == "edge-agent.service watchdog\n"


def test_a_unit_that_failed_never_has_success(alarm: Alarm) -> None:
    told = alarm.rings("edge-agent")
    assert ": unknown, status unknown." in told
    assert "tried by hand" in told
    assert alarm.heard.read_text() == "edge-agent.service unknown\n"


def test_a_hook_that_cannot_run_or_fails_is_told(alarm: Alarm) -> None:
    alarm.hook.chmod(0o644)
    assert f"<3>the hook {alarm.hook} is not executable, and did not run: sudo chmod +x {alarm.hook}" in alarm.rings(**HANDED_OVER)
    assert not alarm.heard.exists()
    alarm.hook.write_text("#!/bin/sh\nexit 3\n")
    alarm.hook.chmod(0o755)
    assert f"<3>the hook {alarm.hook} ended with 3" in alarm.rings(**HANDED_OVER)
    alarm.hook.unlink()
    assert "hook" not in alarm.rings(**HANDED_OVER)
