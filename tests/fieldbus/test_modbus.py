"""A PLC with a Modbus client of its own, against the real station: triggers, results, silence, keys, and both ends that go."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from bright import gray, with_defect
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException
from running import wait_until
from stations import Program, StationFolder

from edge_agent.commands.modbus import Link
from edge_agent.fieldbus.exchange import SILENCE_S
from edge_agent.fieldbus.registers import COMMANDS_AT, RESULT, SIZE, Command, Status
from edge_agent.plc.gateway import Gateway, ask
from edge_agent.security import make_keys, read_pair
from edge_agent.settings import load_station
from edge_agent.wire import Request

ADDRESSES = {register.name: register.address for register in RESULT}


@contextlib.contextmanager
def running(folder: Path, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command of the program in a process of its own; yields it and the file of what it says. Ended by SIGTERM."""
    log = folder / f"{words[0]}.log"
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "edge_agent", *map(str, words)], stderr=out)
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def said(log: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.read_text().splitlines()) if line.get("event") == event]


class Controller:
    """What a program of a PLC does, over its own Modbus client."""

    def __init__(self, log: Path) -> None:
        wait_until(lambda: bool(said(log, "modbus.started")), 60)
        host, _, port = said(log, "modbus.started")[0]["address"].rpartition(":")
        self.client = ModbusTcpClient(host, port=int(port), timeout=5)
        assert self.client.connect()

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def read(self, name: str, holding: bool = False) -> int:
        read = self.client.read_holding_registers if holding else self.client.read_input_registers
        words = read(0, count=SIZE, device_id=1).registers
        at = ADDRESSES[name]
        return words[at] << 16 | words[at + 1] if name in ("trigger_number", "sequence") else words[at]

    def is_up(self, bit: Status) -> bool:
        return bool(self.read("status") & bit)

    def write(self, commands: Command, *values: int) -> None:
        assert not self.client.write_registers(COMMANDS_AT, [commands, *values], device_id=1).isError()

    def part(self, number: int) -> int:
        """Trigger a part, as docs/modbus.md tells it; return its outcome."""
        self.write(Command.TRIGGER, 0, number)
        wait_until(lambda: self.is_up(Status.TRIGGER_ACK))
        self.write(Command(0))
        wait_until(lambda: self.is_up(Status.RESULT_VALID))
        outcome = self.read("outcome")
        assert self.read("trigger_number", holding=True) == number
        self.write(Command.RESULT_ACK)
        wait_until(lambda: not self.is_up(Status.RESULT_VALID))
        self.write(Command(0))
        return outcome


@pytest.fixture
def plant(station: StationFolder) -> StationFolder:
    """A station with a software trigger, whose second picture shows a defect."""
    station.add_images([gray(), with_defect(gray(), 10, 20, 8, 6), gray(level=140)])
    station.settings["cameras"][0].update(repeat=True, trigger="software")
    station.settings["plc"]["expect_acknowledgement_s"] = 60
    return station


