"""What systemd hears of reloads: ready only after the last that was asked for."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from edge_agent.swapping import Swapper


class SlowSettings:
    """Settings whose reading waits for the test."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Semaphore(0), threading.Semaphore(0)

    def fresh(self) -> list[object]:
        self.began.release()
        assert self.may_end.acquire(timeout=30)
        return []


class Owner:
    def note(self, text: str) -> None: ...


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
    swapper = Swapper({}, None, settings, Owner(), threading.Event())  # type: ignore[arg-type]

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
