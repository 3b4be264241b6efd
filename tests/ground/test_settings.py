"""Settings are checked whole: overrides like the file itself, addresses that leave the machine, wiring that leads nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from edge_agent.addresses import is_loopback
from edge_agent.camera.pixelformats import KNOWN
from edge_agent.camera_settings import FolderCamera, PixelFormat, SyntheticCamera
from edge_agent.errors import EXIT_CONFIGURATION, EXIT_USAGE, ConfigurationError, Problem, UsageError
from edge_agent.settings import Station, load_station

GOOD = """\
station: hall3
cameras:
  - {name: a, kind: synthetic}
  - {name: b, kind: folder, path: images}
lines:
  - {name: one, camera: a, recipe: r}
  - {name: two, camera: b, recipe: r}
"""


def load(folder: Path, text: str = GOOD, *overrides: str) -> Station:
    file = folder / "station.yaml"
    file.write_text(text)
    return load_station(file, list(overrides))


def problems_of(folder: Path, text: str = GOOD, *overrides: str) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, *overrides)
    assert caught.value.exit_code == EXIT_CONFIGURATION
    return caught.value.problems


def test_cameras_are_told_apart_by_kind_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    station = load(tmp_path)
    assert isinstance(station.camera("a"), SyntheticCamera)
    assert isinstance(station.camera("b"), FolderCamera)
    assert station.path("state") == (tmp_path / "state").resolve()


def test_an_override_replaces_one_value_and_makes_the_way_to_it(tmp_path: Path) -> None:
    station = load(tmp_path, GOOD, "cameras.0.rate_hz=3", "plc.heartbeat_ms=20", "lines.1.mode=shadow", "station=hall4")
    settings = station.settings
    assert (settings.cameras[0].rate_hz, settings.cameras[1].rate_hz) == (3, 0)
    assert (settings.plc.heartbeat_ms, settings.lines[1].mode, settings.station) == (20, "shadow", "hall4")


@pytest.mark.parametrize(
    "override", ["plc.heartbeat_ms=.nan", "cameras.0.rate_hz=.inf", "drain_s=-1", "plc.nothing=1", "drain_s=x"]
)
def test_an_override_is_checked_like_the_file(tmp_path: Path, override: str) -> None:
    (problem,) = problems_of(tmp_path, GOOD, override)
    assert problem.key == override.split("=")[0]


@pytest.mark.parametrize("override", ["drain_s", "=3", "cameras.7.name=x", "cameras.x.name=y", "station.deep.er=1", "drain_s=[1"])
def test_an_override_that_leads_nowhere_is_a_mistake_of_usage(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="--set") as caught:
        load(tmp_path, GOOD, override)
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5556", "tcp://127.0.0.1:*", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///run/x"],
)
def test_these_addresses_stay_on_this_machine(endpoint: str) -> None:
    assert is_loopback(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5556",
        "tcp://0.0.0.0:5556",
        "tcp://10.0.0.1:5556",
        "tcp://127.0.0.1.example.org:1",
        "tcp://localhost.example.org:1",
        "tcp://[::]:1",
        "tcp://eth0:1",
    ],
)
@pytest.mark.parametrize("key", ["plc.verdicts", "plc.control", "uplink.collector"])
def test_plaintext_beyond_this_machine_needs_a_word(tmp_path: Path, endpoint: str, key: str) -> None:
    assert not is_loopback(endpoint)
    words = ["plc.verdicts='tcp://127.0.0.1:5555'", f"{key}='{endpoint}'"]
    (problem,) = problems_of(tmp_path, GOOD, *words)
    assert problem.key == key
    section = key.split(".")[0]
    assert f"encrypt it ({section}.curve), or set {section}.allow_plaintext" in problem.remedy
    load(tmp_path, GOOD, *words, f"{section}.allow_plaintext=true")
    load(tmp_path, GOOD, *words, f"{section}.curve={CURVE[section]}")


CURVE = {"plc": "{secret_key: s.key_secret, clients: keys}", "uplink": "{secret_key: s.key_secret, server_key: c.key}"}


@pytest.mark.parametrize(
    "endpoint", ["tcp://localhost", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:0", "5558", "tcp://127.0.0.1:1;10.0.0.1:2", "ipc://"]
)
@pytest.mark.parametrize("key", ["plc.verdicts", "plc.control", "uplink.collector"])
def test_what_is_no_address_is_refused_here_and_not_at_the_start(tmp_path: Path, endpoint: str, key: str) -> None:
    (problem,) = problems_of(tmp_path, GOOD, f"{key}='{endpoint}'")
    assert problem.key == key
    assert "tcp://HOST:PORT with a port from 1 to 65535" in problem.remedy


def test_problems_of_form_do_not_hide_contradictions(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, GOOD, "plc.verdicts='tcp://0.0.0.0:1'", "drain_s=-1", "lines.0.camera=absent")
    assert {problem.key for problem in problems} == {"plc.verdicts", "drain_s", "lines.0.camera"}


def test_a_camera_with_a_problem_is_not_missed_by_its_line(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, GOOD.replace("kind: synthetic", "kind: usb"), "plc.control='tcp://*:1'")
    assert {problem.key for problem in problems} == {"cameras.0.kind", "plc.control"}


def test_the_word_for_the_uplink_does_not_open_the_plc(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, GOOD, "plc.control=tcp://*:1", "uplink.allow_plaintext=true")
    assert problem.key == "plc.control"


@pytest.mark.parametrize("endpoint", ["udp://127.0.0.1:1", "127.0.0.1:5556", "tcp://"])
def test_what_is_no_address_is_refused(tmp_path: Path, endpoint: str) -> None:
    assert problems_of(tmp_path, GOOD, f"plc.verdicts='{endpoint}'")[0].key == "plc.verdicts"


@pytest.mark.parametrize(
    ("old", "new", "key", "line"),
    [
        ("camera: b", "camera: c", "lines.1.camera", 7),
        ("camera: b", "camera: a", "lines.1.camera", 7),
        ("name: two", "name: one", "lines.1.name", 7),
        ("name: b", "name: a", "cameras.1.name", 4),
    ],
)
def test_wiring_that_leads_nowhere_is_refused(tmp_path: Path, old: str, new: str, key: str, line: int) -> None:
    assert (key, line) in [(problem.key, problem.line) for problem in problems_of(tmp_path, GOOD.replace(old, new))]


VIEWS = """\
station: hall3
cameras:
  - {name: a, kind: synthetic}
  - {name: b, kind: folder, path: images}
