"""`edge-agent collect` as a process: starts, refuses, survives kill -9 in the middle of a stream."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from postgres import Postgres

from edge_agent.collector.store import open_store
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.sender import Sender
from edge_agent.wire import Verdict, verdict_json


def body(seq: int) -> bytes:
    texts = {"part_id": str(seq), "outcome": "PASS", "recipe": "r", "recipe_hash": "ab", "model_hash": "cd", "engine_id": "e"}
    numbers = {"epoch": 7, "seq": seq, "trigger_time_us": 1, "latency_ms": 1.0}
    return verdict_json(Verdict(station="s", line="l", **texts, **numbers, reasons=(), blobs=(), findings=()))


def collect(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "edge_agent", "collect", *arguments], stderr=subprocess.PIPE, text=True)


def test_beyond_this_machine_it_refuses_plaintext_with_exit_code_78(tmp_path: Path) -> None:
    with collect("--bind", "tcp://0.0.0.0:5558", "--store", str(tmp_path / "store")) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "--allow-plaintext" in said
    assert not (tmp_path / "store").exists()


def test_kill_9_of_the_collector_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    endpoint, folder = f"ipc://{tmp_path}/uplink", str(tmp_path / "store")
    outbox = Outbox(tmp_path / "outbox", 64)
    sender = Sender(outbox, endpoint, "s")
    sender.start()
    for turn in range(2):
        process = collect("--bind", endpoint, "--store", folder)
        assert process.stderr is not None
        assert "collector.started" in process.stderr.readline()
        already = outbox.stats().acknowledged
        for seq in range(turn * 1500 + 1, turn * 1500 + 1501):
            assert outbox.put_record(body(seq), 2)
        until = time.monotonic() + 20
        while outbox.stats().acknowledged == already and time.monotonic() < until:
            time.sleep(0.002)
        if turn == 0:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
            assert outbox.waiting() > 0, "killed too late to show anything"
    assert sender.drain(30)
    sender.close()
    outbox.close()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "collector.stopped" in said
    require_all(folder, None, 3000)


def test_a_database_that_dies_under_the_collector_loses_nothing_and_doubles_nothing(tmp_path: Path, postgres: Postgres) -> None:
    crops = str(tmp_path / "crops")
    words = ("--bind", f"ipc://{tmp_path}/uplink", "--store", postgres.address, "--crops", crops)
    outbox = Outbox(tmp_path / "outbox", 64)
    sender = Sender(outbox, f"ipc://{tmp_path}/uplink", "s")
    sender.start()
    with collect(*words) as process:
        assert process.stderr is not None
        assert "collector.started" in process.stderr.readline()
        for seq in range(1, 1001):
            assert outbox.put_record(body(seq), 2)
        until = time.monotonic() + 20
        while not outbox.stats().acknowledged and time.monotonic() < until:
            time.sleep(0.002)
        postgres.crash()
        for seq in range(1001, 1501):
            assert outbox.put_record(body(seq), 2)
        assert "collector.failed" in process.stderr.readline()
        assert outbox.waiting() >= 500
        with collect(*words[:1], f"ipc://{tmp_path}/other", *words[2:]) as other:
            assert "cannot be opened now" in other.communicate(timeout=30)[1]
        assert other.returncode == 1, "it may yet come: systemd starts it again"
        postgres.start()
        assert sender.drain(30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    sender.close()
    outbox.close()
    require_all(postgres.address, crops, 1500)


def require_all(address: str, crops: str | None, count: int) -> None:
    """Each record once."""
    store = open_store(address, crops)
    assert [verdict.seq for verdict in store.verdicts()] == list(range(1, count + 1))
    assert store.count("contradictions") == 0
    store.close()
