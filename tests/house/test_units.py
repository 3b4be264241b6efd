"""Units and package hold together: limits that fit one another, units that are there, and files that remedies and docs name."""

from __future__ import annotations

import ast
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
    """What the package has below its doc folder, by the very line of build.sh."""
    (find,) = re.findall(r"^(find .*) \|\n.*share/doc", (SYSTEMD / "debian" / "build.sh").read_text(), re.M)
    found = subprocess.run(["sh", "-c", find], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {file.removeprefix("docs/") for file in found}


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
        for name in re.findall(rf"{DOC}([\w./-]+)", file.read_text())
    }
    assert len(named) > 4
    assert not [each for each in named if not any(file == each[1] or file.startswith(f"{each[1]}/") for file in packaged)]


def test_links_of_the_packaged_docs_lead_somewhere(packaged: set[str]) -> None:
    for name in sorted(file for file in packaged if file.endswith(".md") and "/" not in file and (ROOT / "docs" / file).is_file()):
        for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "docs" / name).read_text()):
            assert link in packaged, (name, link)


def test_a_store_elsewhere_is_told_where_it_is_set() -> None:
    assert "examples/store.conf" in (SYSTEMD / "collector.env").read_text()
    drop_in = settings("examples/store.conf")
    assert drop_in["ReadWritePaths"] == drop_in["RequiresMountsFor"]
    assert f"STORE={drop_in['ReadWritePaths']}" in (ROOT / "docs" / "install.md").read_text()


def test_what_is_installed_or_said_names_pages_where_the_package_has_them() -> None:
    """`docs/` is a checkout's: a remedy, a setting's comment or an alert that names it leads nowhere on a station."""
    said = {
        (file.relative_to(ROOT), node.value)
        for file in ROOT.glob("edge_agent/**/*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "docs/" in node.value
    }
    of_maintainers = re.compile(r"docs/\w+\.md (holds|lists|tells)|the table of docs/", re.I)
    assert [each for each in said if not of_maintainers.search(each[1])] == []
    installed = [*ROOT.glob("config/**/*.y*ml"), *SYSTEMD.glob("**/*")]
    assert [file for file in installed if file.is_file() and file.name != "build.sh" and "docs/" in file.read_text()] == []
