"""systemd/debian/build.sh before and after the long part of it; tests/service builds and installs the package."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from edge_agent import __version__

BUILD = Path(__file__).parents[2] / "systemd" / "debian" / "build.sh"


@pytest.mark.parametrize("version", ["9.9.9", f"{__version__}1", f"1:{__version__}"])
def test_a_package_of_another_version_than_the_programs_is_refused(version: str) -> None:
    done = subprocess.run(
        [BUILD], env={**os.environ, "DEB_VERSION": version, "DEB_PYTHON": "/bin/false"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"DEB_VERSION={version}" in done.stderr
    assert f"{__version__}-1" in done.stderr


def test_another_packaging_of_the_version_is_built() -> None:
    """As far as the Python that it is given, which is none."""
    env = {**os.environ, "DEB_VERSION": f"{__version__}+site2", "DEB_PYTHON": "/bin/false"}
    done = subprocess.run([BUILD], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs Python 3.10" in done.stderr


def test_the_builders_umask_closes_no_file_of_the_package(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\numask >{tmp_path}/umask\nexit 1\n")
    python.chmod(0o755)
    done = subprocess.run([BUILD], env={**os.environ, "DEB_PYTHON": str(python)}, capture_output=True, check=False, umask=0o077)
    assert done.returncode == 1
    assert (tmp_path / "umask").read_text() == "0022\n"


def test_older_packages_of_the_architecture_make_room(tmp_path: Path) -> None:
    (line,) = re.findall(r"^rm -f out/.*$", BUILD.read_text(), re.M)
    assert BUILD.read_text().index(line) < BUILD.read_text().index("dpkg-deb --root-owner-group")
    (tmp_path / "out").mkdir()
    for name in ("edge-agent_0.0.9_amd64.deb", "edge-agent_0.1.0-2_amd64.deb", "edge-agent_0.0.9_arm64.deb", "report.md"):
        (tmp_path / "out" / name).touch()
    subprocess.run(["sh", "-c", line], env={**os.environ, "arch": "amd64"}, cwd=tmp_path, check=True)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["edge-agent_0.0.9_arm64.deb", "report.md"]