def test_a_plc_triggers_parts_and_reads_what_came_of_them(plant: StationFolder, tmp_path: Path) -> None:
    settings, control = plant.write(), plant.settings["plc"]["control"]
    link = ("modbus", "--config", settings, "--listen", "127.0.0.1:0", "--recipes", "7=part")
    with (
        running(tmp_path, *link) as (gateway, told),
        running(tmp_path, "run", "--config", settings) as (daemon, _),
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        assert [plc.part(number) for number in (11, 12, 13)] == [1, 2, 1]
        assert (plc.read("results"), plc.read("recipe_number")) == (3, 0), "nothing is shown once it was acknowledged"
        status = ask(control, Request(op="status")).status
        assert (status["acknowledged"], status["lines"]["line"]["seq"]) == (3, 3)
        plc.write(Command.TRIGGER, 0, 0)
        wait_until(lambda: plc.is_up(Status.COMMAND_FAILED))
        plc.write(Command.CLEAR)
        plc.write(Command.RECIPE, 0, 0, 7)
        wait_until(lambda: plc.is_up(Status.RECIPE_ACK))
        plc.write(Command(0))
        assert plc.part(14) == 1
        plc.write(Command.TRIGGER, 0, 15)
        wait_until(lambda: plc.is_up(Status.RESULT_VALID))
        daemon.kill()
        wait_until(lambda: plc.read("status") == 0)
        assert (plc.read("outcome"), plc.read("lost_results")) == (0, 1)
        gateway.kill()
        gateway.wait()
        with pytest.raises(ConnectionException):
            plc.read("outcome")


def test_a_verdict_that_was_held_up_is_not_shown(plant: StationFolder, tmp_path: Path) -> None:
    settings, control = plant.write(), plant.settings["plc"]["control"]
    with (
        running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (gateway, told),
        running(tmp_path, "run", "--config", settings),
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        gateway.send_signal(signal.SIGSTOP)
        assert ask(control, Request(op="trigger", line="line", part_id="late")).ok
        wait_until(lambda: ask(control, Request(op="status")).status["published"] == 1)
        subprocess.run(["sleep", "0.4"], check=True)
        gateway.send_signal(signal.SIGCONT)
        wait_until(lambda: plc.is_up(Status.READY))
        assert (plc.read("results"), plc.read("outcome")) == (0, 0)
        assert plc.part(1) == 2


class Told:
    """A gateway that read its last heartbeat a while ago, and hears nothing more."""

    def __init__(self, read_s: float) -> None:
        self.heartbeat_at = read_s
        self.heartbeat = {"epoch": 7, "lines": {"line": {"state": "Ready", "mode": "online"}}}

    def verdicts(self, _timeout_s: float) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        pass


def test_a_heartbeat_counts_from_when_it_came_not_from_when_it_was_noted(plant: StationFolder) -> None:
    link = Link(load_station(plant.write()), "line", {}, low_word_first=False)
    link._gateway.close()
    link._gateway = cast(Gateway, Told(read_s := time.monotonic() - 0.2))
    link._listen_until_silent()
    assert link._exchange.registers(read_s + SILENCE_S - 0.001)[0] & Status.HEARD
    assert not link._exchange.registers(read_s + SILENCE_S + 0.001)[0]
    link.close()


def test_a_plc_that_is_gone_leaves_no_result_to_the_next(plant: StationFolder, tmp_path: Path) -> None:
    settings, control = plant.write(), plant.settings["plc"]["control"]
    with (
        running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (_, told),
        running(tmp_path, "run", "--config", settings),
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        assert ask(control, Request(op="trigger", line="line")).ok
        wait_until(lambda: plc.is_up(Status.RESULT_VALID))
        plc.client.close()
        wait_until(lambda: bool(said(told, "modbus.disconnected")))
        with Controller(told) as again:
            assert (again.read("outcome"), again.read("lost_results")) == (0, 1)
            assert again.part(2) == 2


def test_of_several_clients_the_one_that_writes_is_the_plc_and_begins_anew(plant: StationFolder, tmp_path: Path) -> None:
    settings = plant.write()
    with (
        running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (_, told),
        running(tmp_path, "run", "--config", settings),
        Controller(told) as panel,
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        plc.write(Command.TRIGGER, 0, 1)
        wait_until(lambda: panel.is_up(Status.RESULT_VALID))
        with Controller(told) as again:  # the first connection still stands, as that of a PLC without power does
            words = again.client.write_registers(COMMANDS_AT + 1, [0, 2], device_id=1)
            assert not words.isError()
            assert (panel.read("outcome"), panel.read("lost_results")) == (0, 1)
            assert not panel.is_up(Status.BUSY), "a trigger that another one held up is not this one's"
            again.write(Command.TRIGGER, 0, 2)
            wait_until(lambda: again.is_up(Status.RESULT_VALID))
            assert (panel.read("outcome"), panel.read("trigger_number")) == (2, 2)
        wait_until(lambda: panel.read("outcome") == 0)
        assert panel.read("lost_results") == 2


def test_no_result_waits_for_a_plc_that_has_yet_to_come(plant: StationFolder, tmp_path: Path) -> None:
    settings, control = plant.write(), plant.settings["plc"]["control"]
    with (
        running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (_, told),
        running(tmp_path, "run", "--config", settings),
    ):
        with Controller(told) as plc:
            wait_until(lambda: plc.is_up(Status.READY), 60)
        wait_until(lambda: bool(said(told, "modbus.disconnected")))
        assert ask(control, Request(op="trigger", line="line")).ok
        wait_until(lambda: ask(control, Request(op="status")).status["published"] == 1)
        with Controller(told) as plc:
            assert (plc.read("outcome"), plc.read("lost_results")) == (0, 1)
            assert plc.part(1) == 2


def test_what_the_map_does_not_have_is_refused_and_commands_nothing(plant: StationFolder, tmp_path: Path) -> None:
    with (
        running(tmp_path, "modbus", "--config", plant.write(), "--listen", "127.0.0.1:0") as (_, told),
        running(tmp_path, "run", "--config", plant.write()),
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        client = plc.client
        plc.write(Command(0), 0, 5)
        assert client.write_coil(COMMANDS_AT, True).exception_code == 1
        assert client.write_coils(COMMANDS_AT, [True] * 4).exception_code == 1
        assert client.read_coils(0).exception_code == client.read_discrete_inputs(0).exception_code == 1
        assert client.mask_write_register(address=COMMANDS_AT, and_mask=0xFFFF, or_mask=1).exception_code == 1
        assert client.write_registers(COMMANDS_AT - 1, [0, 1]).exception_code == 2
        assert client.write_register(ADDRESSES["status"], 1).exception_code == 2
        assert client.read_holding_registers(COMMANDS_AT + 4).exception_code == 2
        assert not plc.is_up(Status.BUSY | Status.RESULT_VALID), "a bit that is written commands nothing"


def test_a_station_with_keys_is_read_by_its_own(plant: StationFolder, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    make_keys(tmp_path, "test")
    plant.settings["plc"]["curve"] = {"secret_key": "test.key_secret", "clients": "keys"}
    settings = plant.write()
    assert read_pair(tmp_path / "test.key_secret")
    with (
        running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (_, told),
        running(tmp_path, "run", "--config", settings),
        Controller(told) as plc,
    ):
        wait_until(lambda: plc.is_up(Status.READY), 60)
        assert plc.part(1) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--listen", "0.0.0.0:5020"), "--allow-plaintext"),
        (("--listen", "5020"), "give HOST:PORT"),
        (("--recipes", "0=part"), "is not NUMBER=NAME"),
        (("--recipes", "1=part,1=other"), "is not NUMBER=NAME with a number of its own"),
        (("--line", "absent"), "this station has the lines line"),
    ],
)
def test_what_makes_no_sense_is_refused(plant: StationFolder, within: Program, words: tuple[str, str], said: str) -> None:
    result = within("modbus", "--config", plant.write(), *words)
    assert result.returncode in (2, 78)
    assert said in result.stderr


def test_an_address_that_is_taken_is_told(plant: StationFolder, within: Program, tmp_path: Path) -> None:
    settings = plant.write()
    with running(tmp_path, "modbus", "--config", settings, "--listen", "127.0.0.1:0") as (_, told):
        wait_until(lambda: bool(said(told, "modbus.started")), 60)
        taken = said(told, "modbus.started")[0]["address"]
        result = within("modbus", "--config", settings, "--listen", taken)
    assert result.returncode == 1
    assert f"cannot listen on {taken}" in result.stderr
