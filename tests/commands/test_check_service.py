"""What `edge-agent check` says of files that whoever looks can read, and the installed service cannot."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from services import Tell, systemctl
from stations import Program, StationFolder, an_ordinary_user, open_folder

from edge_agent.commands.doctor import holders as doctor_holders
from edge_agent.commands.doctor import station as doctor_station
from edge_agent.commands.doctor.service import parse
from edge_agent.security import make_keys
from edge_agent.settings import load_station

__all__ = ["systemctl"]
Images = Callable[[int], list[np.ndarray]]
OPEN = {"ProtectHome": "no", "PrivateTmp": "no", "ProtectSystem": "no"}


@pytest.fixture
def etc(images: Images) -> Iterator[StationFolder]:
    """A station that every account may read, with all kinds of pictures that settings can name."""
    made = StationFolder(open_folder())
    made.add_images(images(3))
    (made.folder / "recipes" / "golden").mkdir(parents=True)
    for name in ("recipes/golden/good.png", "recipes/golden/bad.png", "master.png"):
        shutil.copy(made.images / "0002.png", made.folder / name)
    made.recipe["golden"] = {"good": ["golden/good.png"], "bad": ["golden/bad.png"]}
    made.settings["cameras"][0]["repeat"] = True
    (made.folder / "state").mkdir()
    (made.folder / "state").chmod(0o777)
    made.settings["lines"][0]["challenge"] = {"parts": [{"name": "bad", "expect": "NG", "image": "master.png"}]}
    yield made
    shutil.rmtree(made.folder)


def found(within: Program, file: Path, kind: str = "problems") -> dict[str, str]:
    """Key and words of each find in the files."""
    told = json.loads(within("check", "--files", "--json", "--config", file).stdout)
    assert all(each["remedy"] for each in told[kind]), told
    return {each["key"]: f"{each['message']} Remedy: {each['remedy']}" for each in told[kind]}


def test_what_the_service_may_read_is_well(within: Program, etc: StationFolder, systemctl: Tell) -> None:
    file = etc.write()
    systemctl(file, **OPEN)
    assert found(within, file) == {}


@pytest.mark.parametrize(
    ("closed", "key"),
    [
        ("station.yaml", ""),
        ("images", "cameras.0.path"),
        ("images/0001.png", "cameras.0.path"),
        ("recipes/part.yaml", "lines.0.recipe"),
        ("recipes/golden/bad.png", "lines.0.recipe"),
        ("models/bright", "lines.0.recipe"),
        ("models/bright/model.onnx", "lines.0.recipe"),
        ("master.png", "lines.0.challenge.parts.0.image"),
    ],
)
def test_what_the_service_may_not_read_is_a_problem(
    within: Program, etc: StationFolder, systemctl: Tell, closed: str, key: str
) -> None:
    file = etc.write()
    systemctl(file, **OPEN)
    (etc.folder / closed).chmod(0o700)
    told = found(within, file)
    assert list(told) == [key]
    for word in (str(etc.folder / closed), "account nobody", "mode 0700", "chmod", "/var/lib/edge-agent"):
        assert word in told[key]
    systemctl(etc.folder / "another.yaml", **OPEN)
    assert found(within, file) == {}, "these settings are not the service's"


def test_keys_that_the_service_may_not_read_are_problems(within: Program, etc: StationFolder, systemctl: Tell) -> None:
    keys = etc.folder / "keys"
    (keys / "clients").mkdir(parents=True)
    _, secret = make_keys(keys, "hall")
    known, _ = make_keys(keys / "clients", "panel")
    etc.settings["plc"]["curve"] = {"secret_key": str(secret), "clients": "keys/clients"}
    file = etc.write()
    systemctl(file, **OPEN)
    secret.chmod(0o600)
    known.chmod(0o600)
    told = found(within, file)
    assert list(told) == ["plc.curve.secret_key", "plc.curve.clients"]
    assert f"Remedy: sudo chgrp nobody {secret} && sudo chmod 640 {secret}" in told["plc.curve.secret_key"]
    assert f"{known}, which the service's account nobody may not read" in told["plc.curve.clients"]


def test_what_the_sandbox_hides_is_a_problem(within: Program, etc: StationFolder, systemctl: Tell) -> None:
    file = etc.write()
    systemctl(file)
    told = found(within, file)
    assert told.keys() == {"", "state", "cameras.0.path", "lines.0.recipe", "lines.0.challenge.parts.0.image"}
    assert all("PrivateTmp=yes" in each and "/var/lib/edge-agent" in each for each in told.values())
    systemctl(file, BindReadOnlyPaths=f"/srv:/srv:rbind {etc.folder}:{etc.folder}:rbind")
    assert found(within, file).keys() == {"state"}, "what is bound read-only takes no journal"
    systemctl(file, BindPaths=f"/srv:/srv:rbind {etc.folder}:{etc.folder}:rbind")
    assert found(within, file) == {}


def test_a_state_folder_that_the_service_cannot_write_is_a_problem(within: Program, etc: StationFolder, systemctl: Tell) -> None:
    state = etc.folder / "state"
    file = etc.write()
    systemctl(file, **OPEN | {"ProtectSystem": "strict"})
    told = found(within, file)
    assert list(told) == ["state"]
    for words in (f"{state}, where the service, as nobody, keeps nothing: ProtectSystem=strict", f"ReadWritePaths={state}"):
        assert words in told["state"]
    systemctl(file, **OPEN | {"ProtectSystem": "strict", "ReadWritePaths": f"/srv -{etc.folder}"})
    assert found(within, file) == {}
    state.rmdir()
    assert f"{etc.folder} is not writable for nobody" in found(within, file)["state"]
    etc.settings["state"] = "/var/lib/edge-agent/state/of-line1"
    systemctl(etc.write(), **OPEN | {"ProtectSystem": "strict"})
    assert found(within, file) == {}, "systemd makes it for the account"


@pytest.mark.parametrize(("homes", "is_hidden"), [("yes", True), ("tmpfs", True), ("read-only", False), ("no", False)])
def test_homes_are_hidden_as_the_unit_says(homes: str, is_hidden: bool) -> None:
    shown = f"LoadState=loaded\nExecStart={{ argv[]=x run --config /etc/s.yaml ; }}\nUser=nobody\nProtectHome={homes}\n"
    service = parse(shown)
    assert service is not None
    for folder in ("home", "root", "run/user"):
        assert bool(service.hides(Path("/") / folder / "pictures")) == is_hidden
    assert not service.hides(Path("/homes"))
    bound = parse(f"{shown}BindReadOnlyPaths=/srv/pictures:{Path('/home') / 'pictures'}:rbind\n")
    assert bound is not None
    assert bool(bound.hides(Path("/home") / "pictures" / "belt")) == (homes == "yes"), (
        "systemd 252 binds nothing into what it closes"
    )


def test_a_master_or_golden_picture_that_is_not_there_is_a_problem_everywhere(within: Program, etc: StationFolder) -> None:
    file = etc.write()
    (etc.folder / "master.png").unlink()
    (etc.folder / "recipes" / "golden" / "good.png").write_text("no picture")
    told = found(within, file)
    assert (
        "master.png, which cannot be read: No such file or directory. Remedy: put it there, or mend the path"
        in (told["lines.0.challenge.parts.0.image"])
    )
    assert "good.png is not a readable image" in told["lines.0.recipe"]


def test_images_that_end_are_a_note_where_they_end_the_service(within: Program, etc: StationFolder, systemctl: Tell) -> None:
    del etc.settings["cameras"][0]["repeat"]
    file = etc.write()
    assert found(within, file, "warnings") == {}
    systemctl(file, **OPEN)
    (told,) = found(within, file, "warnings").values()
    assert "start limit" in told and "repeat: true" in told


@pytest.fixture
def running(etc: StationFolder) -> Iterator[tuple[Path, int]]:
    """A station as the service starts it, on TCP: its settings, and its process."""
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(3)]
    etc.settings["plc"].update(verdicts=f"tcp://127.0.0.1:{ports[0]}", control=f"tcp://127.0.0.1:{ports[1]}")
    etc.settings["metrics"] = {"port": ports[2]}
    etc.settings["cameras"][0]["rate_hz"] = 1
    del etc.recipe["golden"]
    file = etc.write()
    command = [sys.executable, "-m", "edge_agent", "run", "--config", str(file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            answers_by = time.monotonic() + 60
            while not doctor_holders.holder_of(ports[2]).pid:
                assert process.poll() is None and time.monotonic() < answers_by, "it does not start"
                time.sleep(0.05)
            yield file, process.pid
        finally:
            process.terminate()


def about_ports(within: Program, file: Path) -> list[tuple[str, str]]:
    machine = json.loads(within("check", "--json", "--config", file).stdout)["machine"]
    return [(each["level"], each["told"]) for each in machine if each["area"] in ("station", "ports")]


def test_ports_that_the_service_itself_holds_are_notes(
    within: Program, etc: StationFolder, running: tuple[Path, int], systemctl: Tell
) -> None:
    file, pid = running
    etc.settings["station"] = "hall4"
    etc.write()
    another = etc.folder / "another.yaml"
    shutil.copy(file, another)
    told = about_ports(within, file)
    assert [level for level, _ in told] == ["note"] * 4, told
    assert "'test', not 'hall4'" in told[0][1]
    assert all("held by the running service, which a restart ends" in words for _, words in told[1:])
    told = about_ports(within, another)
    assert [level for level, _ in told] == ["problem", "problem", "problem", "note"], told
    assert f"held by process {pid}: " in told[1][1]
    systemctl(another, MainPID=str(pid), **OPEN)
    assert [level for level, _ in about_ports(within, another)] == ["note"] * 4


def test_who_holds_a_port_is_known_by_its_account_where_its_process_is_not(running: tuple[Path, int], etc: StationFolder) -> None:
    file, _ = running
    with an_ordinary_user():
        station = load_station(file)
        own = [look.level for look in doctor_station.of_ports(station, False)]
        others = [look.level for look in doctor_station.of_ports(msgspec.structs.replace(station, file=str(etc.images)), False)]
    assert own == ["note"] * 3
    assert others == ["problem", "problem", "note"]
