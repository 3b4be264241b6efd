"""A station in the box, by its files in /etc/edge-agent, with whoever listens to it out here: units started as systemd does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml
from box import Box, wait_for
from bright import gray, with_defect
from stations import StationFolder

from edge_agent.collector.opening import open_store
from edge_agent.plc.gateway import Gateway, ask
from edge_agent.wire import Reply, Request, Verdict

UNIT, COLLECTOR = "edge-agent.service", "edge-agent-collector.service"
STATE = "/var/lib/edge-agent/state"
SETTINGS = "/etc/edge-agent/station.yaml"
IMAGES = "/var/edge-agent-images"
Part = tuple[int, int]  # epoch and number
_FAST = """
[Service]
WatchdogSec=4
"""


class Plant:
    """`station` holds the files to be; `start` installs them and starts the units."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box = box
        self.station = StationFolder(folder)
        self.station.add_images([gray(level=150 + k) for k in range(4)] + [with_defect(gray(), 10, 20, 8, 6)])
        self.station.recipe.update(deadline_ms=60_000, golden={"good": ["golden/good.png"], "bad": ["golden/bad.png"]})
        self.station.settings.update(
            state=STATE,
            models="/var/lib/edge-agent/models",
            plc={"verdicts": f"ipc://{STATE}/v", "control": f"ipc://{STATE}/c", "expect_subscriber": False},
            uplink={"collector": "tcp://127.0.0.1:5558"},
        )
        self.station.settings["cameras"][0].update(path=IMAGES, rate_hz=20, repeat=True)
        self.heard: dict[Part, Verdict] = {}
        self._began = time.time()
        self._gateway: Gateway | None = None
        self._control = ""
        self._shipped = box.path(SETTINGS).read_bytes()
        self.clear()

    # --- the files ------------------------------------------------------------------------------------------------
    def write(self) -> None:
        """Put settings, recipe, golden pictures, model and images where the package's station has them."""
        self.station.write()
        etc = self.box.path("/etc/edge-agent")
        shutil.copy(self.station.folder / "station.yaml", etc / "station.yaml")
        self.write_recipe()
        (etc / "recipes" / "golden").mkdir(exist_ok=True)
        shutil.copy(self.station.images / "0000.png", etc / "recipes" / "golden" / "good.png")
        shutil.copy(self.station.images / "0004.png", etc / "recipes" / "golden" / "bad.png")
        model = self.box.path("/var/lib/edge-agent/models/bright")
        shutil.copytree(self.station.folder / "models" / "bright", model, dirs_exist_ok=True)
        shutil.copytree(self.station.images, self.box.path(IMAGES), dirs_exist_ok=True)
        self.box.run("chmod", "-R", "a+rX", "/etc/edge-agent", "/var/lib/edge-agent/models", IMAGES)

    def write_recipe(self, **changes: Any) -> None:
        self.station.recipe.update(changes)
        file = self.box.path("/etc/edge-agent/recipes/part.yaml")
        file.write_text(yaml.safe_dump(self.station.recipe))
        file.chmod(0o644)

    def drop_in(self, text: str, unit: str = UNIT) -> None:
        """What `systemctl edit` would write."""
        folder = self.box.path("/etc/systemd/system") / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text(text)
        self.box.run("systemctl", "daemon-reload")

    def write_alarm(self) -> Path:
        """The site's own program for a unit that has failed; the file returned has what it was told, once it ran."""
        heard, hook = self.box.path("/run/alarm-heard"), self.box.path("/etc/edge-agent/alarm")
        heard.unlink(missing_ok=True)
        hook.write_text('#!/bin/sh\necho "$@" >/run/alarm-heard.new && mv /run/alarm-heard.new /run/alarm-heard\n')
        hook.chmod(0o755)
        return heard

    def watch_closely(self, unit: str = UNIT) -> None:
        self.drop_in(_FAST, unit)

    # --- the units ------------------------------------------------------------------------------------------------
    def start(self, check: bool = True) -> None:
        self.write()
        self.box.run("systemctl", "start", UNIT, check=check)
        if check:
            base = self.box.path(STATE)
            self._control = f"ipc://{base}/c"
            self._gateway = Gateway(f"ipc://{base}/v", self._control)

    def start_collector(self) -> None:
        self.box.run("systemctl", "start", COLLECTOR)

    def journal(self, unit: str = UNIT) -> str:
        """What the station has logged since this test began."""
        return self.box.journal(unit, f"--since=@{self._began:.3f}")

    def entries(self, *fields: str) -> list[dict[str, Any]]:
        """The journal's entries of this test with these fields, FIELD=value."""
        self.box.run("journalctl", "--sync")
        since = f"--since=@{self._began:.3f}"
        told = self.box.run("journalctl", "--no-pager", "--all", "--output=json", f"--unit={UNIT}", since, *fields).stdout
        return [json.loads(line) for line in told.splitlines()]

    def status(self) -> str:
        return self.box.show(UNIT, "StatusText")

    def restarts(self, unit: str = UNIT) -> int:
        return int(self.box.show(unit, "NRestarts"))

    def main_pid(self, unit: str = UNIT) -> int:
        return int(self.box.show(unit, "MainPID"))

    def small_disk(self) -> None:
        """The state gets 96 MB of its own, of which the journal has 64."""
        self.box.run("mkdir", "-p", STATE)
        self.box.run("mount", "-t", "tmpfs", "-o", "size=96m,mode=750", "state", STATE)

    def fill_disk(self) -> None:
        """To the last byte, and again where the outbox lets go of its ballast, until it cannot store."""

        def is_full() -> bool:
            for name, size in (("filler", "64k"), ("rest", "512")):
                fill = f"dd if=/dev/zero of={STATE}/{name} bs={size} oflag=append conv=notrunc 2>/dev/null || true"
                self.box.run("sh", "-c", fill)
            self.listen(0.2)
            return bool(self.entries("EVENT=outbox.failed"))

        wait_for(is_full, "the disk is full")

    def real_time(self) -> set[int]:
        """The priorities of the station's threads that the kernel schedules as SCHED_FIFO."""
        stats = self.box.run("sh", "-c", f"cat /proc/{self.main_pid()}/task/*/stat").stdout.splitlines()
        fields = [line.rpartition(")")[2].split() for line in stats]  # from the third on, as proc(5) counts them
        return {int(each[40 - 3]) for each in fields if int(each[41 - 3]) == os.SCHED_FIFO}

    def ask(self, op: str) -> Reply:
        return ask(self._control, Request(op=op), timeout_s=20)

    # --- what comes of it -----------------------------------------------------------------------------------------
    def hear(self, more: int, timeout_s: float = 60) -> list[Verdict]:
        """Listen, acknowledge, ask for what was missed, until so many more verdicts have come; return those."""
        assert self._gateway is not None
        fresh: list[Verdict] = []
        until = time.monotonic() + timeout_s
        while len(fresh) < more:
            assert time.monotonic() < until, f"heard {len(fresh)} of {more} verdicts"
            fresh += self._gateway.verdicts(0.05)
        self.heard.update({(verdict.epoch, verdict.seq): verdict for verdict in fresh})
        return fresh

    def listen(self, seconds: float) -> None:
        assert self._gateway is not None
        self.heard.update({(verdict.epoch, verdict.seq): verdict for verdict in self._gateway.verdicts(seconds)})

    def stop(self) -> None:
        """Stop the station, then the collector, listening meanwhile."""
        self.box.run("systemctl", "stop", "--no-block", UNIT)
        wait_for(lambda: self.listen(0.1) or self.box.show(UNIT, "ActiveState") in ("inactive", "failed"), "the station stops")
        self.listen(0.2)

    def stored(self) -> dict[Part, Verdict]:
        """Everything the collector has; it is stopped for that."""
        self.box.run("systemctl", "stop", COLLECTOR)
        store = open_store(str(self._copied("/var/lib/edge-agent/collector")))
        try:
            assert store.count("contradictions") == 0
            return {(verdict.epoch, verdict.seq): verdict for verdict in store.verdicts()}
        finally:
            store.close()

    def pictures(self) -> tuple[int, int]:
        """How many pictures the collector and the outbox have, and how many were declared lost there."""
        here, there = self._copied("/var/lib/edge-agent/collector"), self._copied(f"{STATE}/outbox")
        with contextlib.closing(sqlite3.connect(next(here.glob("*.db")))) as store:
            kept = store.execute("select count(*) from pictures").fetchone()[0]
            lost = store.execute("select coalesce(sum(n), 0) from losses where what = 'picture'").fetchone()[0]
        with contextlib.closing(sqlite3.connect(next(there.glob("*.db")))) as outbox:
            kept += outbox.execute("select count(*) from rows where kind = 'picture'").fetchone()[0]
            declared = [msgspec.msgpack.decode(row[0]) for row in outbox.execute("select body from rows where kind = 'lost'")]
        return kept, lost + sum(loss["n"] for loss in declared if loss["what"] == "picture")

    def _copied(self, inside: str) -> Path:
        """A copy of a folder in the box: SQLite would follow the link out of it."""
        copy = self.station.folder / f"copied-{time.monotonic_ns()}"
        shutil.copytree(self.box.path(inside), copy)
        return copy

    def clear(self) -> None:
        """Leave the box as a fresh installation, with everything stopped."""
        if self._gateway is not None:
            self._gateway.close()
        self.box.run("systemctl", "stop", UNIT, COLLECTOR, check=False)
        self.box.run(
            "sh", "-c", f"umount {STATE} 2>/dev/null; rm -rf /etc/systemd/system/edge-agent*.d {IMAGES} /var/lib/edge-agent/*/*.db*"
        )
        self.box.run("sh", "-c", f"rm -rf {STATE} /var/lib/edge-agent/collector")
        self.box.path(SETTINGS).write_bytes(self._shipped)
        self.box.path("/etc/edge-agent/alarm").unlink(missing_ok=True)
        self.box.run("systemctl", "daemon-reload")
        self.box.run("systemctl", "reset-failed", check=False)


def unbroken(parts: dict[Part, Verdict]) -> None:
    """Every trigger has its outcome: numbers of each epoch run from 1 without a gap."""
    assert parts
    for epoch in {epoch for epoch, _ in parts}:
        seqs = sorted(seq for each, seq in parts if each == epoch)
        assert seqs == list(range(1, len(seqs) + 1)), f"a trigger of epoch {epoch} has no outcome"
