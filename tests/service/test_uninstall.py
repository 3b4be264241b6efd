"""Removing leaves what a site made, installing again starts no line with it, purging leaves nothing. The last of this folder: it
takes the package away."""

from __future__ import annotations

import shutil
from pathlib import Path

from box import Box, wait_for
from plant import COLLECTOR, SETTINGS, UNIT


def test_installing_again_over_kept_settings_starts_no_line(installed: tuple[Box, str], deb: Path) -> None:
    box, _ = installed
    shipped = box.path(SETTINGS).read_text()
    box.path(SETTINGS).write_text(shipped.replace("mode: shadow", "mode: online"))
    box.run("systemctl", "start", UNIT, timeout_s=180)
    box.run("systemctl", "enable", "--now", COLLECTOR)
    box.run("dpkg", "-r", "edge-agent")
    shutil.copy(deb, box.path("/var/again.deb"))
    told = box.run("dpkg", "--force-unsafe-io", "-i", "/var/again.deb", timeout_s=300).stdout
    assert "the station is not started" in told
    assert "mode: online" in box.path(SETTINGS).read_text()
    assert box.show(UNIT, "ActiveState") == "inactive"
    assert box.show(UNIT, "UnitFileState") == "enabled"
    assert box.show(COLLECTOR, "ActiveState") == "active"
    box.path(SETTINGS).write_text(shipped)
    box.run("dpkg", "-r", "edge-agent")
    told = box.run("dpkg", "--force-unsafe-io", "-i", "/var/again.deb", timeout_s=300).stdout
    assert "not started" not in told
    wait_for(lambda: box.show(UNIT, "ActiveState") == "active", "the safe example runs again")
    box.run("systemctl", "disable", "--now", COLLECTOR)
    box.path("/var/again.deb").unlink()


def test_removing_keeps_settings_and_state_and_purging_does_not(installed: tuple[Box, str]) -> None:
    box, _ = installed
    box.run("systemctl", "start", "edge-agent", timeout_s=180)
    box.run("sh", "-c", "cd /var/lib/edge-agent/models && rm demo-texture && cp -r /usr/share/edge-agent/models/demo-texture .")
    box.run("dpkg", "-r", "edge-agent")
    assert box.path("/var/lib/edge-agent/models/demo-texture/model.onnx").is_file()
    assert box.run("systemctl", "is-active", "edge-agent", check=False).stdout.strip() == "inactive"
    for gone in ("/opt/edge-agent", "/usr/lib/systemd/system/edge-agent.service", "/usr/bin/edge-agent"):
        assert not box.path(gone).is_symlink()
        assert not box.path(gone).exists(), gone
    assert box.path("/etc/edge-agent/station.yaml").is_file()
    assert box.path("/var/lib/edge-agent/state/journal").exists()
    told = box.run("dpkg", "-P", "edge-agent").stdout
    assert "edge-agent: deletes /var/lib/edge-agent/state, " in told
    for gone in ("/etc/edge-agent", "/var/lib/edge-agent", "/etc/systemd/system/edge-agent.service"):
        assert not box.path(gone).is_symlink()
        assert not box.path(gone).exists(), gone
    left = box.run("sh", "-c", "find /etc /usr /var/lib /opt -name '*edge-agent*' 2>/dev/null || true").stdout.split()
    assert left == [], left
    assert "edge-agent" not in box.run("dpkg", "--audit").stdout
