"""The log: a line for each part, crowds told once a second, fields in the journal, and nobody waits for whoever reads it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logging_journald import JournaldTransport
from stations import ROOT, Program, StationFolder

from edge_agent.logwriter import Episodes, JournalLogger
from edge_agent.plc.partlog import MOST_PER_S, PartLog
from edge_agent.records import FAULT, NG, PASS
from edge_agent.wire import Verdict

SECOND_NS = 1_000_000_000


def verdict(outcome: str, seq: int = 1, reasons: tuple[str, ...] = ()) -> Verdict:
    return Verdict(
        station="hall3",
        line="one",
        epoch=1,
        seq=seq,
        part_id=f"p{seq}",
        outcome=outcome,
        reasons=reasons,
        trigger_time_us=0,
        latency_ms=4.25,
        recipe="cap",
        recipe_hash="",
        model_hash="",
        engine_id="",
        blobs=(),
        findings=(),
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("edge_agent.plc.partlog.say", lambda name, **values: lines.append((name, values)))
    monkeypatch.setattr("edge_agent.plc.partlog.is_said", lambda name: True)
    return lines


# --- parts ------------------------------------------------------------------------------------------------------------
def test_the_daemon_has_a_line_for_each_part(
    station: StationFolder, images: Callable[[int], list[np.ndarray]], edge_agent: Program
) -> None:
    station.add_images(images(6))
    ran = edge_agent("run", "--config", station.write())
    assert ran.returncode == 0
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    parts = [line for line in lines if line["event"] == "part.judged"]
    assert [part["outcome"] for part in sorted(parts, key=lambda part: part["seq"])] == ["PASS", "PASS", "NG"] * 2
    one = next(part for part in parts if part["outcome"] == "NG")
    assert (one["line"], one["level"], one["reasons"]) == ("line", "info", ["blob_count", "peak_score"])
    assert one["latency_ms"] > 0
    assert one["stages_ms"]
    assert one["part"]
    quiet = edge_agent("--log-level", "warning", "run", "--config", station.write())
    assert "part.judged" not in quiet.stderr


def test_what_is_left_out_at_high_rates_is_pass_and_is_counted(told: list) -> None:
    log = PartLog(10)
    for n in range(100):
        log.note(verdict(NG if n % 20 == 19 else PASS, n), SECOND_NS + n)
    said = [values["outcome"] for name, values in told if name == "part.judged"]
    assert (said.count(PASS), said.count(NG)) == (10, 5)
    log.look(SECOND_NS * 2 - 1)
    assert told[-1][0] == "part.judged", "the second is not over"
    log.look(SECOND_NS * 2)
    assert told[-1] == ("part.left_out", {"count": 85, "pass": 85})
    log.note(verdict(PASS, 101), SECOND_NS * 2 + 1)
    assert told[-1][1]["part"] == "p101"
    log.tell()
    assert [name for name, _ in told].count("part.left_out") == 1, "nothing was left out since"


def test_a_flood_of_ng_stays_below_what_the_journal_takes(told: list) -> None:
    log = PartLog(0)
    for n in range(MOST_PER_S + 40):
        log.note(verdict(FAULT if n % 2 else NG, n), SECOND_NS + n)
    log.note(verdict(PASS, 999), SECOND_NS * 2)
    assert len([1 for name, _ in told if name == "part.judged"]) == MOST_PER_S
    log.tell()
    assert [values for name, values in told if name == "part.left_out"] == [
        {"count": 40, "ng": 20, "fault": 20},
        {"count": 1, "pass": 1},
    ]


# --- crowds -----------------------------------------------------------------------------------------------------------
def lost(reason: str, count: int, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return "warning", "camera.lost", {"line": "one", "reason": reason, "count": count, **more}


def test_a_crowd_is_told_at_once_and_then_once_a_second_with_every_count() -> None:
    here, sums = Episodes(), ("count",)
    first = here.note(lost("overrun", 2), sums, 10.0)
    assert first is not None
    counts = [first[2]["count"]]
    for n in range(30):
        assert here.note(lost("overrun", 1, first_seq=n), sums, 10.01 + n / 100) is None
    other = here.note(lost("no_frame", 5), sums, 10.5)
    assert other is not None, "another reason is another matter"
    assert here.due(10.9) == []
    (line,) = here.due(11.0)
    assert (line[1], line[2]["reason"], line[2]["first_seq"]) == ("camera.lost", "overrun", 0)
    counts.append(line[2]["count"])
    assert here.note(lost("overrun", 4), sums, 11.5) is None, "it goes on"
    counts += [each[2]["count"] for each in here.due(12.0)]
    assert counts == [2, 30, 4]
    assert here.due(13.1) == []
    assert here.note(lost("overrun", 1), sums, 13.2) is not None, "a quiet second ended it"


def test_what_has_no_count_counts_as_one() -> None:
    here = Episodes()
    assert [here.note(("error", "engine.failed", {"line": "one"}), ("count",), 1.0 + n) is None for n in (0, 0.1, 0.2)] == [
        False,
        True,
        True,
    ]
    assert [line[2]["count"] for line in here.due(float("inf"))] == [2]


NG_AND_PASS = """
from edge_agent.events import configure_logging
from edge_agent.plc.alarms import Alarms
from edge_agent.settings import PlcSettings
configure_logging()
alarms = Alarms(PlcSettings())
alarms.limit_ng_run("one", 1)
for _ in range(500):
    alarms.note_outcome("one", "NG")
    alarms.note_outcome("one", "PASS")