lines:
  - name: one
    views:
      - {name: top, camera: a, recipe: r}
      - {name: side, camera: b, recipe: r}
    challenge:
      parts:
        - {name: bad, expect: NG}
        - {name: good, expect: PASS}
"""


@pytest.mark.parametrize(
    ("old", "new", "key", "line"),
    [("name: side", "name: top", "lines.0.views.1.name", 9), ("name: good", "name: bad", "lines.0.challenge.parts.1.name", 13)],
)
def test_two_of_one_name_in_a_line_are_refused(tmp_path: Path, old: str, new: str, key: str, line: int) -> None:
    """Of two views each picture would be a part; of two master parts the first would never have to come out right."""
    load(tmp_path, VIEWS)
    (problem,) = problems_of(tmp_path, VIEWS.replace(old, new))
    assert (problem.key, problem.line) == (key, line)
    assert f"{key.removesuffix('.1.name')}.0 has already" in problem.message


def test_both_sockets_on_one_address_are_refused_unless_the_system_chooses(tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD, "plc.control=tcp://127.0.0.1:5556")[0].key == "plc.control"
    load(tmp_path, GOOD, "plc.control=tcp://127.0.0.1:*", "plc.verdicts=tcp://127.0.0.1:*")


@pytest.mark.parametrize(
    ("metrics", "is_refused"),
    [
        ("{port: 5556}", True),
        ("{address: '::1', port: 5556}", False),
        ("{address: 0.0.0.0, port: 5557, allow_plaintext: true}", True),
        ("{port: 0}", False),
        ("{port: 5558}", False),
    ],
)
def test_the_metrics_need_a_port_of_their_own(tmp_path: Path, metrics: str, is_refused: bool) -> None:
    words = ["plc.verdicts=tcp://127.0.0.1:5556", "plc.control=tcp://127.0.0.1:5557", f"metrics={metrics}"]
    if is_refused:
        (problem,) = problems_of(tmp_path, GOOD, *words)
        assert (problem.key, problem.message.partition(" as ")[0]) == ("metrics.port", "is the same address")
    else:
        load(tmp_path, GOOD, *words)


def test_metrics_at_their_own_place_are_held_against_the_sockets(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, GOOD, "plc.control=tcp://127.0.0.1:9108")
    assert (problem.key, problem.message) == ("metrics.port", "is the same address as plc.control.")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "x" * 65, "häll"])
def test_a_name_that_would_not_do_as_a_topic_is_refused(tmp_path: Path, name: str) -> None:
    assert problems_of(tmp_path, GOOD, f"station='{name}'")[0].key == "station"


@pytest.mark.parametrize(
    ("verdicts", "control", "is_refused"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5556", True),
        ("tcp://localhost:5556", "tcp://127.0.0.1:5556", True),
        ("tcp://*:5556", "tcp://127.0.0.1:5556", True),
        ("tcp://10.0.0.1:5556", "tcp://0.0.0.0:5556", True),
        ("ipc:///run/a", "ipc:///run/a", True),
        ("tcp://10.0.0.1:5556", "tcp://127.0.0.1:5556", False),
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557", False),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", False),
        ("ipc:///run/a", "ipc:///run/b", False),
        ("ipc:///run/a", "tcp://127.0.0.1:5557", False),
    ],
)
def test_verdicts_and_control_need_an_address_each(tmp_path: Path, verdicts: str, control: str, is_refused: bool) -> None:
    words = [f"plc.verdicts='{verdicts}'", f"plc.control='{control}'", "plc.allow_plaintext=true"]
    if is_refused:
        assert {problem.key for problem in problems_of(tmp_path, GOOD, *words)} == {"plc.control"}
    else:
        assert load(tmp_path, GOOD, *words).settings.plc.control == control


def test_what_is_said_of_the_cameras_serial_number_is_what_is_wrong(tmp_path: Path) -> None:
    camera = "- {name: a, kind: %s}"
    for kind in ("aravis", "v4l2"):
        (problem,) = problems_of(tmp_path, GOOD.replace(camera % "synthetic", camera % f"{kind}, serial: 21234567"))
        assert (problem.key, problem.remedy) == ("cameras.0.serial", "give text, in quotes.")
        (problem,) = problems_of(tmp_path, GOOD.replace(camera % "synthetic", camera % f'{kind}, serial: ""'))
        assert "found by exactly one of" in problem.message


def test_what_is_wrong_beside_another_key_of_the_camera_is_said_too(tmp_path: Path) -> None:
    camera = "kind: aravis, address: 1.2.3.400, exposure_time_us: -3"
    found = problems_of(tmp_path, GOOD.replace("kind: synthetic", camera))
    assert [problem.key for problem in found] == ["cameras.0.exposure_time_us", "cameras.0"]
    assert "address 1.2.3.400 is no IPv4 address" in found[1].message
    (problem,) = problems_of(tmp_path, GOOD.replace("kind: synthetic", "kind: aravis, adress: 127.0.0.2"))
    assert problem.remedy == "did you mean `address`?"


def test_a_pixel_format_that_no_station_reads_is_refused(tmp_path: Path) -> None:
    assert get_args(PixelFormat) == KNOWN
    camera = "kind: aravis, address: 127.0.0.2, pixel_format: BayerRG12"
    (problem,) = problems_of(tmp_path, GOOD.replace("kind: synthetic", camera))
    assert problem.key == "cameras.0.pixel_format"
    assert "Mono16, Mono8, RGB8" in problem.remedy


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("shifts=[" + ", ".join(["'06:00'"] * 25) + "]", "give a list of at most 24."),
        ("lines=[]", "give a list of 1 to 32."),
        ("cameras.0={name: a, kind: video, url: ''}", "give text that is not empty."),
        ("cameras.0={name: a, kind: v4l2, by_id: /dev/v4l/by-id/usb-x}", "give a name in /dev/v4l/by-id, without that folder."),
    ],
)
def test_a_limit_is_told_as_it_is(tmp_path: Path, override: str, remedy: str) -> None:
    assert remedy in [problem.remedy for problem in problems_of(tmp_path, GOOD, override)]
