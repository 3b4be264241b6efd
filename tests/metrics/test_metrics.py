"""What Prometheus reads of a running station: true, complete, and never in a part's way."""

from __future__ import annotations

import copy
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from running import wait_until
from stations import StationFolder

from edge_agent.daemon import Daemon
from edge_agent.errors import Reason
from edge_agent.metrics.server import MetricsServer
from edge_agent.metrics.station import of_plc
from edge_agent.metrics.table import METRICS
from edge_agent.plc.replay import ReplayBuffer
from edge_agent.settings import MetricsSettings, load_station

Images = Callable[[int], list[np.ndarray]]
NOT_EVERYWHERE = {"temperature_celsius", "cpu_throttles_total", "alarm"}


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Value by name and label values, in the order of the table."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("edge_agent_")
            metric = METRICS.get(name)
            labels = tuple(sample.labels[label] for label in metric.labels) if metric else tuple(sample.labels.values())
            found[name, labels] = sample.value
    return found


@contextmanager
def running(station: StationFolder, **metrics: Any) -> Iterator[Daemon]:
    """The daemon on its own thread, until the block is left."""
    station.settings["metrics"] = {"port": 0, **metrics}
    daemon = Daemon(load_station(station.write()))
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.close()


def judged(daemon: Daemon, parts: int) -> None:
    wait_until(lambda: daemon.publisher.published >= parts, 30)


def test_the_metrics_say_what_the_station_did(station: StationFolder, images: Images) -> None:
    station.add_images(images(12))
    station.settings["uplink"] = {"collector": "tcp://127.0.0.1:1"}
    with running(station) as daemon:
        judged(daemon, 12)
        assert daemon.metrics is not None
        text = scrape(daemon.metrics.port)
    read = samples(text)
    assert read["triggers_total", ("line",)] == 12
    assert read["frames_total", ("line", "")] == 12
    assert read["parts_total", ("line", "PASS")] == 8
    assert read["parts_total", ("line", "NG")] == 4
    assert read["parts_total", ("line", "FAULT")] == 0
    assert read["reasons_total", ("line", "NG", "blob_count")] == 4
    assert read["published_total", ()] == 12
    assert read["open_parts", ("line",)] == 0
    assert read["frame_slots", ("line", "")] == station.settings["lines"][0]["frames"]
    assert read["collector_connected", ()] == 0
    assert read["rule_margin", ("line", "peak_score")] == pytest.approx(
        min(f.margin for f in daemon.publisher.statistics["line"]._findings[0] if f.rule == "peak_score")
    )
    assert 0 < read["deadline_margin_seconds", ("line",)] < read["deadline_seconds", ("line",)] == pytest.approx(4.995)
    assert read["edge_agent_verdict_seconds_count".removeprefix("edge_agent_"), ("line",)] == 12
    assert read["process_resident_memory_bytes", ()] > 10_000_000
    buckets = [v for (name, labels), v in read.items() if name == "stage_seconds_bucket" and "infer" in labels]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 12


def test_slots_that_a_camera_was_lent_are_free(station: StationFolder, images: Images) -> None:
    """A live camera is lent all that there are: an idle line with nothing but room had none by its metrics."""
    station.add_images(images(3))
    station.settings["cameras"][0] |= {"rate_hz": 1, "repeat": True}
    with running(station) as daemon:
        judged(daemon, 1)
        assert daemon.metrics is not None
        port, frames = daemon.metrics.port, station.settings["lines"][0]["frames"]
        wait_until(lambda: samples(scrape(port))["frame_slots_free", ("line", "")] == frames, 10)


