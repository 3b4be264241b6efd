"""The demo is the product in a minute: three processes, drawn parts with known truth, pictures a person looks at."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import cv2
import pytest
from stations import ROOT, Program

PARTS = 12


def test_the_demo_accounts_for_every_part_and_leaves_its_evidence(
    edge_agent: Program, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out, sockets = tmp_path / "demo", tmp_path_factory.mktemp("s")  # a socket's path has 107 characters at most
    sets = [f"plc.verdicts=ipc://{sockets}/v", f"plc.control=ipc://{sockets}/c", f"uplink.collector=ipc://{sockets}/u"]
    sets.append("cameras.0.defect_share=0.5")
    overrides = [word for each in sets for word in ("--set", each)]
    config = ROOT / "config" / "demo.yaml"
    result = edge_agent("demo", "--config", config, "--parts", PARTS, "--out", out, *overrides)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["triggers"] == summary["outcomes"] == summary["published"] == summary["acknowledged"] == PARTS
    assert summary["lost"] == 0
    assert 0 <= summary["slips"] + summary["false_rejects"] <= 3
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(results) == PARTS
    assert {"PASS", "NG"} <= {result["outcome"] for result in results}
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet is not None and min(sheet.shape[:2]) > 500
    with closing(sqlite3.connect(out / "collector" / "collector.db")) as store:
        kept = dict(store.execute("select seq, outcome from records").fetchall())
    assert sorted(kept.values()) == sorted(result["outcome"] for result in results)
    assert list((out / "collector" / "crops").rglob("*.png"))


def test_the_demo_removes_nothing_that_no_demo_left(within: Program, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("years of work")
    result = within("demo", "--config", ROOT / "config" / "demo.yaml", "--parts", 1, "--out", mine.parent)
    assert result.returncode == 2
    assert "thesis.tex" in result.stderr
    assert "Name another folder" in result.stderr
    assert mine.read_text() == "years of work"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_takes_its_processes_with_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    sockets, config = tmp_path_factory.mktemp("s"), ROOT / "config" / "demo.yaml"
    sets = [f"plc.verdicts=ipc://{sockets}/v", f"plc.control=ipc://{sockets}/c", f"uplink.collector=ipc://{sockets}/u"]
    words = ["--config", config, "--out", tmp_path / "demo", *(word for each in sets for word in ("--set", each))]
    before = signal.signal(number, signal.SIG_DFL)  # these tests may have been started where it is ignored, as by nohup
    with subprocess.Popen([sys.executable, "-m", "edge_agent", "demo", *map(str, words)], stderr=subprocess.DEVNULL) as demo:
        signal.signal(number, before)
        started, until = Path(f"/proc/{demo.pid}/task/{demo.pid}/children"), time.monotonic() + 30
        log = tmp_path / "demo" / "daemon.log"
        while not (log.exists() and log.stat().st_size) and demo.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        pids = started.read_text().split()
        demo.send_signal(number)
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert (demo.returncode, len(pids), left) == (-number, 2, [])
