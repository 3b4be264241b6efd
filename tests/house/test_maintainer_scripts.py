"""The package's maintainer scripts in a root of their own: after a failure the line is started again, and a site's own stays. The
programs of the distribution only say that they were called; tests/service runs the scripts by dpkg under a real systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm", "sysctl", "deb-systemd-helper", "deb-systemd-invoke")
FOLDERS = ("/run/", "/var/lib/", "/opt/", "/etc/", "/usr/lib/systemd/")
START, STOP = "deb-systemd-invoke start edge-agent.service", "deb-systemd-invoke stop edge-agent.service"
COLLECTOR = "deb-systemd-invoke start edge-agent-collector.service"


class Machine:
    """A folder that the scripts take for the machine, on which systemd runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "var/lib/edge-agent/models"
        for folder in (self.models, root / "run/systemd/system", root / "opt/edge-agent", root / "bin", root / "usr/lib/systemd"):
            folder.mkdir(parents=True)
        for program in (*PROGRAMS, "../usr/lib/systemd/systemd-sysctl"):
            file = root / "bin" / program
            file.write_text(f'#!/bin/sh\necho "{file.name} $*" >>{root}/called\n')
            file.chmod(0o755)

    def run(self, script: str, *words: str) -> str:
        """Run it as dpkg does; what it called."""
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
    assert COLLECTOR in called
    assert "systemd-sysusers" not in called
    assert COLLECTOR not in machine.run("postinst", *after)


def test_an_upgrade_starts_what_ran(machine: Machine) -> None:
    machine.run("prerm", "upgrade", "2")
    called = machine.run("postinst", "configure", "1")
    assert START in called
    assert COLLECTOR in called
    assert COLLECTOR not in machine.run("postinst", "configure", "")


def test_the_kernels_limits_are_set_in_their_order(machine: Machine) -> None:
    called = machine.run("postinst", "configure", "")
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
    machine.run("postrm", "purge")
    assert not machine.models.exists()
