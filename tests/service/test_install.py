"""The package: it installs, runs a safe station at once, comes up at boot, and an upgrade keeps what a site changed."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from box import Box, wait_for
from plant import COLLECTOR, UNIT

from edge_agent import __version__

DROP_IN = "/etc/systemd/system/edge-agent.service.d/packet-socket.conf"
SETTINGS = "/etc/edge-agent/station.yaml"
UNIT_FILES = [f"/usr/lib/systemd/system/edge-agent{kind}.service" for kind in ("", "-collector")]


def ready(box: Box) -> bool:
    return "line1 Ready" in box.show(UNIT, "StatusText") and box.show(UNIT, "ActiveState") == "active"


def test_installing_starts_a_safe_station_and_says_what_to_do_next(installed: tuple[Box, str]) -> None:
    box, told = installed
    assert "What to do next" in told
    assert "systemctl status edge-agent" in told
    wait_for(lambda: ready(box), "the example station is ready")
    assert box.run("edge-agent", "--version").stdout.strip() == f"edge-agent {__version__}"
    verdicts = box.run("edge-agent", "watch", "--count", 2, "--timeout", 60).stdout
    assert verdicts.count("(shadow)") == 2
    listening = [line.split()[3] for line in box.run("ss", "-Htln").stdout.splitlines()]
    assert listening
    assert all(address.startswith("127.") for address in listening), listening
    assert box.run("stat", "-c", "%U", "/var/lib/edge-agent/state").stdout.strip() == "edge-agent"
    assert "video" in box.run("id", "-nG", "edge-agent").stdout
    assert box.run("systemctl", "is-enabled", "edge-agent").stdout.strip() == "enabled"
    assert box.run("systemctl", "is-enabled", "edge-agent-collector", check=False).stdout.strip() == "disabled"
    assert box.run("edge-agent", "check", "--config", SETTINGS).returncode == 0


def test_it_comes_up_at_boot(installed: tuple[Box, str]) -> None:
    box, _ = installed
    box.run("chown", "daemon", "/var/lib/edge-agent/pictures")
    box.run("chmod", "775", "/etc/edge-agent/masters")
    box.reboot()
    wait_for(lambda: ready(box), "the station is ready after a boot")
    assert box.show(UNIT, "NRestarts") == "0"
    kept = box.run("stat", "-c", "%U %a", "/var/lib/edge-agent/pictures", "/etc/edge-agent/masters").stdout
    assert kept == "daemon 755\nroot 775\n", "a site's folders are as the site left them"


def test_the_units_are_sound(installed: tuple[Box, str]) -> None:
    installed[0].run("systemd-analyze", "verify", "--man=no", *UNIT_FILES)


def test_the_units_are_hardened(installed: tuple[Box, str]) -> None:
    box, _ = installed
    if "--threshold" not in box.run("systemd-analyze", "--help").stdout:
        pytest.skip("systemd-analyze judges by a threshold from systemd 250 on")
    for unit in UNIT_FILES:
        box.run("systemd-analyze", "security", "--offline=true", "--threshold=16", unit)
    box.run("install", "-D", "/usr/share/doc/edge-agent/systemd/examples/packet-socket.conf", DROP_IN)
    box.run("systemctl", "daemon-reload")
    try:
        box.run("systemd-analyze", "security", "--threshold=22", UNIT)
    finally:
        box.run("rm", DROP_IN)
        box.run("systemctl", "daemon-reload")


def packet_socket(box: Box) -> str:
    """What the doctor says of it."""
    told = json.loads(box.run("edge-agent", "check", "--config", SETTINGS, "--json", check=False).stdout)
    (look,) = [look for look in told["machine"] if look["area"] == "packet socket"]
    return str(look["told"])


def test_the_packet_socket_needs_the_whole_drop_in(installed: tuple[Box, str]) -> None:
    box, _ = installed
    drop_in = box.path(DROP_IN)
    drop_in.parent.mkdir(exist_ok=True)
    try:
        assert "the service edge-agent has no CAP_NET_RAW" in packet_socket(box)
        drop_in.write_text("[Service]\nAmbientCapabilities=CAP_NET_RAW\n")
        box.run("systemctl", "daemon-reload")
        assert "cap_net_raw" in box.show(UNIT, "AmbientCapabilities")
        assert "has no CAP_NET_RAW" in packet_socket(box)
        box.run("cp", "/usr/share/doc/edge-agent/systemd/examples/packet-socket.conf", DROP_IN)
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "restart", UNIT, timeout_s=180)
        assert "the service edge-agent may open one" in packet_socket(box)
    finally:
        drop_in.unlink()
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "reset-failed")
        box.run("systemctl", "restart", UNIT, timeout_s=180)


def test_an_upgrade_keeps_settings_and_the_station_runs_again(installed: tuple[Box, str], deb: Path) -> None:
    box, _ = installed
    settings = box.path(SETTINGS)
    before = settings.read_text()
    settings.write_text(before.replace("station: example", "station: hall7"))
    box.path("/var/edge-agent.deb").unlink()
    upgrade(box, deb, "+1")
    assert "station: hall7" in settings.read_text()
    assert box.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "edge-agent").stdout == f"{__version__}+1 install ok installed"
    wait_for(lambda: ready(box), "the station runs again")
    heard = box.run("edge-agent", "watch", "--json", "--count", 1, "--timeout", 60).stdout
    assert '"station":"hall7"' in heard
    settings.write_text(before)


def test_an_upgrade_that_fails_leaves_the_station_running(installed: tuple[Box, str]) -> None:
    """What dpkg calls where unpacking fails: the old prerm, then the old postinst."""
    box, _ = installed
    scripts = "/var/lib/dpkg/info/edge-agent"
    box.run(f"{scripts}.prerm", "upgrade", "9")
    assert box.show(UNIT, "ActiveState") == "inactive"
    box.run(f"{scripts}.postinst", "abort-upgrade", "9")
    wait_for(lambda: ready(box), "the station runs again")


def test_nothing_of_the_environment_calls_home(installed: tuple[Box, str]) -> None:
    box, _ = installed
    look = (
        "import importlib.util, openvino; print(openvino.Core().available_devices, importlib.util.find_spec('openvino_telemetry'))"
    )
    told = box.run("/opt/edge-agent/bin/python", "-I", "-c", look).stdout
    assert "CPU" in told
    assert told.endswith(" None\n")


def test_the_collector_finds_the_driver_of_postgresql_and_waits_for_its_server(installed: tuple[Box, str]) -> None:
    box, _ = installed
    words = "--bind ipc:///run/edge-agent-test --store postgresql+psycopg://nobody@localhost:9/x --crops /tmp/crops"
    told = box.run("timeout", "5", "/usr/bin/edge-agent", "collect", *words.split(), check=False).stderr
    assert "cannot be opened now: connection" in told


def test_an_upgrade_brings_back_exactly_what_ran(installed: tuple[Box, str], deb: Path) -> None:
    box, _ = installed
    box.run("systemctl", "stop", UNIT)
    box.run("systemctl", "enable", "--now", COLLECTOR)
    assert "sudo systemctl start edge-agent" in upgrade(box, deb, "+2")
    assert states(box) == {"ActiveState": ["inactive", "active"], "UnitFileState": ["enabled", "enabled"]}
    box.run("systemctl", "start", UNIT)
    box.run("systemctl", "disable", UNIT, COLLECTOR)
    try:
        upgrade(box, deb, "+3")
        assert states(box) == {"ActiveState": ["active", "active"], "UnitFileState": ["disabled", "disabled"]}
    finally:
        box.run("systemctl", "enable", UNIT)
        box.run("systemctl", "stop", COLLECTOR)


def states(box: Box) -> dict[str, list[str]]:
    """Of the station and the collector."""
    return {name: [box.show(unit, name) for unit in (UNIT, COLLECTOR)] for name in ("ActiveState", "UnitFileState")}


def upgrade(box: Box, deb: Path, to: str) -> str:
    """What dpkg says of an upgrade to a later packaging."""
    package = box.path("/var/later.deb")
    later(deb, package, f"{__version__}{to}")
    told = box.run("dpkg", "--force-unsafe-io", "-i", "/var/later.deb", timeout_s=300).stdout
    package.unlink()
    return told


def later(deb: Path, to: Path, version: str) -> None:
    """The same package under another version: only the control member of the archive is written anew."""
    data = deb.read_bytes()
    assert data.startswith(b"!<arch>\n")
    out, at = [data[:8]], 8
    while at < len(data):
        head, size = data[at : at + 60], int(data[at + 48 : at + 58])
        body = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
        if head.startswith(b"control.tar"):
            body = _with_version(deb, version)
            head = b"control.tar     " + head[16:48] + f"{len(body):<10}".encode() + head[58:]
        out += [head, body, b"\n" * (len(body) % 2)]
    to.write_bytes(b"".join(out))


def _with_version(deb: Path, version: str) -> bytes:
    plain = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], capture_output=True, check=True).stdout
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            body = file.read() if file else b""
            if member.name == "./control":
                body = body.replace(f"Version: {__version__}\n".encode(), f"Version: {version}\n".encode())
                member.size = len(body)
            new.addfile(member, io.BytesIO(body) if file else None)
    return made.getvalue()
