"""Removing leaves what a site made, purging leaves nothing. The last of this folder: it takes the package away."""

from __future__ import annotations

from box import Box


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
    box.run("dpkg", "-P", "edge-agent")
    for gone in ("/etc/edge-agent", "/var/lib/edge-agent", "/etc/systemd/system/edge-agent.service"):
        assert not box.path(gone).is_symlink()
        assert not box.path(gone).exists(), gone
    left = box.run("sh", "-c", "find /etc /usr /var/lib /opt -name '*edge-agent*' 2>/dev/null || true").stdout.split()
    assert left == [], left
    assert "edge-agent" not in box.run("dpkg", "--audit").stdout
