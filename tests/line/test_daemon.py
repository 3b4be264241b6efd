"""The whole daemon on real images, real engine, real sockets: every trigger gets exactly one outcome."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from bright import gray, with_defect, write_bright_model
from running import wait_until
from simulation import ask
from stations import StationFolder

from edge_agent.collector.opening import open_store
from edge_agent.collector.receiver import Receiver
from edge_agent.collector.store import Store
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError, EdgeAgentError
from edge_agent.plc.gateway import Gateway
from edge_agent.settings import load_station
from edge_agent.wire import Request, Verdict

Images = Callable[[int], list[np.ndarray]]


def run(station: StationFolder, parts: int = 0) -> tuple[dict, list[Verdict]]:
    daemon = Daemon(load_station(station.write()), parts=parts)
    verdicts: list[Verdict] = []
    daemon.publisher.on_verdict = verdicts.append
    summary = daemon.run()
    return summary, sorted(verdicts, key=lambda verdict: verdict.seq)


def assert_conserved(summary: dict, triggers: int) -> None:
    assert summary["triggers"] == summary["outcomes"] == summary["published"] == triggers
    assert summary["pass"] + summary["ng"] + summary["fault"] == triggers


def test_a_camera_that_has_shown_all_has_counted_all(station: StationFolder, images: Images) -> None:
    station.add_images(images(7))
    (station.images / "0007.png").write_bytes(b"no picture")
    daemon = Daemon(load_station(station.write()))
    daemon.run()
    counters = daemon.lines[0].grabber.counters
    assert (counters["pictures"], counters["unreadable"]) == (7, 1)


def test_defects_come_out_ng_where_they_are(station: StationFolder, images: Images) -> None:
    station.add_images(images(12))
    summary, verdicts = run(station)
    assert_conserved(summary, 12)
    assert [v.outcome for v in verdicts] == ["PASS", "PASS", "NG"] * 4
    blob = verdicts[2].blobs[0]
    assert (blob.x, blob.y, blob.width, blob.height, blob.area_px) == (10, 20, 8, 6, 48)
    assert blob.centroid_x == pytest.approx(13.5)
    assert {finding.rule for finding in verdicts[0].findings} == {
        "mean_gray",
        "saturated_share",
        "presence",
        "blob_count",
        "peak_score",
    }
    assert all(finding.ok and finding.margin >= 0 for finding in verdicts[0].findings)


def test_what_cannot_be_judged_is_a_fault_with_its_reason(station: StationFolder) -> None:
    station.add_images([gray(), gray(level=10), gray(32, 32)])
    (station.images / "0003.png").write_bytes(b"no picture")
    summary, verdicts = run(station)
    assert_conserved(summary, 4)
    assert [(v.outcome, v.reasons) for v in verdicts] == [
        ("PASS", ()),
        ("FAULT", ("no_part",)),
        ("FAULT", ("bad_frame",)),
        ("FAULT", ("bad_frame",)),
    ]


@pytest.mark.parametrize(("rate_hz", "outcomes"), [(0, ["PASS"] * 3), (100, ["PASS", "FAULT", "FAULT"])])
def test_the_same_picture_twice_is_a_fault_of_a_live_source_only(
    station: StationFolder, rate_hz: float, outcomes: list[str]
) -> None:
    station.add_images([gray(level=150)] * 3)
    station.recipe["quality"] = {"frozen": True}
    station.settings["cameras"][0]["rate_hz"] = rate_hz
    _, verdicts = run(station)
    assert [v.outcome for v in verdicts] == outcomes
    assert {v.reasons for v in verdicts if v.outcome == "FAULT"} <= {("frozen",)}


def test_a_damaged_engine_is_never_a_pass(station: StationFolder, images: Images) -> None:
    write_bright_model(station.folder / "models" / "bright", nan_at=100)  # the level of good parts
    station.add_images(images(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_agent.events.say", lambda *a, **k: None)
        summary, verdicts = run(station)
    assert_conserved(summary, 4)
    assert [v.outcome for v in verdicts] == ["FAULT", "FAULT", "NG", "FAULT"]
    assert {v.reasons for v in verdicts if v.outcome == "FAULT"} == {("engine",)}


def test_an_engine_whose_every_answer_is_damaged_is_refused_before_any_part(station: StationFolder, images: Images) -> None:
    write_bright_model(station.folder / "models" / "bright", nan=True)
    station.add_images(images(1))
    with pytest.raises(ConfigurationError, match=r"on a black picture: 1 of 1 values are NaN or infinite") as refused:
        run(station)
    assert refused.value.exit_code == 78


@pytest.mark.parametrize(("prepare", "scale"), [("resize", 3), ("tile", 3)])
def test_larger_frames_give_blobs_in_frame_coordinates(station: StationFolder, prepare: str, scale: int) -> None:
    frame = with_defect(gray(64 * scale, 64 * scale), 30, 90, 24, 18)
    station.recipe["regions"] = [{"name": "whole", "prepare": prepare, "overlap_px": 16}]
    station.add_images([frame, gray(64 * scale, 64 * scale), frame])
    summary, verdicts = run(station)
    assert_conserved(summary, 3)
    assert [v.outcome for v in verdicts] == ["NG", "PASS", "NG"]
    blob = verdicts[0].blobs[0]
    assert len(verdicts[0].blobs) == 1
    assert (blob.x, blob.y) == (pytest.approx(30, abs=scale), pytest.approx(90, abs=scale))
    assert (blob.width, blob.height) == (pytest.approx(24, abs=scale), pytest.approx(18, abs=scale))
    assert blob.area_px == pytest.approx(24 * 18, rel=0.15)


def test_regions_zones_and_exclusions(station: StationFolder) -> None:
    wide = gray(64, 192)
    station.recipe["regions"] = [
        {"name": "left", "width": 64, "prepare": "native"},
        {"name": "right", "x": 128, "width": 64, "prepare": "native"},
    ]
    station.recipe["rules"] = [
        {"rule": "blob_count", "max": 5},
        {"rule": "zone", "name": "seal", "polygon": [[140, 10], [180, 10], [180, 50], [140, 50]], "max_count": 0},
    ]
    station.recipe["exclusions"] = [{"name": "stamp", "polygon": [[0, 0], [20, 0], [20, 20], [0, 20]]}]
    places = [(80, 20), (150, 20), (5, 5), (40, 40)]  # between the regions, in the seal, on the stamp, elsewhere
    station.add_images([with_defect(wide, x, y, 6, 6) for x, y in places])
    _, verdicts = run(station)
    assert [v.outcome for v in verdicts] == ["PASS", "NG", "PASS", "PASS"]
    assert verdicts[1].reasons == ("zone/seal/count",)
    assert [len(v.blobs) for v in verdicts] == [0, 1, 0, 1]
    assert verdicts[1].blobs[0].x == 150


def test_every_part_is_late_where_the_deadline_is_too_short(station: StationFolder, images: Images) -> None:
    station.recipe["deadline_ms"] = 1
    station.settings["lines"][0]["deadline_guard_ms"] = 0.99
    station.add_images(images(6))
    summary, verdicts = run(station)
    assert_conserved(summary, 6)
    assert {v.reasons for v in verdicts} == {("late",)}


class Peer:
    """The daemon in a process of its own, with a gateway and a control socket."""

    def __init__(self, station: StationFolder, parts: int = 0) -> None:
        file = station.write()
        command = [sys.executable, "-m", "edge_agent", "run", "--config", str(file), "--summary", str(station.folder / "s.json")]
        self.control = station.settings["plc"]["control"]
        self.gateway = Gateway(station.settings["plc"]["verdicts"], self.control)
        self.summary_file = station.folder / "s.json"
        self.process = subprocess.Popen([*command, "--parts", str(parts)], stderr=subprocess.DEVNULL)
        self.heard: list[Verdict] = []

    def await_ready(self) -> None:
        """A trigger before that is FAULT not_ready."""
        wait_until(lambda: ask(self.control, Request(op="status"), timeout_s=60).status["lines"]["line"]["state"] == "Ready", 60)

    def hear(self, count: int, timeout_s: float = 60) -> list[Verdict]:
        until = time.monotonic() + timeout_s
        while len(self.heard) < count and time.monotonic() < until:
            self.heard += self.gateway.verdicts(0.05)
        assert len(self.heard) >= count, f"heard {len(self.heard)} of {count}"
        return self.heard

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and listen on until the process has ended; return its exit code."""
        self.process.send_signal(number)
        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            self.heard += self.gateway.verdicts(0.05)
        self.heard += self.gateway.verdicts(0.1)
        return self.process.wait(timeout=1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.gateway.close()


@pytest.fixture
def peer(station: StationFolder, images: Images):
    peers: list[Peer] = []

    def start(parts: int = 0) -> Peer:
        peers.append(Peer(station, parts))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


def test_software_trigger_recipe_and_modes_over_the_control_socket(station: StationFolder, images: Images, peer) -> None:
    station.add_images([gray(level=170)] * 3)
    station.settings["cameras"][0].update(trigger="software", repeat=True)
    daemon = peer()
    daemon.await_ready()
    (station.folder / "recipes" / "strict.yaml").write_text(
        yaml.safe_dump({**station.recipe, "name": "strict", "rules": [{"rule": "peak_score", "max": 0.0}]})
    )

    def part(part_id: str) -> Verdict:
        assert ask(daemon.control, Request(op="trigger", line="line", part_id=part_id)).ok
        return daemon.hear(len(daemon.heard) + 1)[-1]

    first = part("A-1")
    assert (first.part_id, first.outcome, first.recipe) == ("A-1", "PASS", "part")
    assert ask(daemon.control, Request(op="recipe", line="line", name="strict"), timeout_s=20).ok
    second = part("A-2")
    assert (second.outcome, second.recipe, second.reasons) == ("NG", "strict", ("peak_score",))
    refused = ask(daemon.control, Request(op="recipe", line="line", name="absent"), timeout_s=20)
    assert not refused.ok
    assert "absent.yaml" in refused.error
    assert part("A-3").recipe == "strict"
    assert ask(daemon.control, Request(op="reload")).ok
    assert part("A-3b").recipe == "strict", "chosen recipes stay, while the settings name none but the one before"
    assert ask(daemon.control, Request(op="mode", line="line", mode="shadow")).ok
    assert part("A-4").shadow
    (station.folder / "recipes" / "third.yaml").write_text(yaml.safe_dump({**station.recipe, "name": "third"}))
    station.settings["lines"][0]["recipe"] = "third"
    station.write()
    assert ask(daemon.control, Request(op="reload")).ok
    assert part("A-4b").recipe == "third", "the settings name another by now"
    assert ask(daemon.control, Request(op="mode", line="line", mode="offline")).ok
    assert part("A-5").reasons == ("not_ready",)
    status = ask(daemon.control, Request(op="status")).status
    assert status["lines"]["line"]["seq"] == 7
    assert status["acknowledged"] >= 4
    assert daemon.end() == 0


def test_sigterm_finishes_what_is_in_flight(station: StationFolder, images: Images, peer) -> None:
    station.add_images(images(9))
    station.settings["cameras"][0].update(repeat=True, rate_hz=150)
    daemon = peer()
    daemon.hear(40)
    assert daemon.end() == 0
    summary = json.loads(daemon.summary_file.read_text())
    assert_conserved(summary, summary["triggers"])
    assert summary["reasons"].get("interrupted", 0) == 0
    assert sorted(v.seq for v in daemon.heard) == list(range(1, summary["triggers"] + 1))


class Collector:
    """A receiver on a thread's worth of turns, on this thread."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.store: Store = open_store(str(folder))
        self.receiver = Receiver(endpoint, self.store)

    def serve(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.receiver.serve_batch()

    def close(self) -> None:
        self.receiver.close()
        self.store.close()


def test_kill_9_loses_and_contradicts_nothing(station: StationFolder, images: Images, peer) -> None:
    endpoint = f"ipc://{station.folder}/u"
    station.settings["uplink"] = {"collector": endpoint}
    station.add_images(images(9))
    station.settings["cameras"][0].update(repeat=True, rate_hz=200)
    heard: dict[tuple[int, int], str] = {}
    for count in (30, 45, 60):
        daemon = peer()
        for verdict in daemon.hear(count):
            heard[verdict.epoch, verdict.seq] = verdict.outcome
        daemon.end(signal.SIGKILL)
        heard.update({(verdict.epoch, verdict.seq): verdict.outcome for verdict in daemon.heard})
        daemon.close()
    last = peer(5)
    collector = Collector(station.folder / "collector", endpoint)
    collector.serve(20, lambda: last.process.poll() is not None)
    stored = {(v.epoch, v.seq): v for v in collector.store.verdicts()}
    assert collector.store.count("contradictions") == 0
    collector.close()
    assert {key: stored[key].outcome for key in heard} == heard
    for epoch in {epoch for epoch, _ in heard}:
        seqs = sorted(seq for e, seq in stored if e == epoch)
        assert seqs == list(range(1, len(seqs) + 1)), "a trigger without an outcome"
    interrupted = [v for v in stored.values() if v.reasons == ("interrupted",)]
    assert all((v.epoch, v.seq) not in heard for v in interrupted)


def test_configuration_that_never_works_ends_with_78(station: StationFolder, images: Images) -> None:
    station.add_images(images(1))
    station.recipe["rules"] = [{"rule": "blob_count", "max": -1}]
    command = [sys.executable, "-m", "edge_agent", "run", "--config", str(station.write())]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 78
    assert "part.yaml:" in ended.stderr
    assert "rules.0.max: is -1" in ended.stderr


def test_a_thread_that_ends_by_an_error_stops_the_daemon_loudly(station: StationFolder, images: Images) -> None:
    station.add_images(images(6))
    station.settings["drain_s"] = 1  # nothing is published any more, which the end waits for in vain
    daemon = Daemon(load_station(station.write()))

    def fail(_verdict: Verdict) -> None:
        raise RuntimeError("nobody foresaw this")

    daemon.publisher.on_verdict = fail
    with pytest.raises(EdgeAgentError, match="publisher"):
        daemon.run()


def test_a_thread_that_ends_by_an_error_stops_the_daemon_though_the_log_fails_too(
    station: StationFolder, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add_images(images(6))
    station.settings["drain_s"] = 1
    daemon = Daemon(load_station(station.write()))

    def fail(what: object, **_values: object) -> None:
        if not str(what).startswith("station.st"):  # a start and a stop can be told
            raise TypeError("nobody foresaw this")

    daemon.publisher.on_verdict = fail
    monkeypatch.setattr("edge_agent.daemon.say", fail)
    with pytest.raises(EdgeAgentError, match="publisher"):
        daemon.run()
