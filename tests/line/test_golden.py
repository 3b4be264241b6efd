"""Golden parts: drawn from a seed, judged by the shipped model and recipe; outcomes and blobs stay what they were.

`python tests/line/test_golden.py` writes tests/golden/demo-texture.json anew, after a change that was meant.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "demo-texture.json"
SEED, PARTS = 21, 24


def judged(folder: Path) -> list[dict[str, Any]]:
    """Outcome, reasons and blobs of every golden part, by the whole daemon."""
    from edge_agent.daemon import Daemon
    from edge_agent.settings import load_station

    ends = {"plc.verdicts": f"ipc://{folder}/v", "plc.control": f"ipc://{folder}/c", "plc.expect_subscriber": "false"}
    camera = {"cameras.0.seed": SEED, "cameras.0.rate_hz": 0, "cameras.0.defect_share": 0.6, "cameras.0.empty_share": 0.15}
    settings = {"state": folder / "state", "uplink.collector": "null", **ends, **camera}
    station = load_station(ROOT / "config" / "demo.yaml", [f"{key}={value}" for key, value in settings.items()])
    daemon = Daemon(station, parts=PARTS, deadline_ms=60_000)
    verdicts: list[Any] = []
    daemon.publisher.on_verdict = verdicts.append
    daemon.run()
    return [
        {
            "outcome": verdict.outcome,
            "reasons": list(verdict.reasons),
            "blobs": [[round(b.centroid_x, 1), round(b.centroid_y, 1), b.area_px] for b in verdict.blobs],
        }
        for verdict in sorted(verdicts, key=lambda verdict: verdict.seq)
    ]


def test_golden_parts_come_out_as_they_always_did(tmp_path: Path) -> None:
    golden, now = json.loads(GOLDEN.read_text()), judged(tmp_path)
    assert [(part["outcome"], part["reasons"]) for part in now] == [(part["outcome"], part["reasons"]) for part in golden]
    for before, after in zip(golden, now, strict=True):
        assert len(before["blobs"]) == len(after["blobs"])
        for (x, y, area), (x_now, y_now, area_now) in zip(before["blobs"], after["blobs"], strict=True):
            assert (x_now, y_now) == (pytest.approx(x, abs=1), pytest.approx(y, abs=1))
            assert area_now == pytest.approx(area, rel=0.03, abs=4)


def test_golden_parts_hold_every_kind() -> None:
    outcomes = [part["outcome"] for part in json.loads(GOLDEN.read_text())]
    assert len(outcomes) == PARTS
    assert {"PASS", "NG", "FAULT"} <= set(outcomes)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(judged(Path(scratch)), indent=1) + "\n")
    sys.exit(0)
