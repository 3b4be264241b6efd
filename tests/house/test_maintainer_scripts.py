"""The package's maintainer scripts in a root of their own: what ran runs again and nothing else, and a site's own stays. The
distribution's programs say that they were called, and systemctl tells the states it is given; tests/service runs the scripts by
dpkg under a real systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm", "sysctl", "deb-systemd-helper", "deb-systemd-invoke")
FOLDERS = ("/run/", "/var/lib/", "/opt/", "/etc/", "/usr/lib/systemd/", "/usr/share/edge-agent/", "/usr/sbin/")
STATION, COLLECTOR = "edge-agent.service", "edge-agent-collector.service"
START, START_COLLECTOR, STOP = f" start {STATION}", f" start {COLLECTOR}", f"deb-systemd-invoke stop {STATION}"
FIRST, LATER = ("configure", ""), ("configure", "1")
UNITS = """
for unit; do :; done
case "$*" in
*ActiveState*) cat ROOT/active/$unit 2>/dev/null || echo inactive ;;
*is-enabled*) [ -e ROOT/enabled/$unit ] ;;
esac
"""


class Machine:
    """A folder that the scripts take for the machine, on which systemd runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "var/lib/edge-agent/models"
        self.settings = root / "etc/edge-agent/station.yaml"
        self.told = ""
        folders = (
            "run/systemd/system opt/edge-agent bin usr/lib/systemd usr/sbin active enabled etc/systemd/system usr/share/edge-agent"
        )
        for folder in (self.models, self.settings.parent, *(root / each for each in folders.split())):
            folder.mkdir(parents=True)
        for program in (*PROGRAMS, "../usr/lib/systemd/systemd-sysctl"):
            answers = UNITS.replace("ROOT", str(root)) if program == "systemctl" else ""
            self._write(root / "bin" / program, f'echo "{Path(program).name} $*" >>{root}/called\n{answers}')
        for file in (self.settings, root / "usr/share/edge-agent/station.yaml"):
            file.write_text("station: example\n")
        self.runs(STATION, "active")
        self.runs(COLLECTOR, "active")

    def _write(self, file: Path, text: str) -> None:
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)

    def runs(self, unit: str, state: str) -> None:
        (self.root / "active" / unit).write_text(state)

    def enable(self, unit: str) -> None:
        (self.root / "enabled" / unit).touch()

    def forbid_starts(self) -> None:
        self._write(self.root / "usr/sbin/policy-rc.d", "exit 101\n")

    def mask(self) -> None:
        """What deb-systemd-helper does when the package is removed."""
        (self.root / "etc/systemd/system" / STATION).symlink_to("/dev/null")

    def run(self, script: str, *words: str) -> str:
        """Run it as dpkg does; what it called. `told` is what it said."""
        text = (ROOT / "systemd" / "debian" / script).read_text()
        for folder in FOLDERS:
            text = text.replace(f" {folder}", f" {self.root}{folder}").replace(f'"{folder}', f'"{self.root}{folder}')
            text = text.replace(f">{folder}", f">{self.root}{folder}")
        removed = [word.strip('"') for line in text.splitlines() if "rm -" in line for word in line.split() if "/" in word]
        assert all(word.startswith(str(self.root)) for word in removed), removed
        called = self.root / "called"
        called.write_text("")
        path = f"{self.root}/bin:{os.environ['PATH']}"
        result = subprocess.run(["sh", "-c", text, script, *words], env={"PATH": path}, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        self.told = result.stdout
        return called.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("upgrade", "2"), ("abort-upgrade", "2")),
        (("remove",), ("abort-remove",)),
        (("deconfigure", "in-favour", "x", "1"), ("abort-deconfigure", "in-favour", "x", "1")),
    ],
)
def test_what_was_stopped_runs_again_when_the_operation_fails(
    machine: Machine, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    assert STOP in machine.run("prerm", *before)
    called = machine.run("postinst", *after)
    assert START in called
    assert START_COLLECTOR in called
    assert "systemd-sysusers" not in called
    called = machine.run("postinst", *after)
    assert START not in called
    assert START_COLLECTOR not in called


@pytest.mark.parametrize("state", ["active", "activating", "reloading"])
def test_an_upgrade_starts_what_ran(machine: Machine, state: str) -> None:
    machine.runs(STATION, state)
    machine.settings.write_text("station: hall7\n")
    machine.run("prerm", "upgrade", "2")
    called = machine.run("postinst", *LATER)
    assert f"systemctl --quiet{START}" in called, "started by hand and disabled, it is started, too"
    assert f"systemctl --quiet{START_COLLECTOR}" in called
    assert "not started" not in machine.told


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating"])
def test_an_upgrade_leaves_alone_what_did_not_run(machine: Machine, state: str) -> None:
    for unit in (STATION, COLLECTOR):
        machine.enable(unit)
        machine.runs(unit, state)
    machine.run("prerm", "upgrade", "2")
    called = machine.run("postinst", *LATER)
    assert START not in called
    assert START_COLLECTOR not in called
    assert "sudo systemctl start edge-agent" in machine.told


def test_an_upgrade_that_failed_halfway_still_knows_what_ran(machine: Machine) -> None:
    machine.run("prerm", "upgrade", "2")
    machine.runs(STATION, "inactive")
    machine.run("prerm", "upgrade", "2")
    assert machine.run("postinst", *LATER).count(START) == 1
    assert START not in machine.run("prerm", "upgrade", "3") + machine.run("postinst", *LATER)


def test_an_upgrade_starts_nothing_where_the_policy_forbids_it(machine: Machine) -> None:
    machine.forbid_starts()
    machine.run("prerm", "upgrade", "2")
    called = machine.run("postinst", *LATER)
    assert START not in called
    assert START_COLLECTOR not in called


def test_a_first_installation_starts_the_safe_example(machine: Machine) -> None:
    called = machine.run("postinst", *FIRST)
    assert START in called
    assert START_COLLECTOR not in called
    assert "What to do next" in machine.told


@pytest.mark.parametrize("version", [FIRST, LATER])
def test_settings_that_are_there_already_start_no_line(machine: Machine, version: tuple[str, str]) -> None:
    machine.run("prerm", "remove")
    machine.run("postrm", "remove")
    machine.mask()
    machine.settings.write_text("station: hall7\nlines: [{mode: online}]\n")
    machine.enable(STATION)
    machine.enable(COLLECTOR)
    called = machine.run("postinst", *version)
    assert START not in called
    assert START_COLLECTOR in called
    assert "sudo systemctl start edge-agent" in machine.told


def test_an_upgrade_from_a_package_without_a_list_starts_the_station_and_an_enabled_collector(machine: Machine) -> None:
    machine.settings.write_text("station: hall7\n")
    called = machine.run("postinst", *LATER)
    assert START in called
    assert START_COLLECTOR not in called
    machine.enable(COLLECTOR)
    assert START_COLLECTOR in machine.run("postinst", *LATER)


def test_the_kernels_limits_are_set_in_their_order(machine: Machine) -> None:
    called = machine.run("postinst", *FIRST)
    assert "systemd-sysctl --prefix=/net/core/rmem_max" in called
    assert "sysctl -q -p" not in called


def test_removing_takes_links_and_leaves_a_sites_folder(machine: Machine) -> None:
    (machine.models / "demo-texture").mkdir()
    (machine.models / "demo-texture" / "model.onnx").write_text("the site's")
    (machine.models / "magnetic-tile").symlink_to("/usr/share/edge-agent/models/magnetic-tile")
    machine.run("prerm", "remove")
    machine.run("postrm", "remove")
    assert (machine.models / "demo-texture" / "model.onnx").exists()
    assert not (machine.models / "magnetic-tile").is_symlink()
    assert not (machine.root / "opt/edge-agent").exists()
    assert not list((machine.root / "run").glob("edge-agent*"))


def test_purging_takes_everything_and_says_what(machine: Machine) -> None:
    store = machine.models.parent / "collector"
    store.mkdir()
    machine.run("postrm", "purge")
    for gone in (store, machine.models, machine.settings.parent):
        assert not gone.exists()
        assert f"deletes {gone}, " in machine.told
    machine.run("postrm", "purge")
    assert machine.told == ""


def test_a_disk_that_is_mounted_below_fails_no_purge(machine: Machine) -> None:
    """rm empties it, says that it is busy, and fails."""
    machine._write(machine.root / "bin/rm", '/bin/rm "$@"\nexit 1\n')
    machine.run("postrm", "purge")
    assert "unmount it, then remove the folder" in machine.told
    assert "systemctl --system daemon-reload" in (machine.root / "called").read_text()
