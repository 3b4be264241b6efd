"""The log's own thread, and where it writes: whoever speaks never waits for who reads.

Where standard error is the journal's, each line is an entry with fields of its own, over journald's native protocol; where it is a
terminal, coloured text; elsewhere a line of JSON. Not systemd-python: its `sendv` keeps the interpreter's lock while journald lets
it wait, which would hold back every thread; here a Python socket waits, which does not.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from logging_journald import JournaldTransport, check_journal_stream

from edge_agent.handoff import Refusing

Said = tuple[str, str, dict[str, Any]]  # level, event, values
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog's
_MOST_LINES = 10_000  # wait to be written; more are dropped and counted
_LAST_WORDS_S = 1.0  # the end of the process waits so long for the log
_EPISODE_S = 1.0
_FIELDS = {"part": "PART_ID", "reasons": "REASON", "priority": "SCHEDULING_PRIORITY"}  # the last would be the entry's own
_KEYS = ("line", "camera", "reason", "what")  # events of one name that differ in these are different episodes


class Writer:
    """Writes what it is offered, in that order. A reader who stands still costs lines, which are counted; no speaker's time."""

    def __init__(self, say_dropped: Callable[[int], None]) -> None:
        self._say_dropped = say_dropped
        self._queue: Refusing[Said | None] = Refusing(_MOST_LINES)
        self._episodes = Episodes()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def offer(self, line: Said) -> None:
        """Write this line."""
        self._queue.offer(line)

    def gather(self, line: Said, sums: tuple[str, ...]) -> None:
        """Write this line, unless one like it was written within a second: then one for all such at the end of that second."""
        if (first := self._episodes.note(line, sums, time.monotonic())) is not None:
            self._queue.offer(first)

    @property
    def dropped(self) -> int:
        return self._queue.refused

    def _run(self) -> None:
        told = 0
        while True:
            for line in self._queue.take(_EPISODE_S, 100):
                if line is None:
                    return
                write(*line)
            for line in self._episodes.due(time.monotonic()):
                write(*line)
            if self._queue.refused > told:
                lines, told = self._queue.refused - told, self._queue.refused
                self._say_dropped(lines)

    def _end(self) -> None:
        for line in self._episodes.due(float("inf")):
            self._queue.offer(line)
        self._queue.force(None)
        self._thread.join(_LAST_WORDS_S)


class Episodes:
    """Events that come in crowds: the first is told at once, what follows once a second, summed; a quiet second ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[Any, ...], tuple[float, Said | None]] = {}  # until when it is gathered, and what was

    def note(self, line: Said, sums: tuple[str, ...], now_s: float) -> Said | None:
        """Return the line where it is the first; else keep it, with the sums over all that were kept."""
        level, event, values = line
        key = (event, *(values.get(name) for name in _KEYS))
        with self._lock:
            if key not in self._open:
                self._open[key] = now_s + _EPISODE_S, None
                return level, event, {**values, **{name: values.get(name, 1) for name in sums}}
            until_s, kept = self._open[key]
            before = kept[2] if kept is not None else {}
            totals = {name: before.get(name, 0) + values.get(name, 1) for name in sums}
            firsts = {name: value for name, value in before.items() if name.startswith("first_")}
            self._open[key] = until_s, (level, event, {**values, **firsts, **totals})
            return None

    def due(self, now_s: float) -> list[Said]:
        """Return what was kept of the seconds that are over."""
        told = []
        with self._lock:
            for key, (until_s, kept) in tuple(self._open.items()):
                if until_s > now_s:
                    continue
                if kept is None:
                    del self._open[key]
                else:
                    told.append(kept)
                    self._open[key] = now_s + _EPISODE_S, None
        return told


class JournalLogger:
    """What structlog hands a line to: an entry of the journal. Where journald cannot be reached, JSON on standard error."""

    def __init__(self, transport: JournaldTransport) -> None:
        self._transport = transport
        self._text = structlog.processors.LogfmtRenderer()
        self.debug = self.info = self.warning = self.error = self._send

    def _send(self, **values: Any) -> None:
        try:
            self._transport.send(self.fields(values))
        except OSError:
            _standard_error().write(f"<{_PRIORITIES[values['level']]}>{json.dumps(values, default=str)}\n")

    def fields(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        """The entry's fields: MESSAGE for people, and each value under its own name; of several reasons one REASON each."""
        rest = {name: value for name, value in values.items() if name not in ("level", "event", "exception", "timestamp")}
        plain = {name: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value for name, value in rest.items()}
        shown = {name: value for name, value in plain.items() if value != ""}
        message = f"{values['event']} {self._text(None, '', shown)}".rstrip()
        trace = values.get("exception", "")
        pairs = [
            ("MESSAGE", f"{message}\n{trace}" if trace else message),
            ("PRIORITY", _PRIORITIES[values["level"]]),
            ("SYSLOG_IDENTIFIER", "edge-agent"),
            ("EVENT", values["event"]),
            ("TIMESTAMP", values.get("timestamp")),
        ]
        for name, value in rest.items():
            for each in value if isinstance(value, (list, tuple)) else (value,):
                text = json.dumps(each, default=str) if isinstance(each, dict) else each
                pairs.append((_FIELDS.get(name, name.upper()), text))
        return [(name, _in_utf8(value)) for name, value in pairs]


def _in_utf8(value: Any) -> Any:
    """What journald takes: a file's name may be text that is no UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def write(level: str, name: str, values: dict[str, Any]) -> None:
    """Write one line on the caller's thread."""
    with contextlib.suppress(OSError, ValueError):  # a log nobody takes must not end the thread that speaks
        getattr(structlog.get_logger(), level)(name, **values)


def configure(threshold: int) -> None:
    """Have `write` reach the journal, the terminal or the file that standard error is."""
    journal = _journal()
    processors: list[Any] = [structlog.processors.add_log_level, structlog.processors.format_exc_info]
    if journal is None:
        processors.append(structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer())
    else:
        processors.append(lambda _logger, _name, values: values)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(_standard_error()) if journal is None else lambda *_: JournalLogger(journal),
        cache_logger_on_first_use=True,
    )


def complain(text: str) -> None:
    """Print what ends a command on standard error; where that is the journal's, each line has the priority of an error."""
    mark = f"<{_PRIORITIES['error']}>" if _journal() is not None else ""
    with contextlib.suppress(OSError):  # a full disk: the exit code still tells
        _standard_error().write("".join(f"{mark}{line}\n" for line in f"edge-agent: {text}".splitlines()))


def _standard_error() -> TextIO:
    """Standard error without its buffer: the end of a process flushes that, and would wait for a thread that writes to a reader
    who stands still, or make an exit code of 120 of a line that a full disk did not take."""
    try:
        raw = io.FileIO(sys.stderr.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # a test's, which is no file
        return sys.stderr
    return io.TextIOWrapper(raw, encoding=sys.stderr.encoding, errors="backslashreplace", write_through=True)


def _journal() -> JournaldTransport | None:
    """The journal, where systemd has connected standard error to it. Addressed for each entry: journald may be started again."""
    try:
        return JournaldTransport(connected=False) if check_journal_stream() else None
    except (OSError, ValueError):
        return None
