"""A station whose sockets are encrypted: who has a key hears, asks and stores; who has none is told so."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bright import gray
from running import wait_until
from stations import Program, StationFolder

from edge_agent.collector.opening import open_store
from edge_agent.errors import DeliveryError
from edge_agent.plc.gateway import Gateway, ask
from edge_agent.security import client_keys, make_keys
from edge_agent.wire import Request


class Keys:
    """Keys of the station, of a PLC's gateway, of the collector and of a stranger, each with who may talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keys"
        self.clients, self.stations = self.folder / "clients", self.folder / "stations"
        for each in (self.clients, self.stations):
            each.mkdir(parents=True)
        for name in ("test", "gateway", "collector", "stranger"):
            make_keys(self.folder, name)
        shutil.copy(self.folder / "gateway.key", self.clients)
        shutil.copy(self.folder / "test.key", self.stations)

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def keys(tmp_path: Path, station: StationFolder) -> Keys:
    made = Keys(tmp_path)
    station.settings["plc"]["curve"] = {"secret_key": "keys/test.key_secret", "clients": "keys/clients"}
    station.settings["uplink"] = {
        "collector": f"ipc://{tmp_path}/uplink",
        "curve": {"secret_key": "keys/test.key_secret", "server_key": "keys/collector.key"},
    }
    station.add_images([gray()] * 3)
    station.settings["cameras"][0].update(repeat=True, trigger="software")
    return made


@contextlib.contextmanager
def running(folder: Path, *words: object) -> Iterator[Path]:
    """A command of the program in a process of its own, ended by SIGTERM at last; yields the file of what it says."""
    log = folder / f"{words[0]}.log"
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "edge_agent", *map(str, words)], stderr=out)
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, log.read_text()


def test_verdicts_and_requests_are_for_those_with_a_key(
    station: StationFolder, keys: Keys, edge_agent: Program, tmp_path: Path
) -> None:
    settings, control = station.write(), station.settings["plc"]["control"]
    ours = client_keys(keys.file("gateway.key_secret"), keys.file("test.key"))
    with (
        running(tmp_path, "run", "--config", settings) as log,
        Gateway(station.settings["plc"]["verdicts"], control, keys=ours) as plc,
    ):
        wait_until(lambda: ask(control, Request(op="status"), 60, ours).status["lines"]["line"]["state"] == "Ready", 60)
        mine = edge_agent("control", "--config", settings, "status")
        assert mine.returncode == 0, mine.stderr
        theirs = ("--secret-key", keys.file("gateway.key_secret"), "--server-key", keys.file("test.key"))
        assert edge_agent("trigger", "--connect", control, *theirs, "A-1").returncode == 0
        (verdict,) = [*plc.verdicts(2)]
        assert (verdict.part_id, verdict.outcome) == ("A-1", "PASS")
        with pytest.raises(DeliveryError, match="takes no connection: it encrypts, or speaks no ZeroMQ"):
            ask(control, Request(op="trigger", part_id="A-2"), 1)
        with pytest.raises(DeliveryError, match="does not know this end's key"):
            ask(
                control,
                Request(op="trigger", part_id="A-3"),
                1,
                client_keys(keys.file("stranger.key_secret"), keys.file("test.key")),
            )
        deaf = edge_agent("watch", "--connect", station.settings["plc"]["verdicts"], "--timeout", 1)
        assert deaf.returncode == 1
        assert deaf.stdout == ""
        settings.write_text(settings.read_text().replace("cameras:", "cameras", 1))
        assert "station.yaml" in edge_agent("control", "--config", settings, "reload").stdout
        status = ask(control, Request(op="status"), 5, ours).status
        assert status["lines"]["line"]["seq"] == 1
        assert "peer.refused" in log.read_text()


def test_a_collector_stores_what_comes_from_the_station_that_it_knows(
    station: StationFolder, keys: Keys, edge_agent: Program, tmp_path: Path
) -> None:
    station.settings["cameras"][0].pop("trigger")
    station.settings["cameras"][0].update(rate_hz=50)
    settings, store = station.write(), tmp_path / "store"
    shutil.move(keys.stations / "test.key", keys.stations / "other.key")
    address = station.settings["uplink"]["collector"]
    collect = ("collect", "--bind", address, "--store", store, "--secret-key", keys.file("collector.key_secret"))
    with running(tmp_path, *collect, "--clients", keys.stations) as told:
        wait_until(lambda: "collector.started" in told.read_text(), 60)
        with running(tmp_path, "run", "--config", settings):
            wait_until(lambda: "station 'test' has the key of 'other'" in told.read_text(), 60)
            (keys.stations / "other.key").rename(keys.stations / "test.key")
            wait_until(lambda: stored(store) > 0, 60)
        judged = stored(store)
    assert judged > 0


def stored(store: Path) -> int:
    opened = open_store(str(store))
    try:
        return len(list(opened.verdicts()))
    finally:
        opened.close()
