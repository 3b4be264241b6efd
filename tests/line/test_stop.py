"""A stop: with cameras whose drivers do not return, with a long drain, with a room that does not close."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bright import gray
from running import wait_until
from scripted import Script
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.settings import load_station
from edge_agent.uplink import outbox as writing
from edge_agent.uplink.outbox import count_records
from edge_agent.uplink.schema import open_reader
from edge_agent.wire import read_verdict_json


def test_cameras_that_hang_share_one_time_limit(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them take no four times as long, and each one's slots are out of use."""
    monkeypatch.setattr("edge_agent.daemon._HANGS_S", 0.3)
    station.settings["cameras"] = [{"name": f"c{n}", "kind": "folder", "path": "images"} for n in range(4)]
    station.settings["lines"] = [{"name": f"l{n}", "camera": f"c{n}", "recipe": "part", "frames": 4} for n in range(4)]
    station.images.mkdir()
    (station.images / "0.png").touch()
    daemon = Daemon(load_station(station.write()))
    hold, patience_s = threading.Event(), []
    for line in daemon.lines:
        camera = Script(side=64)
        camera.acts.put(lambda: hold.wait(30) and None)
        line.grabber.camera = line.grabber.triggers.camera = camera
        monkeypatch.setattr(line.grabber.thread, "join", _noted(patience_s, line.grabber.thread.join))
    daemon.start()
    wait_until(lambda: all(line.grabber.camera.acts.empty() for line in daemon.lines))
    daemon.close()
    assert sum(patience_s) < 0.4
    assert [line.grabber.ring.quarantined for line in daemon.lines] == [4] * 4
    hold.set()
    wait_until(lambda: all(line.grabber.finished.is_set() for line in daemon.lines))


def test_lines_whose_engine_hangs_share_one_time_limit(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is still answered, once."""
    monkeypatch.setattr("edge_agent.daemon._HANGS_S", 0.3)
    station.settings["cameras"] = [{"name": f"c{n}", "kind": "folder", "path": "images"} for n in range(4)]
    station.settings["lines"] = [{"name": f"l{n}", "camera": f"c{n}", "recipe": "part", "frames": 4} for n in range(4)]
    station.settings["drain_s"] = 0
    station.add_images([gray()])
    daemon = Daemon(load_station(station.write()))
    monkeypatch.setattr(CpuSegmenter, "submit", lambda *_: None)
    patience_s: list[float] = []
    for line in daemon.lines:
        monkeypatch.setattr(line.threads[1], "join", _noted(patience_s, line.threads[1].join))
    daemon.start()
    wait_until(lambda: sum(line.waiting for line in daemon.lines) == 4)
    summary = daemon.close()
    assert len(patience_s) == 4
    assert sum(patience_s) < 0.4
    assert (summary["triggers"], summary["fault"]) == (4, 4)


def test_systemd_is_asked_for_as_long_as_the_drain_may_take(
    station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.settings["drain_s"] = 600  # nothing is there to wait for
    station.images.mkdir()
    (station.images / "0.png").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = Daemon(load_station(station.write()))
        assert systemd.recv(4096) == b"EXTEND_TIMEOUT_USEC=170000000", "a start may take so long for each recipe"
        daemon.start()
        daemon.close()
        words = iter(lambda: systemd.recv(4096), b"EXTEND_TIMEOUT_USEC=635000000")
        assert b"STOPPING=1\nSTATUS=draining: finishing parts in flight" in list(words)


RELOAD_WITHIN_THE_START = """
import os, signal, sys
from edge_agent import daemon
from edge_agent.cli import main

opened = daemon.Daemon._open

def open_slowly(self):
    os.kill(os.getpid(), signal.SIGHUP)
    opened(self)

daemon.Daemon._open = open_slowly
sys.exit(main(["run", "--config", sys.argv[1]]))
"""


def test_a_reload_that_is_asked_for_within_the_start_ends_it_not_and_is_done_after_it(station: StationFolder) -> None:
    station.images.mkdir()
    (station.images / "0.png").touch()
    station.settings["cameras"][0].update(trigger="software", rate_hz=0)
    words = [sys.executable, "-c", RELOAD_WITHIN_THE_START, str(station.write())]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("station.reloaded" in line for line in iter(process.stderr.readline, "")), "it ended"
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_closer_that_fails_keeps_none_of_the_others_open(station: StationFolder) -> None:
    station.images.mkdir()
    (station.images / "0.png").touch()
    daemon = Daemon(load_station(station.write()))

    def fail() -> None:
        raise RuntimeError("nobody foresaw this")

    daemon.start()
    daemon._closers.append(fail)
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        daemon.close()
    assert not daemon.outbox.thread.is_alive()
    with pytest.raises(ValueError, match="closed"):
        daemon.journal.close()


def test_a_stop_on_a_slow_disk_leaves_records_to_the_next_start(station: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comes into the outbox once, as it was decided."""
    monkeypatch.setattr("edge_agent.daemon._COMMITS_S", 0.6)
    monkeypatch.setattr("edge_agent.daemon._DISK_S", 0.1)
    station.settings.update(journal_parts=256, drain_s=0)
    station.recipe["evidence"] = {"max_crops": 0, "whole_frame": "never"}
    station.settings["lines"][0]["frames"] = 64
    station.add_images([gray(level=100 + n) for n in range(60)])
    daemon = Daemon(load_station(station.write()))
    daemon.outbox._batch = 8
    with monkeypatch.context() as slow:
        begin = writing.transaction
        slow.setattr(writing, "transaction", lambda connection: (time.sleep(0.4), begin(connection))[1])
        daemon.start()
        wait_until(lambda: not daemon.publisher.book.open_parts() and daemon.publisher.book.lines["line"].triggers == 60)
        began = time.monotonic()
        daemon.close()
    assert time.monotonic() - began < 5
    assert count_records(station.folder / "state" / "outbox") < 60
    shutil.rmtree(station.images)
    station.add_images([gray()])
    station.settings["drain_s"] = 5
    Daemon(load_station(station.write())).run()
    with contextlib.closing(open_reader(station.folder / "state" / "outbox" / "outbox.db")) as reader:
        stored = [read_verdict_json(body) for (body,) in reader.execute("select body from rows where kind = 'record'")]
    first = min(verdict.epoch for verdict in stored)
    assert sorted(verdict.seq for verdict in stored if verdict.epoch == first) == list(range(1, 61))
    assert not any("interrupted" in verdict.reasons for verdict in stored)


def _noted(times_s: list[float], join):
    def noted(timeout_s: float) -> None:
        times_s.append(timeout_s)
        join(timeout_s)

    return noted