def test_every_reason_is_there_before_the_first_of_its_kind(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with running(station) as daemon:
        judged(daemon, 3)
        assert daemon.metrics is not None
        read = samples(scrape(daemon.metrics.port))
        assert {reason.value: read["reasons_total", ("line", "FAULT", reason.value)] for reason in Reason} == {
            reason.value: 0 for reason in Reason
        }
        assert read["line_held", ("line",)] == 0
        daemon.publisher.book.lines["line"].hold = "master part bad1 came out PASS, not NG"
        assert samples(scrape(daemon.metrics.port))["line_held", ("line",)] == 1


def test_a_refused_reload_is_a_number_until_a_good_one(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with running(station) as daemon:
        assert daemon.metrics is not None
        port, seen = daemon.metrics.port, []
        for most in (0, -1, 1):
            station.recipe["rules"] = [{"rule": "blob_count", "max": most}]
            station.write()
            answered = threading.Event()
            daemon._swapper.reload(lambda _reply, answered=answered: answered.set())
            assert answered.wait(60)
            seen.append(samples(scrape(port))["reload_refused", ()])
    assert seen == [0, 1, 0]


def test_every_metric_of_the_table_comes_from_a_running_station(station: StationFolder, images: Images) -> None:
    station.add_images([*images(3), np.full((64, 64), 10, np.uint8)])
    station.settings["cameras"][0]["rate_hz"] = 50
    station.settings["uplink"] = {"collector": "tcp://127.0.0.1:1"}
    with running(station) as daemon:
        judged(daemon, 4)
        assert daemon.metrics is not None
        wait_until(lambda: bool(daemon.lines[0].grabber.counters), 5)
        text = scrape(daemon.metrics.port)
    names = {line.split()[2].removeprefix("edge_agent_") for line in text.splitlines() if line.startswith("# TYPE edge_agent")}
    expected = {name for name in METRICS if not name.startswith("gpu_")} - NOT_EVERYWHERE
    assert expected <= names, expected - names
    assert names <= set(METRICS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")
def test_promtool_finds_nothing_to_mend_in_the_page(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with running(station) as daemon:
        judged(daemon, 3)
        assert daemon.metrics is not None
        page = scrape(daemon.metrics.port)
    result = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_views_have_their_names_as_labels(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    line = station.settings["lines"][0]
    del line["camera"], line["recipe"]
    station.settings["cameras"] = [{"name": name, "kind": "folder", "path": "images", "rate_hz": 10} for name in ("a", "b")]
    line["views"] = [{"name": name, "camera": camera, "recipe": "part"} for name, camera in (("top", "a"), ("side", "b"))]
    with running(station) as daemon:
        judged(daemon, 1)
        assert daemon.metrics is not None
        wait_until(lambda: all(each.frames for each in daemon.lines))
        read = samples(scrape(daemon.metrics.port))
    assert read["frames_total", ("line", "top")] >= 1
    assert read["frames_total", ("line", "side")] >= 1
    assert {labels[1] for name, labels in read if name == "line_info"} == {"top", "side"}


def test_a_port_that_is_taken_costs_the_metrics_and_no_part(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with socket.create_server(("127.0.0.1", 0)) as taken, running(station, port=taken.getsockname()[1]) as daemon:
        judged(daemon, 3)
        assert daemon.metrics is None


def test_an_address_that_no_interface_has_yet_costs_no_metrics(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with running(station, address="192.0.2.7", allow_plaintext=True) as daemon:
        assert daemon.metrics is not None


def test_a_peer_that_never_finishes_its_request_is_dropped(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    with running(station) as daemon:
        assert daemon.metrics is not None
        with socket.create_connection(("127.0.0.1", daemon.metrics.port)) as silent:
            silent.sendall(b"GET /met")
            judged(daemon, 3)
            assert samples(scrape(daemon.metrics.port))["published_total", ()] == 3
            silent.settimeout(30)
            assert silent.recv(1) == b""


class Nothing(Collector):
    def collect(self) -> list[Any]:
        return []


@contextmanager
def dripping(port: int) -> Iterator[threading.Thread]:
    """A peer that sends its request byte by byte and never comes to an end, until it is dropped."""
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(b"GET /metrics HTTP/1.0\r\nX: ")

    def drip() -> None:
        with suppress(OSError):
            while True:
                peer.sendall(b"a")
                peer.settimeout(0.02)
                with suppress(TimeoutError):
                    if not peer.recv(1):
                        return

    thread = threading.Thread(target=drip)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive(), "it was never dropped"
    peer.close()


def test_a_peer_that_drips_holds_up_neither_a_scrape_nor_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.metrics.server._PATIENCE_S", 3600.0)
    server = MetricsServer(MetricsSettings(port=0), Nothing())
    server.start()
    with dripping(server.port):
        assert "process_start_time_seconds" in scrape(server.port)
        server.close()


def test_a_peer_has_so_long_for_its_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.metrics.server._PATIENCE_S", 0.3)
    server = MetricsServer(MetricsSettings(port=0), Nothing())
    server.start()
    with dripping(server.port) as peer:
        peer.join(60)
    server.close()


def test_more_peers_than_there_is_room_for_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.metrics.server._PATIENCE_S", 3600.0)
    server = MetricsServer(MetricsSettings(port=0), Nothing())
    server.start()
    with ExitStack() as peers:
        for _ in range(16):
            peers.callback(socket.create_connection(("127.0.0.1", server.port)).close)
        with pytest.raises(OSError):
            scrape(server.port)
    wait_until(lambda: bool(scrapes(server.port)), 30)
    server.close()


@pytest.mark.parametrize("kind", [threading.Thread, threading.Timer])
def test_a_peer_for_whom_no_thread_can_be_had_takes_no_place_and_ends_nothing(
    kind: type[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, failed = MetricsServer(MetricsSettings(port=0), Nothing()), list[threading.ExceptHookArgs]()
    server.start()
    start = threading.Thread.start
    monkeypatch.setattr(threading, "excepthook", failed.append)

    def full(thread: threading.Thread) -> None:
        if type(thread) is kind:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", full)
        for _ in range(16):
            with pytest.raises(OSError):
                scrape(server.port)
    wait_until(lambda: bool(scrapes(server.port)), 30)
    server.close()
    assert not failed


def scrapes(port: int) -> str:
    with suppress(OSError):
        return scrape(port)
    return ""


def test_reading_what_waits_for_an_acknowledgement_changes_nothing_of_it() -> None:
    """It is the publisher's: a thread that forgot acknowledged verdicts just as it did ended the daemon."""
    replay = ReplayBuffer(4)
    replay.add(("one", 7, 1), b"", 100)
    replay.acknowledge("one", 7, (1,))
    before = copy.deepcopy(vars(replay))
    link: Any = SimpleNamespace(subscribers=0, dropped=0, active=set())
    publisher: Any = SimpleNamespace(published=1, records_refused=0, replay=replay, sockets=link, alarms=link)
    told = {name: value for name, _, value in of_plc(publisher)}
    assert (told["unacknowledged"], told["unacknowledged_age_seconds"]) == (0, 0.0)
    assert vars(replay) == before


def test_metrics_can_be_off(station: StationFolder, images: Images) -> None:
    station.add_images(images(3))
    station.settings["metrics"] = None
    daemon = Daemon(load_station(station.write()))
    assert daemon.metrics is None
    assert daemon.publisher.statistics is None
    assert daemon.run()["outcomes"] == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]
