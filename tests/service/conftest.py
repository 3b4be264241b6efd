"""One box for all tests of this folder, with the package installed; each test gets it as a plant with a station of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box
from plant import Plant

from edge_agent import __version__

ROOT = Path(__file__).parents[2]
NO_WHEELS = ("No matching distribution", "NewConnectionError", "ConnectTimeoutError", "Read timed out")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900 if "deb" in getattr(item, "fixturenames", ()) else 180))
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    missing = [tool for tool in ("unshare", "nsenter", "dpkg-deb", "/lib/systemd/systemd") if not shutil.which(tool)]
    if os.geteuid() or missing:
        pytest.skip(f"a real systemd in namespaces needs root{' and ' + ', '.join(missing) if missing else ''}")
    try:
        booted = Box(tmp_path_factory.mktemp("box"))
    except RuntimeError as error:
        pytest.skip(str(error))
    yield booted
    booted.close()


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package of this very tree. EDGE_AGENT_DEB names one that is built already."""
    if given := os.environ.get("EDGE_AGENT_DEB"):
        return Path(given)
    if (
        not Path("/usr/bin/python3").exists()
        or subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], check=False).returncode
    ):
        pytest.skip("the distribution's Python has no venv module: no package can be built")
    built = subprocess.run(
        [ROOT / "systemd/debian/build.sh"],
        env={**os.environ, "DEB_COMPRESSION": "-Zzstd -z1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and any(word in built.stderr for word in NO_WHEELS):
        pytest.skip("the wheels cannot be fetched: no package can be built")
    assert built.returncode == 0, built.stderr[-3000:]
    return next((ROOT / "out").glob(f"edge-agent_{__version__}_*.deb"))


@pytest.fixture(scope="session")
def installed(box: Box, deb: Path) -> tuple[Box, str]:
    """The box after `dpkg -i`, and what that said. The daemon is started by it."""
    shutil.copy(deb, box.path("/var/edge-agent.deb"))
    told = box.run("dpkg", "--force-unsafe-io", "-i", "/var/edge-agent.deb", timeout_s=300).stdout
    return box, told


@pytest.fixture
def plant(installed: tuple[Box, str], tmp_path: Path) -> Iterator[Plant]:
    made = Plant(installed[0], tmp_path)
    yield made
    made.clear()
