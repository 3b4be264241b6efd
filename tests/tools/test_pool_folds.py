"""Thresholds of several folds: chosen on some, judged on another; what is no fold is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Tool = Callable[[str], ModuleType]


def fold(folder: Path, good: list[tuple[float, float]], bad: list[tuple[float, float]], tile: str) -> Path:
    """What evaluate leaves of a fold of one tile, by the peaks of the classes pit and dent; one picture could not be judged."""
    folder.mkdir()
    rows = [{"group": tile, "is_defective": False, "peaks": {}}]
    for peaks, is_defective in [(each, False) for each in good] + [(each, True) for each in bad]:
        rows.append({"group": tile, "is_defective": is_defective, "peaks": dict(zip(("pit", "dent"), peaks, strict=True))})
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def told(tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    monkeypatch.setattr(sys, "argv", ["pool_folds.py", *map(str, words)])
    tool("pool_folds").main()
    return " ".join(capsys.readouterr().out.split())


def test_each_fold_is_judged_by_what_the_others_chose(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By itself each fold has no error; the second's good picture looks to the first's threshold like a pit."""
    one = fold(tmp_path / "one", good=[(0.2, 0.1)], bad=[(0.4, 0.0), (0.0, 0.9)], tile="a")
    two = fold(tmp_path / "two", good=[(0.6, 0.1)], bad=[(0.9, 0.0), (0.0, 0.8)], tile="b")
    said = told(tool, monkeypatch, capsys, one, two, "--pick", "false_reject<=0")
    assert "each by what the others chose: slips 1 of 4 (95 % bounds 0.6 to 80.6 %), false rejects 1 of 2" in said
    assert "all by what they chose together, which flatters: slips 1 of 4 (95 % bounds 0.6 to 80.6 %), false rejects 0 of 2" in said
    rows = {
        row.split()[0]: row.split()[1:]
        for row in said.partition("───")[2].replace("one ", "\none ").splitlines()
        if row.strip("─ ")
    }
    pit, dent, slips, rejects = rows["one"][:4]
    assert (0.6 < float(pit) <= 0.9, 0.1 < float(dent) <= 0.8, slips, rejects) == (True, True, "1", "0")


def test_folds_in_folders_of_one_name_are_told_apart(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for tile in ("a", "b"):
        Path(tile).mkdir()
        fold(Path(tile, "judged"), good=[(0.2, 0.1)], bad=[(0.4, 0.0)], tile=tile)
    said = told(tool, monkeypatch, capsys, "a/judged", "b/judged", "--pick", "false_reject<=0")
    assert "a/judged: 1 images" in said and "b/judged: 1 images" in said
    with pytest.raises(SystemExit, match=r"a/judged and a/\.\./a/judged both judge a: give each fold once"):
        told(tool, monkeypatch, capsys, "a/../a/judged", "a/judged")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["one"], "two folds or more"),
        (["one", "one"], "both judge a: give each fold once"),
        (["one", "absent"], "absent/results.jsonl: .*Give the --out of edge-agent evaluate"),
        (["one", "other"], "give those of one network"),
        (["one", "two", "--pick", "beauty>=1"], "is no condition"),
        (["one", "two", "--pick", "slip<=0"], "reach slip <= 0. Ask for less"),
    ],
)
def test_what_says_nothing_is_refused(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], why: str
) -> None:
    fold(tmp_path / "one", good=[(0.2, 0.1)], bad=[(0.0, 0.0)], tile="a")
    fold(tmp_path / "two", good=[(0.2, 0.1)], bad=[(0.4, 0.0)], tile="b")
    (tmp_path / "other").mkdir()
    row = {"group": "c", "is_defective": False, "peaks": {"defect": 0.1}}
    (tmp_path / "other" / "results.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pool_folds.py", *words])
    with pytest.raises(SystemExit, match=why):
        tool("pool_folds").main()