"""


def test_ng_and_pass_in_turn_are_a_crowd() -> None:
    environ = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
    run = subprocess.run([sys.executable, "-c", NG_AND_PASS], capture_output=True, text=True, check=True, timeout=60, env=environ)
    counts = {"line.ng_in_a_row": 0, "line.ng_run_ended": 0}
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    for line in lines:
        counts[line["event"]] += line["count"]
    assert counts == {"line.ng_in_a_row": 500, "line.ng_run_ended": 500}
    assert len(lines) < 200, "a line for each"


# --- the journal ------------------------------------------------------------------------------------------------------
@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "journal"))
        end.settimeout(5)
        yield end


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[JournalLogger]:
    transport = JournaldTransport(tmp_path / "journal", connected=False)
    yield JournalLogger(transport)
    transport.socket.close()


def entry(datagram: bytes) -> list[tuple[str, str]]:
    """The fields of one entry, as https://systemd.io/JOURNAL_NATIVE_PROTOCOL has it."""
    found, rest = [], datagram
    while rest:
        head, rest = rest.split(b"\n", 1)
        if b"=" in head:
            name, _, value = head.partition(b"=")
        else:
            name, size = head, int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found.append((name.decode(), value.decode()))
    return found


def test_an_entry_of_the_journal_has_the_part_as_fields(logger: JournalLogger, journald: socket.socket) -> None:
    logger.info(
        event="part.judged",
        level="info",
        part="A\nOUTCOME=PASS",
        outcome=NG,
        reasons=("blob_count", "peak_score"),
        latency_ms=4.25,
        stages_ms={"engine": 2.5},
    )
    fields = entry(journald.recv(65536))
    assert {
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "edge-agent"),
        ("EVENT", "part.judged"),
        ("PART_ID", "A\nOUTCOME=PASS"),
        ("OUTCOME", "NG"),
        ("REASON", "blob_count"),
        ("REASON", "peak_score"),
        ("LATENCY_MS", "4.25"),
        ("STAGES_MS", '{"engine": 2.5}'),
    } <= set(fields)
    assert [name for name, _ in fields].count("OUTCOME") == 1, "a part's name makes no field"
    assert dict(fields)["MESSAGE"].startswith("part.judged part=")


def test_a_file_name_that_is_no_utf8_costs_no_entry(logger: JournalLogger, journald: socket.socket) -> None:
    logger.error(event="camera.failed", level="error", why="\udcff.png is not a readable image")
    assert ("WHY", "\\udcff.png is not a readable image") in entry(journald.recv(65536))


