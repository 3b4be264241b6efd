"""One outcome of several views: each view's pictures are judged by its own line of threads, and their judgements meet here.

A view's word (a picture, or that one is lost) names its part, or says when it was triggered. A part that ended without a view is
kept a while, since that view's word must still come: it is the ended part's, and makes no part of its own. Of a word that names
no part, by the parts that lack its view still; *in the window* is triggered within `join_window_ms` of the word:

| in the window | longer ago | the word is |
|---|---|---|
| one, not after the word | any | that part's |
| one, after the word | none | that part's |
| one after the word, or none | some | the oldest one's, too late: a FAULT. Were it another part's, that one is a FAULT as well |
| several | any | nobody can say whose: all are FAULT ambiguous, and it counts for the oldest |
| none | none | a new part's. Where one in the window has this view already, both are FAULT ambiguous |

A word that names a part is that part's, or a new one's. A view that was away and is ready again owes no part a word.
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
from edge_agent.records import FAULT, NG, PASS, Identity, Judgement, Part, fault_of

_KEPT_NS = 1_000_000_000  # at least so long a part is kept for the words that it lacks


@dataclass(slots=True)
class _Joined:
    """A part and the views that have come. `part_id` is '' where it was opened by time."""

    part: Part
    part_id: str
    came: set[str]
    judged: dict[str, Judgement] = field(default_factory=dict)
    has_ended: bool = False

    def is_forgotten(self, now_ns: int) -> bool:
        """True for one that waited so long that its word has been lost, or that its view's engine hangs: it was FAULT long ago."""
        return now_ns > 2 * self.part.deadline_ns - self.part.trigger_ns + _KEPT_NS


class Joiner:
    """Stands between the views of one line and the publisher. Every method may be called from any thread."""

    def __init__(self, line: LineBook, publisher: Publisher, views: tuple[str, ...], window_s: float) -> None:
        self.line = line
        self.views = {name: View(self, name) for name in views}
        self._publisher = publisher
        self._window_ns = int(window_s * 1e9)
        self._parts: dict[int, _Joined] = {}  # by seq: open, or ended without some view
        self._away: set[str] = set()  # views that are not ready
        self._joined_of: dict[str, Identity] = {}
        self._joined = line.identity  # of those
        self._lock = threading.Lock()

    def look(self) -> None:
        """Called from time to time: a view that is overdue is a FAULT; the line is ready where all its views are."""
        now_ns = time.monotonic_ns()
        away = {name for name, view in self.views.items() if not view.book.ready}
        with self._lock:
            for each in tuple(self._parts.values()):
                if each.has_ended:
                    each.came |= self._away - away
                elif len(each.came) < len(self.views) and now_ns - each.part.trigger_ns > self._window_ns:
                    self._end(each, Reason.NO_FRAME)
                if each.is_forgotten(now_ns):
                    del self._parts[each.part.seq]
            self._away = away
        waiting = [f"{name}: {view.book.why_not_ready}" for name, view in self.views.items() if name in away]
        self.line.ready, self.line.why_not_ready = not waiting, "; ".join(waiting)
        self.line.verified = all(view.book.verified for view in self.views.values())
        self.line.identity = self._identity()

    def trigger(self, view: str, part_id: str, trigger_ns: int) -> Part:
        """The part that this word of a view is of: one that lacks it, or a new one."""
        now_ns = time.monotonic_ns()
        trigger_ns = min(trigger_ns, now_ns)  # a camera's clock may run ahead; the publisher takes none of the future either
        at_ns = trigger_ns or now_ns
        with self._lock:
            lacking = [each for each in self._parts.values() if view not in each.came]
            mine = [each for each in lacking if each.part_id == part_id] if part_id else self._at(lacking, at_ns)
            return self._count(view, mine, at_ns, part_id) if mine else self._new(view, part_id, trigger_ns)

    def _at(self, lacking: list[_Joined], at_ns: int) -> list[_Joined]:
        """Those of which a word of that time may be, by the table above."""
        near = [each for each in lacking if abs(each.part.trigger_ns - at_ns) <= self._window_ns]
        before = [each for each in lacking if each.part.trigger_ns < at_ns - self._window_ns]
        if before and (not near or (len(near) == 1 and near[0].part.trigger_ns > at_ns)):
            return [min(before, key=lambda each: each.part.trigger_ns)]
        return near

    def _count(self, view: str, mine: list[_Joined], at_ns: int, part_id: str) -> Part:
        """The word is of one of these: of which, is known only where there is but one."""
        oldest = min(mine, key=lambda each: each.part.trigger_ns)
        if len(mine) > 1:
            for each in mine:
                self._end(each, Reason.AMBIGUOUS)
        elif not part_id and at_ns - oldest.part.trigger_ns > self._window_ns:
            self._end(oldest, Reason.NO_FRAME)
        oldest.came.add(view)
        return oldest.part

    def _new(self, view: str, part_id: str, trigger_ns: int) -> Part:
        part = self._publisher.trigger(self.line, part_id, self._identity(), trigger_ns)
        joined = _Joined(part, part_id, {view})
        others = [each for each in self._parts.values() if not each.has_ended and view in each.came]
        twice = [each for each in others if self._are_one(each, joined)]
        self._parts[part.seq] = joined
        if twice:
            for each in (*twice, joined):
                self._end(each, Reason.AMBIGUOUS)
        elif self.line.mode == OFFLINE:
            self._end(joined, Reason.NOT_READY)
        return part

    def _identity(self) -> Identity | None:
        """What the views judge by now: an engine that comes late, and a recipe that is read anew, change it."""
        views = {name: view.book.identity for name, view in self.views.items()}
        known = {name: identity for name, identity in views.items() if identity is not None}
        if len(known) == len(views) and known != self._joined_of:
            self._joined_of, self._joined = known, identity_of(known)
        return self._joined

    def _are_one(self, before: _Joined, now: _Joined) -> bool:
        """True where the words of both name one part, or were triggered within the window."""
        if now.part_id:
            return before.part_id == now.part_id
        return abs(before.part.trigger_ns - now.part.trigger_ns) <= self._window_ns

    def judged(self, view: str, part: Part, judgement: Judgement) -> None:
        """Note a view's judgement; the last view's ends the part, so that a FAULT of one leaves no word of another behind."""
        with self._lock:
            joined = self._parts.get(part.seq)
            if joined is None or joined.has_ended:
                return  # it has its outcome
            joined.judged[view] = judgement
            if len(joined.judged) == len(self.views):
                del self._parts[part.seq]
                self._publisher.judged(part, combined({name: joined.judged[name] for name in self.views}))

    def _end(self, joined: _Joined, reason: Reason) -> None:
        """The part is a FAULT now, unless it has had its outcome; it stays for the words that it lacks."""
        if not joined.has_ended:
            joined.has_ended = True
            self._publisher.judged(joined.part, fault_of(reason))


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
        self.judged(part, fault_of(reason))


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
