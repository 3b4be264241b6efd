"""One outcome of several views: each view's pictures are judged by its own line of threads, and their judgements meet here.

Views of one part are recognised by its part id, or by having been triggered within a window of time. A view that does not come is
`FAULT no_frame`, and pictures that could belong to two parts, or two of one view for the same part, are `FAULT ambiguous`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field

import msgspec

from edge_agent.errors import Reason
from edge_agent.plc.parts import OFFLINE, LineBook
from edge_agent.plc.publisher import Publisher
from edge_agent.records import FAULT, NG, PASS, Identity, Judgement, Part

_KEPT_NS = 1_000_000_000


@dataclass(slots=True)
class _Open:
    """A part some of whose views have come. `part_id` is '' where it was opened by time."""

    part: Part
    part_id: str
    came: set[str] = field(default_factory=set)
    judged: dict[str, Judgement] = field(default_factory=dict)


class Joiner:
    """Stands between the views of one line and the publisher. Every method may be called from any thread."""

    def __init__(self, line: LineBook, publisher: Publisher, views: tuple[str, ...], window_s: float) -> None:
        self.line = line
        self.views = {name: View(self, name) for name in views}
        self._publisher = publisher
        self._window_ns = int(window_s * 1e9)
        self._open: dict[int, _Open] = {}  # by seq, oldest first
        self._lock = threading.Lock()

    def look(self) -> None:
        """Called from time to time: a view that is overdue is a FAULT; the line is ready where all its views are."""
        now_ns = time.monotonic_ns()
        with self._lock:
            overdue = [
                o for o in self._open.values() if now_ns - o.part.trigger_ns > self._window_ns and len(o.came) < len(self.views)
            ]
            for each in overdue:
                self._end(each.part, Judgement(FAULT, (Reason.NO_FRAME.value,)))
            for seq in [seq for seq, each in self._open.items() if now_ns > each.part.deadline_ns + _KEPT_NS]:
                del self._open[seq]  # a view's engine hangs; the part was FAULT late long ago
        waiting = [f"{name}: {view.book.why_not_ready}" for name, view in self.views.items() if not view.book.ready]
        self.line.ready, self.line.why_not_ready = not waiting, "; ".join(waiting)
        self.line.verified = all(view.book.verified for view in self.views.values())

    def trigger(self, view: str, part_id: str, trigger_ns: int) -> Part:
        """The part that this trigger of a view belongs to: one that is open, or a new one."""
        with self._lock:
            mine = self._belonging(part_id, trigger_ns or time.monotonic_ns())
            fresh = [each for each in mine if view not in each.came]
            if len(fresh) == 1:
                fresh[0].came.add(view)
                return fresh[0].part
            for each in mine:
                self._end(each.part, Judgement(FAULT, (Reason.AMBIGUOUS.value,)))
            part = self._publisher.trigger(self.line, part_id, self.line.identity, trigger_ns)
            if mine:
                self._publisher.fault(part, Reason.AMBIGUOUS)
            elif self.line.mode == OFFLINE:
                self._publisher.fault(part, Reason.NOT_READY)
            else:
                self._open[part.seq] = _Open(part, part_id, {view})
            return part

    def _belonging(self, part_id: str, trigger_ns: int) -> list[_Open]:
        if part_id:
            return [each for each in self._open.values() if each.part_id == part_id]
        return [each for each in self._open.values() if abs(each.part.trigger_ns - trigger_ns) <= self._window_ns]

    def judged(self, view: str, part: Part, judgement: Judgement) -> None:
        """Note a view's judgement; the first FAULT and the last view end the part."""
        with self._lock:
            joined = self._open.get(part.seq)
            if joined is None:
                return  # it has its outcome
            joined.judged[view] = judgement
            if len(joined.judged) == len(self.views):
                self._end(part, combined({name: joined.judged[name] for name in self.views}))

    def _end(self, part: Part, judgement: Judgement) -> None:
        del self._open[part.seq]
        self._publisher.judged(part, judgement)


class View:
    """What a view's grabber and inspect thread take for the publisher."""

    def __init__(self, joiner: Joiner, name: str) -> None:
        self.name = name
        self.book = LineBook(f"{joiner.line.name}.{name}")
        self._joiner = joiner

    def trigger(self, line: LineBook, part_id: str, identity: Identity | None, trigger_ns: int) -> Part:
        del line, identity  # the joined line's count
        return self._joiner.trigger(self.name, part_id, trigger_ns)

    def judged(self, part: Part, judgement: Judgement) -> None:
        self._joiner.judged(self.name, part, judgement)

    def fault(self, part: Part, reason: Reason) -> None:
        self.judged(part, Judgement(FAULT, (reason.value,)))


def combined(views: dict[str, Judgement]) -> Judgement:
    """One judgement of every view's: FAULT where any is, else NG where any is. Findings, classes and the reasons of an NG bear the
    view's name."""
    faults = [judgement for judgement in views.values() if judgement.outcome == FAULT]
    if faults:
        return faults[0]
    is_ng = any(judgement.outcome == NG for judgement in views.values())
    return Judgement(
        NG if is_ng else PASS,
        tuple(f"{name}/{reason}" for name, judgement in views.items() for reason in judgement.reasons),
        tuple(
            msgspec.structs.replace(blob, class_name=f"{name}/{blob.class_name}")
            for name, judgement in views.items()
            for blob in judgement.blobs
        ),
        tuple(
            msgspec.structs.replace(finding, rule=f"{name}/{finding.rule}")
            for name, judgement in views.items()
            for finding in judgement.findings
        ),
        {f"{name}/{stage}": ms for name, judgement in views.items() for stage, ms in judgement.stages_ms.items()},
        max(judgement.map_ns for judgement in views.values()),
    )


def identity_of(views: dict[str, Identity]) -> Identity:
    """What a part of several views is judged by: names joined, hashes of the hashes, the shortest deadline."""
    every = list(views.values())
    if len(every) == 1:
        return every[0]
    return Identity(
        "+".join(dict.fromkeys(each.recipe for each in every))[:64],
        _hash([each.recipe_hash for each in every]),
        _hash([each.model_hash for each in every]),
        "+".join(dict.fromkeys(each.engine_id for each in every))[:128],
        min(each.deadline_ms for each in every),
        1,
    )


def _hash(hashes: list[str]) -> str:
    """One model for all views keeps its hash; several have the SHA-256 of theirs, in the order of the views."""
    return hashes[0] if len(set(hashes)) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
