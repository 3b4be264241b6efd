"""A line is challenged with master parts: their stored pictures go through its own engine and judge, between the parts of the
production."""

from __future__ import annotations

import threading
from pathlib import Path

from edge_agent import process
from edge_agent.errors import EdgeAgentError, Reason
from edge_agent.events import say
from edge_agent.line import Line
from edge_agent.pictures import read_gray
from edge_agent.plc.challenge import LineChallenge
from edge_agent.plc.counters import LineCounters
from edge_agent.plc.publisher import Publisher
from edge_agent.records import Pixels, fault_of
from edge_agent.settings import ChallengeSettings, LineSettings

_PATIENCE_S = 0.005


def open_challenge(
    settings: LineSettings, line: Line, publisher: Publisher, counters: LineCounters, base: Path
) -> MasterPictures | None:
    """Have the publisher hold the line to its master parts, and return who judges their pictures; None where it has none."""
    if settings.challenge is None:
        return None
    pictures, book = MasterPictures(line, publisher, settings.challenge, base), publisher.book.lines[settings.name]
    challenge = LineChallenge(settings.challenge, book, counters, pictures.run, publisher.now_ns())
    publisher.challenges[settings.name] = challenge
    return pictures


class MasterPictures:
    """Judges the pictures of one line's master parts, on a thread of their own; one run at a time."""

    def __init__(self, line: Line, publisher: Publisher, settings: ChallengeSettings, base: Path) -> None:
        self._line = line
        self._publisher = publisher
        self._files = {master.name: (base / master.image).resolve() for master in settings.parts if master.image}
        self._running = threading.Lock()
        self._is_stopping = False
        self._opening = threading.Lock()  # over that, and over a part that is opened before it

    def ask_to_stop(self) -> None:
        """Open no part any more: nobody would give it an outcome."""
        with self._opening:
            self._is_stopping = True

    def run(self) -> None:
        """Begin a run, unless one is under way. Returns at once."""
        if not self._running.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._run, name="master-parts", daemon=True).start()
        except RuntimeError:  # nor does the publisher's thread, which asks for it, end by that
            self._running.release()
            why = "the system starts no more threads: free memory, or raise TasksMax= or MemoryMax= of the service"
            for name in self._files:
                say("challenge.unjudged", line=self._line.book.name, master=name, why=why)

    def _run(self) -> None:
        try:
            process.unbind()
            for name, file in self._files.items():
                self._judge(name, file)
        finally:
            self._running.release()

    def _judge(self, name: str, file: Path) -> None:
        """One picture, to its end: master parts never stand in each other's way, nor two of them in the production's."""
        pixels: Pixels | None = None
        try:
            pixels = read_gray(file)
        except EdgeAgentError as error:
            say("challenge.unreadable", line=self._line.book.name, master=name, why=str(error))
        bundle = self._line.bundle
        with self._opening:
            if self._is_stopping:
                return
            part = self._publisher.trigger(self._line.book, name, bundle.identity, challenge=name)
        if pixels is None:
            self._publisher.judged(part, fault_of(Reason.BAD_FRAME))
        else:
            self._line.judge(part, bundle, pixels, file.name)
        while self._publisher.book.is_open(part):
            threading.Event().wait(_PATIENCE_S)
