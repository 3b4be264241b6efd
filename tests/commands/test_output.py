"""What commands print into a pipe is whole: no line is broken, no word cut, however narrow the terminal would be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import BAD, Station, judge_all, start_stations, wait_until
from stations import ROOT

from edge_agent.events import EVENTS
from edge_agent.plc.counters import Counters
from edge_agent.records import NG, Judgement

LONG = "a-line-whose-name-is-as-long-as-names-may-be-" + "x" * 19
REASONS = tuple(f"rule_{n}" for n in range(9))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    yield from start_stations(tmp_path)


def piped(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_agent", *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, "COLUMNS": "40"}, stdout=subprocess.PIPE, text=True)


def lines_of(program: subprocess.Popen[str]) -> list[str]:
    return program.communicate(timeout=60)[0].splitlines()


def test_a_verdict_is_one_line(start: Callable[..., Station]) -> None:
    here = start(modes={LONG: "online"})
    watching = piped("watch", "--connect", here.publisher.sockets.verdicts_endpoint, "--count", 2, "--timeout", 50)
    wait_until(lambda: here.publisher.sockets.subscribers >= 1, 50)
    judge_all(here, 2, Judgement(NG, REASONS))
    lines = lines_of(watching)
    assert len(lines) == 2
    assert all(line.startswith(LONG) and "rule_8" in line for line in lines)


def test_counters_keep_their_names_and_a_shadow_line_says_that_it_is_not_counted(
    start: Callable[..., Station], tmp_path: Path
) -> None:
    here = start(modes={LONG: "online", "two": "shadow"})
    here.publisher.counters = counters = Counters(tmp_path / "counters", [LONG, "two"], (), here.publisher.now_us())
    judge_all(here, 2, BAD)
    wait_until(lambda: here.publisher.published == 2)
    lines = lines_of(piped("counters", "--connect", here.publisher.sockets.control_endpoint))
    here.stop()
    counters.close()
    assert [line.split()[0] for line in lines] == ["line", LONG, LONG, "two", "two"]
    assert ["blob_count 2" in line for line in lines] == [False, True, True, False, False]
    assert ["(shadow: not counted)" in line for line in lines] == [False, False, False, True, True]


def test_each_event_is_one_line() -> None:
    assert [line.split()[0] for line in lines_of(piped("events"))] == ["event", *EVENTS]


def test_words_in_brackets_are_printed_as_they_are(start: Callable[..., Station]) -> None:
    here = start()
    watching = piped("watch", "--connect", here.publisher.sockets.verdicts_endpoint, "--count", 1, "--timeout", 50)
    wait_until(lambda: here.publisher.sockets.subscribers >= 1, 50)
    here.publisher.judged(here.publisher.trigger(here.line, "[/a][bold]"), Judgement(NG, REASONS))
    assert [line.count("[/a][bold]") for line in lines_of(watching)] == [1]
    assert "pip install 'edge-agent[cpu]'" in piped("events").communicate(timeout=60)[0]


@pytest.mark.parametrize(("words", "code"), [(("events",), 0), (("check", "--config", ROOT / "config" / "demo.yaml"), 1)])
def test_a_reader_that_goes_is_no_failure_but_of_what_says_that_all_is_well(words: tuple[object, ...], code: int) -> None:
    command = piped(*words)
    assert command.stdout is not None
    command.stdout.close()
    assert command.wait() == code
