"""A thread that does not get on is noticed; one that waits for work, or said that it takes longer, is not."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from edge_agent import events, process
from edge_agent.notify import Building, Watchdog, notify, watchdog_s
from edge_agent.plc.parts import LineBook
from edge_agent.pulse import Pulse
from edge_agent.settings import ThreadWish
from edge_agent.supervision import Counts, Supervision


class Manager:
    """systemd's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(str(folder / "notify"))
        self._end.setblocking(False)

    def heard(self) -> list[str]:
        words: list[str] = []
        try:
            while True:
                words += self._end.recv(4096).decode().split("\n")
        except BlockingIOError:
            return words

    def close(self) -> None:
        self._end.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2")
    yield made
    made.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    lines: list[tuple[str, dict]] = []
    monkeypatch.setattr("edge_agent.supervision.say", lambda name, **values: lines.append((name, values)))
    monkeypatch.setattr("edge_agent.process.say", lambda name, **values: lines.append((name, values)))
    return lines


def test_a_stall_is_told_once_and_the_watchdog_is_not_fed_meanwhile(manager: Manager, said: list) -> None:
    pulse, idle = Pulse("grab-line"), Pulse("evidence")
    watch = Supervision([LineBook("line")], [pulse, idle])
    watch.look()
    assert "WATCHDOG=1" in manager.heard()  # nobody has begun yet
    pulse.beat()
    time.sleep(0.001)  # the watchdog waits two microseconds here
    watch.look()
    watch.look()
    assert [name for name, _ in said] == ["station.stalled"]
    assert said[0][1]["thread"] == "grab-line"
    heard = manager.heard()
    assert heard.count("WATCHDOG=trigger") == 1
    assert "WATCHDOG=1" not in heard
    pulse.beat(patience_s=60)
    watch.look()
    assert [name for name, _ in said] == ["station.stalled", "station.stall_ended"]
    assert "WATCHDOG=1" in manager.heard()


def test_a_thread_that_rests_is_not_missed() -> None:
    pulse = Pulse("evidence")
    pulse.beat()
    assert pulse.stalled_s(0) > 0
    pulse.rest()
    assert pulse.stalled_s(0) == 0


def test_the_status_has_the_lines_their_rate_and_the_last_fault() -> None:
    book = LineBook("line", ready=True)
    counts = Counts([book])
    counts.take(10.0)
    assert counts.last_fault(10.0) == "no fault"
    book.outcomes.update(PASS=30, FAULT=2)
    book.reasons["late"] = 2
    counts.take(12.0)
    assert counts.rate_hz == 16
    assert counts.last_fault(15.0) == "last fault line late, 3 s ago"


def test_a_camera_that_is_away_is_in_the_status(manager: Manager) -> None:
    book = LineBook("line", why_not_ready="no such camera\nanywhere")
    Supervision([book], []).look()
    assert "STATUS=line Error (no such camera anywhere); 0.0 parts/s; no fault" in manager.heard()


def test_ready_is_told_once_when_every_line_is_ready_or_has_said_why_not(manager: Manager) -> None:
    well, away = LineBook("well"), LineBook("away")
    watch = Supervision([well, away], [], [well, away])
    watch.look()
    well.ready = True
    watch.look()
    heard = manager.heard()
    assert "READY=1" not in heard, "one has not said a word yet"
    assert "WATCHDOG=1" in heard
    away.why_not_ready = "no camera with serial number 77"
    watch.look()
    watch.look()
    assert manager.heard().count("READY=1") == 1


def test_ready_is_told_again_where_systemd_had_no_room_for_it(manager: Manager) -> None:
    watch = Supervision([LineBook("line", ready=True)], [])
    while notify(STATUS="a crowded boot"):
        pass
    watch.look()
    assert "READY=1" not in manager.heard()
    watch.look()
    assert manager.heard().count("READY=1") == 1


