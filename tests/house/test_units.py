"""Units and package hold together: limits that fit one another, units that are there, and files that remedies and docs name."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
DOC = "/usr/share/doc/edge-agent/"
TEXTS = [*ROOT.glob("edge_agent/**/*.py"), *ROOT.glob("docs/*.md"), *SYSTEMD.glob("**/*"), *ROOT.glob("config/**/*.y*ml")]


def settings(unit: str) -> dict[str, str]:
    lines = (SYSTEMD / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.fixture(scope="module")
def packaged() -> set[str]:
    """What the package has below its doc folder, by the very lines of build.sh."""
    build = (SYSTEMD / "debian" / "build.sh").read_text()
    (find,) = re.findall(r"^(find .*) \|\n.*share/doc/edge-agent/\$file", build, re.M)
    assert 'ln -s ../../edge-agent/models "$root/usr/share/doc/edge-agent/models"' in build
    found = subprocess.run(
        ["sh", "-c", f"{find}; find models -type f"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return set(found)


def test_starts_that_fail_slowly_reach_the_limit_too() -> None:
    unit = settings("edge-agent.service")
    one_s = sum(int(unit[key]) for key in ("TimeoutStartSec", "TimeoutStopSec", "TimeoutAbortSec", "RestartSec"))
    assert int(unit["StartLimitBurst"]) * one_s <= int(unit["StartLimitIntervalSec"])


def test_the_gpus_nodes_are_made_before_the_station_starts() -> None:
    unit = settings("edge-agent.service")
    for wanted in ("nvidia-persistenced.service", "edge-agent-gpu.service"):
        assert wanted in unit["Wants"].split()
        assert wanted in unit["After"].split()
    gpu = settings("edge-agent-gpu.service")
    assert gpu["ConditionPathExists"] in gpu["ExecStart"]
    assert "DevicePolicy" not in gpu


def test_files_that_anything_names_in_the_doc_folder_are_packaged(packaged: set[str]) -> None:
    named = {
        (file.relative_to(ROOT), name.rstrip("."))
        for file in TEXTS
        if file.is_file() and file.name != "build.sh"
        for name in re.findall(rf"{DOC}([\w./@-]+)", file.read_text())
    }
    assert len(named) > 4
    assert not [each for each in named if not any(file == each[1] or file.startswith(f"{each[1]}/") for file in packaged)]


def test_links_and_pictures_of_the_packaged_docs_are_there(packaged: set[str]) -> None:
    pages = sorted(file for file in packaged if file.endswith(".md"))
    assert {"README.md", "ARCHITECTURE.md", "docs/install.md", "models/magnetic-tile/README.md"} <= set(pages)
    for page in pages:
        for link in re.findall(r"\[[^\]]*\]\(([^)#: ]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            target = os.path.normpath(Path(page).parent / link)
            assert any(file == target or file.startswith(f"{target}/") for file in packaged), (page, link)


def test_pages_that_the_program_and_the_settings_name_are_packaged(packaged: set[str]) -> None:
    named = {(file.name, page) for file in TEXTS if file.is_file() for page in re.findall(r"\bdocs/[\w-]+\.md", file.read_text())}
    assert len(named) > 4
    assert not [each for each in named if each[1] not in packaged]


def test_each_packaged_model_is_linked_for_the_station_and_its_link_is_removed() -> None:
    models = {file.parent.name for file in ROOT.glob("models/*/model.onnx")}
    links = re.findall(
        r"^L /var/lib/edge-agent/models/(\S+) - - - - /usr/share/edge-agent/models/(\S+)$",
        (SYSTEMD / "edge-agent.tmpfiles").read_text(),
        re.M,
    )
    assert links == [(name, name) for name in sorted(models)]
    assert f"for model in {' '.join(sorted(models))}; do" in (SYSTEMD / "debian" / "postrm").read_text()


def test_a_store_elsewhere_is_told_where_it_is_set() -> None:
    assert "examples/store.conf" in (SYSTEMD / "collector.env").read_text()
    drop_in = settings("examples/store.conf")
    assert drop_in["ReadWritePaths"] == drop_in["RequiresMountsFor"]
    assert f"STORE={drop_in['ReadWritePaths']}" in (ROOT / "docs" / "install.md").read_text()
