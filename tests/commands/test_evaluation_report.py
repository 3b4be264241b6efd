"""The tables of an evaluation can be read in a terminal of 100 columns, with a threshold for each class, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands.evaluation.report import markdown, print_report, sections
from edge_agent.qualification.rates import Counts

COLUMNS = 100
THRESHOLDS = {"Blowhole": 0.7418, "Break": 0.3917, "Crack": 0.6617, "Fray": 0.3563, "Uneven": 0.2956}


@pytest.fixture
def result() -> dict[str, Any]:
    """An evaluation of five classes, each with its own threshold, whose figures are as long as any."""
    counts = Counts(tp=188, tn=504, fp=0, fn=12).as_dict()
    return {
        "model": {"name": "tile", "hash": "0" * 64, "classes": list(THRESHOLDS)},
        "recipe": {"name": "tile", "hash": "1" * 64, "thresholds": THRESHOLDS},
        "data": {"name": "tiles", "layout": "index", "selection": "all images"},
        "images": 704,
        "defective": 200,
        "groups": 704,
        "warnings": [],
        "notes": [],
        "pick": None,
        "auc": 0.9,
        "not_judged": {"images": 0, "defective": 0, "reasons": {}},
        "not_judged_images": [],
        "as_it_stands": counts,
        "thresholds": [{"threshold": tenth / 10, **counts} for tenth in range(1, 10)],
        "recipe_at": [{"threshold": step / 100, "thresholds": THRESHOLDS, **counts} for step in range(45, 95)],
        "kinds": [],
        "sizes": [],
        "pixels": None,
        "confusion": None,
    }


def printed(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool) -> str:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    print_report(result, Path("out"))
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_figure_of_five_thresholds_fits_a_terminal(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    told = printed(result, monkeypatch, capsys, terminal)
    assert "…" not in told
    rows = [line.split() for line in told.splitlines() if re.match(r"0\.\d ", line)]
    assert [row[:5] for row in rows] == [[f"0.{tenth}", "188", "504", "0", "12"] for tenth in [*range(1, 10), *range(5, 10)]]
    assert all(len(line) <= COLUMNS for line in told.splitlines() if terminal or line[:1] in "0─")


def test_the_tables_name_the_mean_and_say_where_each_classs_own_are(result: dict[str, Any]) -> None:
    by_title = {each.title: each for each in sections(result)}
    assert [row[0] for row in by_title["The recipe at other thresholds"].rows] == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    assert "the mean of the classes' own, by their log-odds; these are in evaluation.json" in markdown(result, [])
    result["model"]["classes"] = ["Blowhole"]
    assert "log-odds" not in markdown(result, [])