def test_systemd_passes_over_no_status_however_much_the_lines_have_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 4096 bytes it ignores the message, and READY with it."""
    books = [LineBook(f"line{n}", why_not_ready=f"kein Gerät \udcff mit der Nummer {n}: " + "ä" * 200) for n in range(32)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Supervision(books, [], books).look()
        systemd.setblocking(False)
        heard = [systemd.recv(1 << 20), systemd.recv(1 << 20)]
    assert max(len(message) for message in heard) <= 4096
    assert heard[1].decode().startswith("READY=1\nSTATUS=line0 Error (kein Gerät ? mit der Nummer 0: ää")


def test_a_camera_that_takes_long_does_not_hold_up_the_service(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.supervision._STARTING_S", -1.0)
    Supervision([], [], [LineBook("slow")]).look()
    assert "READY=1" in manager.heard()


def test_a_line_that_is_held_says_by_what(manager: Manager) -> None:
    book = LineBook("line", ready=True, why_not_ready="", hold="challenge failed: bad-1 came out PASS")
    Supervision([book], []).look()
    assert "STATUS=line Error (challenge failed: bad-1 came out PASS); 0.0 parts/s; no fault" in manager.heard()


def test_a_master_part_that_comes_next_is_in_the_status(manager: Manager) -> None:
    Supervision([LineBook("line", ready=True, challenge="bad-1")], []).look()
    assert "STATUS=line Ready, next is the master part bad-1; 0.0 parts/s; no fault" in manager.heard()


def test_a_loop_that_gets_on_feeds_the_watchdog_a_quarter_of_its_patience_apart(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3600000000")
    dog = Watchdog()
    for _ in range(100):
        dog.feed()
    assert manager.heard() == ["WATCHDOG=1"]
    monkeypatch.setenv("WATCHDOG_USEC", "4")
    dog = Watchdog()
    for _ in range(3):
        dog.feed()
    assert manager.heard() == ["WATCHDOG=1"] * 3


def test_what_is_built_while_lines_run_is_in_their_status(manager: Manager) -> None:
    building = Building()
    watch = Supervision([LineBook("line", ready=True)], [], building=building)
    building.tell("the engine of a", "tactics 1/9")
    building.tell("the engine of b", "")
    assert [word for word in manager.heard() if not word.startswith("EXTEND_TIMEOUT_USEC=")] == []
    watch.look()
    assert "STATUS=line Ready; 0.0 parts/s; no fault; building the engine of b for 0 s" in manager.heard()
    building.end()
    Supervision([LineBook("line", ready=True)], [], building=building).look()
    assert "STATUS=line Ready; 0.0 parts/s; no fault" in manager.heard()


def test_an_address_that_no_interface_has_is_in_the_status(manager: Manager) -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    listens = ("tcp://192.0.2.7:5556", "tcp://127.0.0.1:5557", "tcp://*:5558", "tcp://lo:5559", "ipc:///run/x")
    Supervision([LineBook("line", ready=True)], [], addresses=listens).look()
    awaited = "no interface has the address of tcp://192.0.2.7:5556 now"
    assert f"STATUS=line Ready; 0.0 parts/s; no fault; {awaited}" in manager.heard()


def test_an_address_that_comes_and_goes_is_told_each_time(said: list, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"tcp://10.0.0.1:1": True, "tcp://10.0.0.2:2": False}
    monkeypatch.setattr("edge_agent.supervision.is_here", here.__getitem__)
    monkeypatch.setattr("edge_agent.supervision._TELL_S", 0)
    watch = Supervision([LineBook("line", ready=True)], [], addresses=here)
    watch.look()
    assert said == [], "who listens has said it"
    here["tcp://10.0.0.2:2"] = True
    watch.look()
    here["tcp://10.0.0.1:1"] = False
    watch.look()
    watch.look()
    came, went = ("network.address_here", "tcp://10.0.0.2:2"), ("network.address_awaited", "tcp://10.0.0.1:1")
    assert [(name, values["address"]) for name, values in said] == [came, went]
    told = [words for words in manager.heard() if words.startswith("STATUS=")]
    assert told[-1].endswith("no interface has the address of tcp://10.0.0.1:1 now")


def test_nobody_is_told_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)
    assert notify(READY=1), "nobody is left to be told"
    assert watchdog_s() == 0
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_s() == 3
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_s() == 0


def test_threads_have_their_names_in_top(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(process.gc, name, lambda *_: None)  # of this process there is more to come
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="inspect-sealing-face")
    before = Path("/proc/self/comm").read_text()
    thread.start()
    try:
        process.settle([thread], None)
        assert Path(f"/proc/self/task/{thread.native_id}/comm").read_text() == "inspect-sealing\n"
        assert Path("/proc/self/comm").read_text() == before, "the process keeps its own, by which it is looked for"
    finally:
        ended.set()
        thread.join()


def test_cores_and_priorities_are_given_and_a_refusal_is_said(said: list) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="publisher")
    thread.start()
    try:
        core = min(os.sched_getaffinity(0))
        process.favour([thread], ThreadWish(cpu=(core,)))
        assert os.sched_getaffinity(thread.native_id or 0) == {core}
        process.favour([thread], ThreadWish(cpu=(4095,), priority=1))
        assert [(name, values["thread"]) for name, values in said] == [("station.wish_refused", "publisher")]
        assert "station.wish_refused" in events.EVENTS
    finally:
        ended.set()
        thread.join()
