"""The only builder: opens what the settings name, starts the lines, waits, closes in reverse order.

Order of opening: the state folder, engines, publisher, what the last run left, evidence, sender, lines. A stop drains: no further
trigger, parts in flight get their outcome, the outbox commits, the collector gets what it takes in time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent import process
from edge_agent.asked import Asked
from edge_agent.bundle import Bundle
from edge_agent.camera import open_camera
from edge_agent.clock import SystemClock
from edge_agent.errors import ConfigurationError, EdgeAgentError, EngineLost
from edge_agent.events import say
from edge_agent.foundry import Foundry
from edge_agent.golden import prove
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.judgement.rules import names_in_line
from edge_agent.line import Line, Observe, trigger
from edge_agent.metrics import MetricsServer, Sources, open_metrics
from edge_agent.notify import Building, extend_timeout, notify
from edge_agent.plc.control import Control
from edge_agent.plc.counters import FOLDER, Counters
from edge_agent.plc.journal import Journal
from edge_agent.plc.parts import PartBook
from edge_agent.plc.publisher import Publisher
from edge_agent.plc.statistics import LineStatistics
from edge_agent.pulse import Pulse
from edge_agent.recipe import Recipe
from edge_agent.recovery import deliver_unfinished
from edge_agent.reload import Reloader
from edge_agent.settings import LineSettings, Station, ViewSettings
from edge_agent.summary import summary_of
from edge_agent.supervision import Supervision
from edge_agent.swapping import Swapper
from edge_agent.uplink.encoding import EvidenceWorker
from edge_agent.uplink.outbox import MOST_BATCH, Outbox
from edge_agent.uplink.schema import RECORD
from edge_agent.uplink.sender import Sender
from edge_agent.wiring import Wiring

_POLL_S = 0.05
_RECOVER_S = 5.0  # a start waits so long for the disk to take what the last run left, before more of it is queued
_HANGS_S = 10.0  # a stop waits so long for all cameras together, then for all that their engine owes; what takes longer hangs
_CLOSES_S = 35.0  # beside `drain_s` a stop takes no longer: cameras that hang, the disk, the engines
_BUNDLE_S = 170.0  # a start may take so long for each recipe; while an engine is built it asks for more
_COMMITS_S, _FLUSH_S = 18.0, 6.0  # of these, for the outbox and then the journal, on a disk whose flush takes 6 s
_STORES_S = _COMMITS_S + _FLUSH_S
_SENDER_S = 3.0
_DISK_S = 1.0  # at least so long a stop lets the disk take what it was given


class Daemon:
    """The whole station in one process. `observe` sees every judged part with its frame and map, and `model` and `deadline_ms`
    take the place of the recipe's, as replay needs; a run of NG then raises no alarm, and no picture is kept. `reload`, set, has
    everything read anew."""

    def __init__(
        self,
        station: Station,
        *,
        parts: int = 0,
        observe: Observe | None = None,
        model: Path | None = None,
        deadline_ms: float | None = None,
        reload: threading.Event | None = None,
    ) -> None:
        self.station = station
        self._model = model
        self._deadline_ms = deadline_ms
        self._observe = observe
        self._stop = threading.Event()
        self._reload = reload or threading.Event()
        self._failure: EdgeAgentError | None = None  # what ends the daemon, though nobody asked it to stop
        self._ends_s = math.inf  # when a stop is to be over
        self._cpu_start = self._cpu = (0.0, 0.0)  # of the process, and of it without the engine, in seconds
        self._parts = parts
        self._closers: list[Callable[[], None]] = []
        self.lines: list[Line] = []  # one for each view
        self._views: dict[str, list[Line]] = {}  # by the name of their line
        process.prepare()
        self._core = process.choose_core(station.settings)
        before, threading.excepthook = threading.excepthook, self._on_thread_failure  # engines have threads from their opening on
        try:
            self._open()
        except BaseException:
            self._close_all()
            threading.excepthook = before
            raise

    # --- opening --------------------------------------------------------------------------------------------------
    def _open(self) -> None:
        settings = self.station.settings
        state = self.station.path(settings.state)
        self._closers.append(process.StateLock(state).close)
        self.journal = Journal(state / "journal", settings.journal_parts)
        self._closers.append(self.journal.close)
        self.outbox = self._open_outbox(state / "outbox")
        self._closers.append(lambda: self.outbox.close(patience_s=self._within(_COMMITS_S, _FLUSH_S)))
        self._open_counters(state / FOLDER)
        self._building = building = Building()
        self._foundry = Foundry(self.station, self._model, self._deadline_ms, self._observe is not None, building)
        self._closers.append(self._foundry.close)  # before it has engines: a recipe that cannot be used leaves none of another open
        views = [(line, view) for line in settings.lines for view in line.each_view]
        bundles = {(line.name, view.name): self._first_bundle(line, view) for line, view in views}
        cameras = {view.camera: open_camera(self.station.camera(view.camera), self.station.base) for _, view in views}
        self._open_publisher()
        self.evidence = EvidenceWorker(self.outbox)
        self._closers.append(self.evidence.close)
        self.sender = self._open_sender()
        kept = self.evidence if self._model is None else None  # pictures of a replay are for no datacenter
        self._wiring = Wiring(self.station, self.publisher, kept, self._parts, self._observe)
        for line in settings.lines:
            of_line = {view.name: bundles[line.name, view.name] for view in line.each_view}
            self._views[line.name] = self._wiring.line(line, of_line, cameras, self._counters.lines[line.name])
            self.lines += self._views[line.name]
            self.adopt_recipe(line.name)
        reloader = Reloader(self.station, self._views, self._forge)
        self._swapper = Swapper(self._views, self._forge, reloader, self, self._stop, self._foundry.release)
        self._closers.append(self._swapper.close)
        self._control.on_recipe = self._swapper.change_recipe
        self._control.on_reload = self._swapper.reload
        books = [line.book for line in self.lines]
        addresses = settings.endpoints.values()
        self._supervision = Supervision(self.publisher.book.lines.values(), self._pulses(), books, building, addresses)
        self.metrics = self._open_metrics()

    def _open_outbox(self, folder: Path) -> Outbox:
        settings = self.station.settings
        places = settings.journal_parts  # a part that waits for the disk keeps its place; a quarter is for parts on their way
        batch, owner = min(MOST_BATCH, places // 4), f"{settings.station}@{process.machine_id()}"
        return Outbox(folder, settings.uplink.outbox_cap_mb, self.journal.commit, places * 3 // 4 - batch, batch, owner)

    def _open_counters(self, folder: Path) -> None:
        settings, now_us = self.station.settings, SystemClock().wall_us()
        self._counters = Counters(folder, [line.name for line in settings.lines], settings.shifts, now_us)
        self._closers.append(self._counters.close)
        self._counters.recover(self.journal.unfinished, now_us)
        self._asked = Asked(self._counters, settings.lines)

    def _first_bundle(self, line: LineSettings, view: ViewSettings) -> Bundle:
        extend_timeout(_BUNDLE_S)
        return self.forge_asked(line.name, self._asked.recipe(line.name, view.recipe), 1, line.deadline_guard_ms)

    def _forge(
        self, recipe: str, generation: int, guard_ms: float, *, may_wait: bool = False, kept: Recipe | None = None
    ) -> Bundle:
        """A bundle that its golden pictures have proved; a replay looks at pictures of its own, maybe with another model.

        One without its engine cannot be proved, and judges no part either."""
        bundle = self._foundry.forge(recipe, generation, guard_ms, may_wait=may_wait, kept=kept)
        if self._observe is None and self._model is None and not isinstance(bundle.segmenter, AbsentSegmenter):
            prove(bundle, self.station.path(self.station.settings.recipes))
        return bundle

    def _pulses(self) -> list[Pulse]:
        """Of every thread that a part or its record passes."""
        senders = [self.sender.pulse] if self.sender is not None else []
        lines = [pulse for line in self.lines for pulse in (line.grabber.pulse, line.pulse)]
        return [self.publisher.pulse, self.outbox.pulse, self.evidence.pulse, *senders, *lines]

    def _open_publisher(self) -> None:
        """After the engines: no request that reaches its sockets may wait there for minutes, and be carried out then."""
        settings = self.station.settings
        guard_ns = {line.name: int(line.deadline_guard_ms * 1e6) for line in settings.lines}
        book = PartBook(self.journal, list(self._asked.books.values()), guard_ns)
        put, keys = self.outbox.put_record, self.station.plc_keys()
        self.publisher = Publisher(settings.station, settings.plc, self.journal, book, put, SystemClock(), keys)
        self._closers.append(self.publisher.close)
        self._control = Control(self.publisher)
        self._control.on_trigger = lambda line, part_id: trigger(self._views[line], part_id)
        self._control.counters_of_cameras = self._counters_of_cameras
        self.publisher.counters = self._counters
        self._recover()

    def _recover(self) -> None:
        """Deliver what the last run left. It stays in the journal until the disk has taken it; a full one holds up no start."""
        station, until = self.station.settings.station, time.monotonic() + _RECOVER_S

        def wait() -> None:
            self.outbox.flush(max(0.0, until - time.monotonic()))

        self.journal.adopt()
        if self.journal.unreadable:
            self.outbox.declare_lost(RECORD, len(self.journal.unreadable))
        deliver_unfinished(station, self.journal, self.outbox.put_record, self.publisher.replay, wait)

    def _open_sender(self) -> Sender | None:
        uplink = self.station.settings.uplink
        if uplink.collector is None:
            return None
        sender = Sender(self.outbox, uplink.collector, self.station.settings.station, self.station.uplink_keys())
        self._closers.append(lambda: sender.close(self._within(_SENDER_S, _STORES_S)))
        return sender

    def _open_metrics(self) -> MetricsServer | None:
        settings = self.station.settings
        if settings.metrics is None:
            return None
        self.publisher.statistics = {line.name: LineStatistics() for line in settings.lines}
        sources = Sources(
            station=settings.station,
            state=self.station.path(settings.state),
            publisher=self.publisher,
            journal=self.journal,
            outbox=self.outbox,
            outbox_cap_mb=settings.uplink.outbox_cap_mb,
            evidence=self.evidence,
            sender=self.sender,
            views=self._views,
            guard_ms={line.name: line.deadline_guard_ms for line in settings.lines},
            is_reload_refused=lambda: bool(self._supervision.refusal),
        )
        server = open_metrics(settings.metrics, sources)
        if server is not None:
            self._closers.append(server.close)
        return server

    # --- running --------------------------------------------------------------------------------------------------
    def run(self) -> dict[str, Any]:
        """Inspect until a signal, N parts or the last image; drain; return the summary.

        Raises EdgeAgentError, after draining, where a thread ended by an error nobody foresaw: whoever started this daemon
        starts it again, and the journal has what was on its way."""
        if not faulthandler.is_enabled():
            faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's traceback
        process.listen(self._stop)
        self.start()
        was_ready = False
        while not self._stop.wait(_POLL_S) and not self._is_done():
            self.look_at_views()
            self._supervision.look()
            if self._reload.is_set():
                self._reload.clear()
                self._swapper.reload()
            if not was_ready and all(line.book.ready for line in self.lines):
                was_ready, self._cpu_start = True, _cpu_seconds()  # what opening the cameras took is not the parts'
        summary = self.close()
        if self._failure is not None:
            raise self._failure
        return summary

    def _on_thread_failure(self, failure: threading.ExceptHookArgs) -> None:
        if isinstance(failure.exc_value, EngineLost):
            return self.fail(failure.exc_value)
        name = failure.thread.name if failure.thread else "unknown"
        try:
            say("station.thread_failed", thread=name, exc_info=failure.exc_value)
        finally:  # a log that fails as well must not leave a station that stands still
            self.fail(EdgeAgentError(f"the thread {name} ended by an unexpected error. Report the traceback in the log."))

    def look_at_views(self) -> None:
        """Lines of several views: are all ready, is one overdue?"""
        for joiner in self._wiring.joiners:
            joiner.look()

    def start(self) -> None:
        self._asked.run = self.publisher.call
        self.publisher.start()
        if self.sender is not None:
            self.sender.start()
        for line in self.lines:
            line.start()
        self._swapper.await_engines()
        process.settle(self._hot_threads(), self._core)
        wishes = self.station.settings.threads
        process.favour((line.grabber.thread for line in self.lines), wishes.grab)
        process.favour([self.publisher.thread], wishes.publisher)
        self._cpu_start = _cpu_seconds()
        say("station.started", station=self.station.settings.station, epoch=self.journal.epoch)
        self._supervision.look()

    def _hot_threads(self) -> list[threading.Thread]:
        """Those that every part passes; the evidence thread encodes pictures, beside them."""
        lines = [thread for line in self.lines for thread in line.threads]
        return [self.publisher.thread, self.outbox.thread, *lines]

    def stop(self) -> None:
        self._stop.set()

    def _is_done(self) -> bool:
        """True when no line will trigger again and every part has its outcome."""
        return all(line.grabber.finished.is_set() for line in self.lines) and not self.publisher.book.open_parts()

    # --- what control and swapping need of the daemon ------------------------------------------------------------
    def _counters_of_cameras(self) -> dict[str, dict[str, int]]:
        return {line.book.name: {**line.grabber.counters, "skipped": line.grabber.skipped} for line in self.lines}

    def adopt_recipe(self, line: str) -> str:
        """As many NG in a row raise the line's alarm as its recipe says by now, of several views the strictest's; its master parts
        meet its rules. Return why no challenge can be passed by these, '' where one can."""
        recipes = [view.bundle.recipe for view in self._views[line]]
        self.publisher.alarms.limit_ng_run(line, min(filter(None, (each.alarm_after_ng for each in recipes)), default=0))
        challenge = self.publisher.challenges.get(line)
        if challenge is None:
            return ""
        views = next(each.names_in_verdicts for each in self.station.settings.lines if each.name == line)
        challenge.meet_rules(names_in_line(zip(views, recipes, strict=True)))
        return challenge.unpassable

    def keep_recipe(self, line: str, recipe: str, *, is_named: bool) -> None:
        self._asked.keep_recipe(line, recipe, is_named=is_named)

    def forge_asked(self, line: str, recipe: str, generation: int, guard_ms: float, kept: Recipe | None = None) -> Bundle:
        """The first bundle of a line, whose engine may come later. Where the recipe asked for cannot be used, the line is offline,
        by the settings' one."""
        try:
            return self._forge(recipe, generation, guard_ms, may_wait=True, kept=kept)
        except ConfigurationError as error:
            recipe = self._asked.fall_back(line, recipe, error)
        return self._forge(recipe, generation, guard_ms, may_wait=True)

    def tell_refusal(self, why: str) -> None:
        """Say in the service's status and the metrics that a reload was refused, '' that the last one was not."""
        self._supervision.tell_refusal(why)

    def fail(self, failure: EdgeAgentError) -> None:
        """Drain and end by this error, or by the one before. A GPU is lost to all its engines, and that is said once."""
        if isinstance(failure, EngineLost) and not isinstance(self._failure, EngineLost):
            say("engine.lost", why=str(failure))
        self._failure = self._failure or failure
        self._stop.set()

    # --- closing --------------------------------------------------------------------------------------------------
    def close(self) -> dict[str, Any]:
        """Drain and close everything; return the summary. One `drain_s` serves parts, disk and collector together."""
        until = time.monotonic() + self.station.settings.drain_s
        self._ends_s = until + _CLOSES_S

        def left_s() -> float:
            return max(0.0, until - time.monotonic())

        self._cpu = _cpu_seconds()
        notify(STOPPING=1, STATUS="draining: finishing parts in flight")
        extend_timeout(self.station.settings.drain_s + _CLOSES_S)
        for ask_to_stop in (*self._wiring.sources, *(line.grabber.ask_to_stop for line in self.lines)):
            ask_to_stop()  # all at once: a camera that hangs takes no time from the other lines
        self.look_at_views()  # not ready any more
        hangs_s = time.monotonic() + _HANGS_S
        for line in self.lines:
            line.grabber.stop(max(0.0, hangs_s - time.monotonic()))
        self.look_at_views()
        self._swapper.ask_to_stop()
        self._building.give_up()
        self.publisher.stop(left_s())
        hangs_s = time.monotonic() + _HANGS_S
        for line in self.lines:
            line.close(max(0.0, hangs_s - time.monotonic()))
        self.evidence.close(max(_DISK_S, left_s()))
        self.outbox.flush(max(_DISK_S, left_s()))
        if self.sender is not None:
            self.sender.drain(left_s())
        summary = self.summary()
        self._close_all()
        say("station.stopped", **{k: v for k, v in summary.items() if not isinstance(v, dict)})
        return summary

    def _within(self, most_s: float, kept_s: float) -> float:
        """So long a closer may take: no longer than what the stop has left, `kept_s` of that set aside for those after it."""
        return max(_DISK_S, min(most_s, self._ends_s - kept_s - time.monotonic()))

    def _close_all(self) -> None:
        """The last opened first; one that fails keeps none of the others open."""
        with contextlib.ExitStack() as closers:
            for closer in self._closers:
                closers.callback(closer)
            self._closers.clear()

    def summary(self) -> dict[str, Any]:
        """The counters of this run."""
        spent = {"cpu_seconds": self._cpu[0] - self._cpu_start[0], "own_cpu_seconds": self._cpu[1] - self._cpu_start[1]}
        return summary_of(self.publisher, self.outbox) | spent


def _cpu_seconds() -> tuple[float, float]:
    return time.process_time(), process.own_seconds()
