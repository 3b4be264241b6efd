"""kill -9, and a stop, while the disk is full: the station comes up again, says its verdicts, and loses no part's record."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stations import StationFolder

Images = Callable[[int], list[np.ndarray]]

KILLED_ON_A_FULL_DISK = """
import contextlib, signal, subprocess, sys, time
from pathlib import Path
from edge_agent.plc.gateway import ask
from edge_agent.wire import Request, read_verdict_json
from edge_agent.uplink.schema import open_reader
config, disk, control = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
hog = disk / "hog"

def fill():
    with open(hog, "ab", buffering=0) as out, contextlib.suppress(OSError):
        for size in (1 << 16, 512):
            with contextlib.suppress(OSError):
                while True:
                    out.write(bytes(size))

def started(log):
    return subprocess.Popen([sys.executable, "-m", "edge_agent", "run", "--config", config], stderr=open(log, "w"))

def wait_until(is_true, run, log):
    until = time.monotonic() + 60
    while not is_true():
        assert run.poll() is None, f"it ended with {run.poll()}: " + log.read_text()[-2000:]
        assert time.monotonic() < until, "waited too long: " + log.read_text()[-2000:]
        time.sleep(0.05)

def published():
    with contextlib.suppress(Exception):
        reply = ask(control, Request(op="status"), 2)
        return reply.status["published"] if reply.status["lines"]["line"]["state"] == "Ready" else 0
    return 0

def failed(log):
    fill()  # again: the outbox has ballast that it lets go
    return "outbox.failed" in log.read_text()

log = disk.parent / "log1"
run = started(log)
wait_until(lambda: published() >= 20, run, log)
wait_until(lambda: failed(log), run, log)
before = published()
wait_until(lambda: published() >= before + 20, run, log)
run.kill(), run.wait()
log = disk.parent / "log2"
run = started(log)
wait_until(lambda: published() >= 20 and failed(log), run, log)
assert "journal.recovered" in log.read_text()
run.kill(), run.wait()
for name in ("log3", "log4"):  # after kill -9, and after a stop in good order
    fill()
    log = disk.parent / name
    run = started(log)
    wait_until(lambda: published() >= 20, run, log)
    hog.unlink()
    before = published()
    wait_until(lambda: published() >= before + 20, run, log)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 0, log.read_text()[-2000:]
connection = open_reader(disk / "state" / "outbox" / "outbox.db")
kinds = [kind for (kind,) in connection.execute("select kind from rows")]
assert kinds.count("lost") == 0, kinds.count("lost")
stored = [read_verdict_json(body) for (body,) in connection.execute("select body from rows where kind = 'record'")]
epochs = sorted({verdict.epoch for verdict in stored})
assert len(epochs) == 4, epochs
for epoch in epochs:
    seqs = sorted({verdict.seq for verdict in stored if verdict.epoch == epoch})
    assert seqs == list(range(1, len(seqs) + 1)), (epoch, seqs)
"""


def test_kill_9_on_a_full_disk_and_again_loses_no_record(station: StationFolder, images: Images, tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, for a small disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    station.add_images(images(9))
    station.settings["cameras"][0].update(repeat=True, rate_hz=20)
    station.settings.update(state=f"{disk}/state", journal_parts=4096)
    station.settings["uplink"] = {"outbox_cap_mb": 64}
    station.recipe["evidence"] = {"max_crops": 0, "pass_share": 0}  # records alone, of which none may be lost
    config = station.write()
    script = (KILLED_ON_A_FULL_DISK, str(config), str(disk), station.settings["plc"]["control"])
    mount = f'mount -t tmpfs -o size=64m tmpfs {disk} || exit 77; exec {sys.executable} -c "$0" "$@"'
    run = subprocess.run(["unshare", "-m", "bash", "-c", mount, *script], capture_output=True, text=True, timeout=300, check=False)
    if run.returncode == 77:
        pytest.skip("mounting a tmpfs is not allowed here")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
