"""The alert rules: true to promtool, to the table of metrics, and each proven to speak and to keep silent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from stations import ROOT

from edge_agent.metrics.table import METRICS

FOLDER = ROOT / "config" / "prometheus"
RULES = yaml.safe_load((FOLDER / "edge-agent.rules.yml").read_text())["groups"][0]["rules"]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    result = promtool("check", "rules", FOLDER / "edge-agent.rules.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_every_alert_speaks_in_trouble_and_only_then() -> None:
    result = promtool("test", "rules", FOLDER / "edge-agent.rules.test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_a_rule_that_lost_its_teeth_is_found(tmp_path: Path) -> None:
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("edge_agent_line_ready == 0", "edge_agent_line_ready == 2"))
    result = promtool("test", "rules", tmp_path / "edge-agent.rules.test.yml")
    assert result.returncode != 0
    assert "LineNotReady" in result.stdout + result.stderr


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    tried = (FOLDER / "edge-agent.rules.test.yml").read_text()
    for rule in RULES:
        assert f'alertname="{rule["alert"]}"' in tried
        assert set(rule["annotations"]) == {"summary", "remedy"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_rules_speak_of_metrics_that_are_there() -> None:
    used = {name for rule in RULES for name in re.findall(r"edge_agent_(\w+)", rule["expr"])}
    assert len(used) > 15
    assert used <= set(METRICS)


def test_the_docs_list_exactly_the_metrics_of_the_table() -> None:
    rows = [line for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")]
    labels = {name: ", ".join(f"`{label}`" for label in metric.labels) for name, metric in METRICS.items()}
    assert rows == [f"| `{m.name}` | {m.kind} | {labels[name]} | {m.meaning} |" for name, m in METRICS.items()]
    for name, metric in METRICS.items():
        assert metric.name == f"edge_agent_{name}"
        assert name.endswith("_total") == (metric.kind == "counter")
