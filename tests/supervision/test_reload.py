"""What systemd and whoever asked hear of reloads: ready only after the last that was asked for; a refusal before the answer."""

from __future__ import annotations

import queue
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stations import StationFolder

from edge_agent.errors import ConfigurationError, EdgeAgentError
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.plc.parts import LineBook
from edge_agent.reload import Reading, Reloader, for_the_next_start
from edge_agent.settings import load_station
from edge_agent.supervision import Supervision
from edge_agent.swapping import Swapper
from edge_agent.wire import Reply


class SlowSettings:
    """Settings whose reading waits for the test."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Semaphore(0), threading.Semaphore(0)

    def fresh(self) -> Reading:
        self.began.release()
        assert self.may_end.acquire(timeout=30)
        return Reading([], [], {})


class BadSettings:
    """Settings that cannot be used until `why` is ''."""

    def __init__(self, why: str) -> None:
        self.why = why

    def fresh(self) -> Reading:
        if self.why:
            raise ConfigurationError(self.why)
        return Reading([], ["station"], {})


class Owner:
    def tell_refusal(self, why: str) -> None: ...


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(str(tmp_path / "notify"))
    end.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield end
    end.close()


def test_a_second_reload_while_one_runs_is_done_before_ready(manager: socket.socket) -> None:
    settings = SlowSettings()
    swapper = Swapper({}, None, settings, Owner(), threading.Event(), lambda _: None)  # type: ignore[arg-type]

    def word() -> str:
        return manager.recv(4096).decode().split("\n")[0]

    swapper.reload()
    assert settings.began.acquire(timeout=30)
    for _ in range(3):
        swapper.reload()
    settings.may_end.release()
    assert settings.began.acquire(timeout=30), "what came meanwhile is read, too"
    assert [word() for _ in range(4)] == ["RELOADING=1"] * 4
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    manager.settimeout(30)
    settings.may_end.release()
    assert word() == "READY=1"
    swapper.reload()
    assert settings.began.acquire(timeout=30), "three at once are one"
    settings.may_end.release()
    assert [word(), word()] == ["RELOADING=1", "READY=1"]


def test_the_status_says_what_a_reload_came_to_before_it_is_answered(manager: socket.socket) -> None:
    supervision, settings = Supervision([LineBook("line")], []), BadSettings("rules.0.max is -1")
    swapper = Swapper({}, None, settings, supervision, threading.Event(), lambda _: None)  # type: ignore[arg-type]
    heard: queue.SimpleQueue[tuple[Reply, list[str]]] = queue.SimpleQueue()

    def answered(reply: Reply) -> None:
        """What systemd was told until now."""
        words: list[str] = []
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                words.append(manager.recv(4096).decode())
        manager.settimeout(30)
        heard.put((reply, [word for word in words if "STATUS=" in word]))

    def reload() -> tuple[Reply, list[str]]:
        swapper.reload(answered)
        came = heard.get(timeout=30)
        while "READY=1" not in manager.recv(4096).decode():
            pass
        return came

    reply, told = reload()
    assert not reply.ok
    assert "reload refused, the recipes before stay: rules.0.max is -1" in told[-1]
    settings.why = ""
    reply, told = reload()
    assert (reply.ok, reply.status) == (True, {"restart": ["station"]})
    assert "refused" not in told[-1]


def test_without_room_for_a_thread_a_reload_is_refused_and_the_next_is_not(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory or at the service's limit of tasks; whoever asks is the publisher's thread, which must not end by it."""

    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    swapper = Swapper({}, None, BadSettings(""), Owner(), threading.Event(), lambda _: None)  # type: ignore[arg-type]
    heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", full)
        swapper.reload(heard.put)
    refused = heard.get(timeout=30)
    assert (refused.ok, "starts no more threads" in refused.error) == (False, True)
    assert [manager.recv(4096).decode().split("\n")[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
    swapper.reload(heard.put)
    assert heard.get(timeout=30).ok


def test_without_room_for_a_thread_a_recipe_is_refused_and_may_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    line = SimpleNamespace(is_view=False)
    swapper = Swapper({"line": [line]}, None, None, Owner(), threading.Event(), lambda _: None)  # type: ignore[arg-type,list-item]
    heard: list[Reply] = []
    monkeypatch.setattr(threading.Thread, "start", full)
    for _ in range(2):
        swapper.change_recipe("line", "cap", heard.append)
    assert [(reply.ok, "starts no more threads" in reply.error) for reply in heard] == [(False, True)] * 2


def test_without_room_for_a_thread_that_looks_for_an_engine_the_daemon_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be started anew: its lines would not be ready for ever."""

    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    failures: list[EdgeAgentError] = []
    absent = object.__new__(AbsentSegmenter)
    absent.why = "no GPU"
    line = SimpleNamespace(bundle=SimpleNamespace(segmenter=absent))
    owner = SimpleNamespace(fail=failures.append)
    swapper = Swapper({"line": [line]}, None, None, owner, threading.Event(), lambda _: None)  # type: ignore[arg-type,list-item]
    monkeypatch.setattr(threading.Thread, "start", full)
    swapper.await_engines()
    assert ["raise TasksMax=" in str(failure) for failure in failures] == [True]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, []),
        ({"station": "other"}, ["station"]),
        ({"cameras": [{"name": "camera", "kind": "folder", "path": "images", "rate_hz": 5}]}, ["cameras.0.rate_hz"]),
        ({"cameras": [{"name": "camera", "kind": "synthetic", "rows": 64, "cols": 64}]}, ["cameras.0"]),
        ({"lines": [{"name": "line", "camera": "camera", "recipe": "another"}]}, ["lines.0.frames"]),
        ({"engine": {"kind": "auto"}, "metrics": {}, "shifts": ["06:00"]}, ["engine", "metrics", "shifts"]),
    ],
)
def test_settings_that_count_at_the_next_start_are_named(station: StationFolder, change: dict[str, Any], named: list[str]) -> None:
    before = load_station(station.write()).settings
    station.settings |= change
    assert for_the_next_start(before, load_station(station.write()).settings) == named


def test_a_refusal_names_the_settings_that_a_reload_does_not_change(station: StationFolder) -> None:
    """A recipe of a model in a folder that `models` names since the start is looked for in the one before."""

    def forge(*_asked: object) -> None:
        raise ConfigurationError("models has no cap.")

    identity = SimpleNamespace(recipe="recipe", generation=1)
    reloader = Reloader(
        load_station(station.write()), {"line": [SimpleNamespace(bundle=SimpleNamespace(identity=identity))]}, forge
    )  # type: ignore[list-item,arg-type]
    with pytest.raises(ConfigurationError, match=r"^models has no cap\.$"):
        reloader.fresh()
    station.settings["models"] = "others"
    station.write()
    with pytest.raises(ConfigurationError, match=r"models has no cap\. Settings that differ by now .* alone: models\. .* restart"):
        reloader.fresh()
