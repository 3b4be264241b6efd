"""`check` and the daemon say what is wrong with keys, by the line of the settings that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zmq
from bright import gray
from stations import Program, StationFolder

from edge_agent.security import make_keys


@pytest.fixture
def keys(station: StationFolder) -> Path:
    """The station's folder with keys that are as they should be."""
    folder = station.folder / "keys"
    (folder / "clients").mkdir(parents=True)
    make_keys(folder, "test")
    make_keys(folder, "collector")
    make_keys(folder / "clients", "gateway")
    station.settings["plc"]["curve"] = {"secret_key": "keys/test.key_secret", "clients": "keys/clients"}
    station.settings["uplink"] = {"curve": {"secret_key": "keys/test.key_secret", "server_key": "keys/collector.key"}}
    station.add_images([gray()])
    return folder


def looked(within: Program, station: StationFolder, *words: str) -> dict[str, Any]:
    return dict(json.loads(within("check", "--json", "--config", station.write(), *words).stdout))


def test_keys_in_order_are_no_problem(within: Program, station: StationFolder, keys: Path) -> None:
    found = looked(within, station)
    assert not found["problems"]
    assert not [each for each in found["warnings"] if "curve" in each["key"]]


def test_every_key_that_cannot_be_used_is_told_with_its_line(within: Program, station: StationFolder, keys: Path) -> None:
    (keys / "test.key_secret").chmod(0o644)
    (keys / "collector.key").unlink()
    (keys / "clients" / "half.key").write_text("curve")
    found = {each["key"]: each for each in looked(within, station, "--files")["problems"]}
    assert "everybody on this machine may read" in found["plc.curve.secret_key"]["message"]
    assert "half.key, which holds no key" in found["plc.curve.clients"]["message"]
    assert "collector.key, which cannot be read" in found["uplink.curve.server_key"]["message"]
    assert all(each["line"] and each["remedy"] for each in found.values())
    started = within("run", "--config", station.write(), "--parts", 1)
    assert started.returncode == 78
    assert "chmod o=" in started.stderr


def test_a_folder_without_clients_is_a_warning(within: Program, station: StationFolder, keys: Path) -> None:
    (keys / "clients" / "gateway.key").unlink()
    (warning,) = [each for each in looked(within, station)["warnings"] if each["key"] == "plc.curve.clients"]
    assert "holds nobody's key" in warning["message"]


def test_a_collector_that_does_not_know_the_station_is_a_problem(within: Program, station: StationFolder, keys: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as plain:
        plain.bind(f"ipc://{station.folder}/uplink")
        station.settings["uplink"]["collector"] = f"ipc://{station.folder}/uplink"
        looks = [each for each in looked(within, station)["machine"] if each["area"] == "collector"]
    assert "takes no connection of this station" in looks[0]["told"]
    assert "does not encrypt" in looks[0]["remedy"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("collect", "--bind", "tcp://127.0.0.1:*", "--store", "s", "--clients", "c"), "--secret-key and --clients go together"),
        (("control", "status", "--connect", "ipc:///x", "--secret-key", "s"), "--secret-key and --server-key go together"),
        (("collect", "--bind", "tcp://0.0.0.0:5558", "--store", "s"), "encrypt it (--secret-key, --clients)"),
    ],
)
def test_half_of_what_encryption_takes_is_refused(within: Program, words: tuple[str, ...], said: str) -> None:
    result = within(*words)
    assert result.returncode in (2, 78)
    assert said in result.stderr