def test_a_traceback_and_a_threads_priority_are_no_fields_of_the_entry(logger: JournalLogger, journald: socket.socket) -> None:
    logger.warning(event="station.wish_refused", level="warning", thread="publisher", priority=40, exception="Traceback\n  here")
    fields = entry(journald.recv(65536))
    assert [value for name, value in fields if name == "PRIORITY"] == ["4"]
    assert ("SCHEDULING_PRIORITY", "40") in fields
    assert dict(fields)["MESSAGE"].endswith("\nTraceback\n  here")


def test_without_journald_the_line_goes_to_standard_error(logger: JournalLogger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.error(event="engine.lost", level="error", why="gone")
    assert capsys.readouterr().err == '<3>{"event": "engine.lost", "level": "error", "why": "gone"}\n'


ENDING = """
import os
stderr = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
from edge_agent.cli import main
print(main(["run", "--config", "/absent/station.yaml"]))
"""


def test_what_ends_a_daemon_is_an_error_of_the_journal_too() -> None:
    """`journalctl -p warning` is where an operator is told to look."""
    ran = subprocess.run([sys.executable, "-c", ENDING], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "78\n"
    assert ran.stderr.startswith("<3>edge-agent: /absent/station.yaml: ")


@pytest.mark.parametrize("error", ["ZeroDivisionError('by nothing')", "OSError(71, 'by nothing')"])
def test_what_nobody_foresaw_is_one_too_before_its_traceback(error: str) -> None:
    broken = f"import edge_agent.commands.run as command\ndef run(arguments): raise {error}\ncommand.run = run\n"
    ran = subprocess.run([sys.executable, "-c", broken + ENDING], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    first, second, *_ = ran.stderr.splitlines()
    assert (ran.returncode, second) == (1, "Traceback (most recent call last):")
    assert first.startswith(f"<3>edge-agent: {error.partition('(')[0]}: ") and "by nothing. Nobody foresaw this." in first


CTRL_C = """
import importlib, os, signal, sys
from edge_agent import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may leave it ignored
real = importlib.import_module
importlib.import_module = lambda name: (os.kill(os.getpid(), signal.SIGINT), real(name))[1]
sys.exit(cli.main(["events"]))
"""


def test_ctrl_c_while_libraries_are_imported_ends_with_130_and_no_traceback() -> None:
    ran = subprocess.run([sys.executable, "-c", CTRL_C], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


SPEAKER = """
import os, sys
from pathlib import Path
from logging_journald import JournaldTransport
JournaldTransport.SOCKET_PATH = Path(sys.argv[1])
stderr = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
from edge_agent import events
events.configure_logging()
for n in range(15_000):
    events.say("part.judged", part=str(n))
print(events.dropped_lines())
"""


def test_a_journald_that_stands_still_holds_nobody_up(tmp_path: Path, journald: socket.socket) -> None:
    command = [sys.executable, "-c", SPEAKER, str(tmp_path / "journal")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100, env=dict(os.environ))
    assert ran.returncode == 0, ran.stderr
    assert 0 < int(ran.stdout) < 5_000, "of what the queue did not take nothing is written"
    assert ("PART_ID", "0") in entry(journald.recv(65536))


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_a_command_ends_as_it_should_though_nobody_takes_what_it_says(streams: str) -> None:
    words = f"'{sys.executable}' -m edge_agent run --config nowhere.yaml {streams}"
    assert subprocess.run(["bash", "-c", words], cwd=ROOT, check=False, timeout=60).returncode == 78


def test_a_closed_standard_output_takes_no_place_of_a_file() -> None:
    """Its number would go to the next file opened, and prints of libraries with it."""
    script = "import os; from edge_agent.cli import main; main(['events']); print(os.readlink('/proc/self/fd/1'), file=sys.stderr)"
    words = f"'{sys.executable}' -c \"import sys; {script}\" >&-"
    ran = subprocess.run(["bash", "-c", words], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=True, timeout=60)
    assert ran.stderr == "/dev/null\n"
