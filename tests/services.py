"""A systemctl for the PATH that tells of edge-agent.service as the real one does: what the shipped unit says, and changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from stations import ROOT

Tell = Callable[..., None]


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """`systemctl(settings, User="nobody", ...)`: from now on the unit is installed, with these settings and changes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def tell(settings: Path, **changes: str) -> None:
        unit = dict.fromkeys(("MainPID", "BindPaths", "BindReadOnlyPaths", "Group", "AmbientCapabilities"), "")
        for line in (ROOT / "systemd" / "edge-agent.service").read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                unit[key] = value
        command = unit["ExecStart"].replace("/etc/edge-agent/station.yaml", str(settings))
        unit |= {
            "LoadState": "loaded",
            "MainPID": "0",
            "User": "nobody",
            "ExecStart": f"{{ path={command.split()[0]} ; argv[]={command} ; ignore_errors=no ; pid=0 ; status=0/0 }}",
        }
        (folder / "told").write_text("".join(f"{key}={value}\n" for key, value in (unit | changes).items()))
        script = folder / "systemctl"
        script.write_text(f'#!/bin/sh\n[ "$1" = show ] && exec cat {folder}/told\n')
        script.chmod(0o755)

    return tell
