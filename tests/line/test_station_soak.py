"""A whole station whose processes are killed, frozen and ended: every part is in the datacenter once, as the gateway heard it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from stations import ROOT


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        return __import__("soak_station")


@pytest.fixture(scope="module")
def soaked(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    found: tuple[Any, Path] = tool.soak(tmp_path_factory.mktemp("soak"), 18, 1, 20, between_s=(0.2, 0.8))
    return found


def test_no_part_is_missing_or_another_whatever_is_done_to_the_station(tool: ModuleType, soaked: tuple[Any, Path]) -> None:
    record, store = soaked
    found = tool.reconcile(record, store)
    assert found.problems == []
    assert len(record.hurts) >= 6
    assert found.parts >= len(record.heard) > 50
    assert min(found.outcomes["PASS"], found.outcomes["NG"], found.pictures) > 0
    assert "| what does not reconcile | 0 |" in tool.report(record, found, "this")


def test_what_does_not_reconcile_is_told(tool: ModuleType, soaked: tuple[Any, Path]) -> None:
    record, store = soaked
    picture = next((store / "crops").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-1])
    with closing(sqlite3.connect(store / "collector.db")) as database, database:
        epoch, last = database.execute("select epoch, max(seq) from records group by epoch having max(seq) > 3").fetchone()
        database.execute("delete from records where epoch = ? and seq = 2", (epoch,))
        database.execute("update records set outcome = 'SEEN' where epoch = ? and seq = 3", (epoch,))
        database.execute("delete from records where epoch = ? and seq = ?", (epoch, last))
    record.heard |= {(epoch, 3): "PASS", (epoch, last): "NG"}
    problems = tool.reconcile(record, store).problems
    assert f"epoch {epoch} lacks 1 parts" in problems
    assert f"part {(epoch, last)} was heard and not stored" in problems
    assert f"part {(epoch, 3)} was heard as PASS and stored as SEEN" in problems
    assert sum("is not the picture that was sent" in problem for problem in problems) == 1


@pytest.mark.parametrize("words", ["--out nowhere/x.md", "--out .", "--rate 0", "--minutes nan", "--minutes 0"])
def test_what_makes_no_sense_is_refused_before_a_soak(
    tool: ModuleType, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "soak", lambda *_args, **_more: pytest.fail("it began"))
    with pytest.raises(SystemExit) as ended:
        tool.main(words.split())
    assert ended.value.code == 2
    assert words.split()[0] in capsys.readouterr().err
