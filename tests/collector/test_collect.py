"""`edge-agent collect` as a process: starts, refuses, survives kill -9 in the middle of a stream."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Postgres
from stations import Program

from edge_agent.collector.opening import open_store
from edge_agent.commands import collect as command
from edge_agent.errors import EdgeAgentError
from edge_agent.notify import Watchdog
from edge_agent.uplink.outbox import Outbox
from edge_agent.uplink.sender import Sender
from edge_agent.wire import Verdict, verdict_json


def body(seq: int) -> bytes:
    texts = {"part_id": str(seq), "outcome": "PASS", "recipe": "r", "recipe_hash": "ab", "model_hash": "cd", "engine_id": "e"}
    numbers = {"epoch": 7, "seq": seq, "trigger_time_us": 1, "latency_ms": 1.0}
    return verdict_json(Verdict(station="s", line="l", **texts, **numbers, reasons=(), blobs=(), findings=()))


@contextlib.contextmanager
def collect(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A collector that ends with the test, whatever the test finds."""
    words = [sys.executable, "-m", "edge_agent", "collect", *arguments]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of its log."""
    assert process.stderr is not None
    return process.stderr.readline()


def test_beyond_this_machine_it_refuses_plaintext_with_exit_code_78(tmp_path: Path) -> None:
    with collect("--bind", "tcp://0.0.0.0:5558", "--store", str(tmp_path / "store")) as process:
        _, told = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "--allow-plaintext" in told
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("127.0.0.1:5558", "say how, too: tcp://127.0.0.1:5558"),
        ("tcp://127.0.0.1", "tcp://ADDRESS:PORT"),
        ("tcp://192.0.2.7:99999", "a port from 1 to 65535"),
    ],
)
def test_an_address_that_nothing_can_listen_on_ends_it_with_exit_code_78(
    within: Program, tmp_path: Path, address: str, remedy: str
) -> None:
    result = within("collect", "--bind", address, "--store", tmp_path / "store")
    assert (result.returncode, remedy in result.stderr) == (78, True)


@contextlib.contextmanager
def shipping(folder: Path) -> Iterator[tuple[Outbox, Sender]]:
    """A station's end of the link."""
    outbox = Outbox(folder / "outbox", 64)
    sender = Sender(outbox, f"ipc://{folder}/uplink", "s")
    sender.start()
    try:
        yield outbox, sender
    finally:
        sender.close()
        outbox.close()


def put(outbox: Outbox, first: int, last: int) -> None:
    """Records of the parts from first to last."""
    assert all(outbox.put_record(body(seq)) for seq in range(first, last + 1))


def wait_for_the_first(outbox: Outbox) -> None:
    until = time.monotonic() + 20
    while not outbox.stats().acknowledged and time.monotonic() < until:
        time.sleep(0.002)


def test_kill_9_of_the_collector_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    words = ("--bind", f"ipc://{tmp_path}/uplink", "--store", str(tmp_path / "store"))
    with shipping(tmp_path) as (outbox, sender):
        with collect(*words) as process:
            assert "collector.started" in said(process)
            put(outbox, 1, 1500)
            wait_for_the_first(outbox)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert outbox.waiting() > 0, "killed too late to show anything"
        with collect(*words) as process:
            assert "collector.started" in said(process)
            put(outbox, 1501, 3000)
            assert sender.drain(30)
            process.send_signal(signal.SIGTERM)
            assert "collector.stopped" in process.communicate(timeout=20)[1]
            assert process.returncode == 0
    require_all(str(tmp_path / "store"), None, 3000)


def test_a_database_that_dies_under_the_collector_loses_nothing_and_doubles_nothing(tmp_path: Path, postgres: Postgres) -> None:
    crops = str(tmp_path / "crops")
    with (
        shipping(tmp_path) as (outbox, sender),
        collect("--bind", f"ipc://{tmp_path}/uplink", "--store", postgres.address, "--crops", crops) as process,
    ):
        assert "collector.started" in said(process)
        put(outbox, 1, 1000)
        wait_for_the_first(outbox)
        postgres.crash()
        put(outbox, 1001, 1500)
        told = said(process)
        assert "collector.failed" in told and "sqlalche.me" not in told
        assert outbox.waiting() >= 500
        postgres.start()
        assert sender.drain(60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    require_all(postgres.address, crops, 1500)


def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path, postgres: Postgres) -> None:
    postgres.crash()
    crops = str(tmp_path / "crops")
    with collect("--bind", f"ipc://{tmp_path}/uplink", "--store", postgres.address, "--crops", crops) as process:
        told = said(process)
        assert "collector.failed" in told and "cannot be opened now: connection" in told
        postgres.start()
        while "collector.failed" in (told := said(process)):
            pass  # the server says first that it is starting
        assert "collector.recovered" in told
        assert "collector.started" in said(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_store_that_cannot_be_opened_is_told_once_and_once_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd is told that the start is over, which would be ended otherwise, and started again and again."""
    monkeypatch.setattr(command, "_RETRY_S", 0)
    attempts, told = [True, True, False], []
    notified: list[dict[str, object]] = []

    def opened(*_: object) -> str:
        if attempts.pop(0):
            raise EdgeAgentError("away")
        return "store"

    monkeypatch.setattr(command, "open_store", opened)
    monkeypatch.setattr("edge_agent.collector.health.say", lambda name, **_: told.append(name))
    monkeypatch.setattr(command, "notify", lambda **fields: notified.append(fields))
    assert command._opened("store", None, Watchdog()) == "store"
    assert told == ["collector.failed", "collector.recovered"]
    assert notified[0] == {"READY": 1, "STATUS": "waiting for the store: away"}


def require_all(address: str, crops: str | None, count: int) -> None:
    """Each record once."""
    store = open_store(address, crops)
    assert [verdict.seq for verdict in store.verdicts()] == list(range(1, count + 1))
    assert store.count("contradictions") == 0
    store.close()
