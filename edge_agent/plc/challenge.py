"""Master parts: known good and known bad ones that prove, now and then, that the line still tells them apart.

A master part is judged like any other and published as a shadow result that names it; no machine acts on it and no counter of the
production counts it. One that comes out wrong holds the line: every part is FAULT not_ready until all master parts came out right.
A stored picture proves model and recipe, not camera and light: where the one that came out wrong was brought to the line, all have
to be brought.
Lives on the publisher thread; when the last challenge was passed, and what failed, is kept beside the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from edge_agent.errors import DeliveryError, Reason
from edge_agent.events import UNPASSABLE, say
from edge_agent.plc.counters import LineCounters
from edge_agent.plc.parts import LineBook
from edge_agent.records import FAULT, Judgement
from edge_agent.settings import ChallengeSettings

_HOUR_US = 3_600_000_000
_MINUTE_NS = 60_000_000_000
_UNJUDGED = {(Reason.NOT_READY.value,), (Reason.INTERRUPTED.value,)}  # of a FAULT: the line stopped or was away; proves nothing


def never_broken(settings: ChallengeSettings, rules: Sequence[str]) -> list[tuple[int, str]]:
    """Return what master parts, by their number, have to break and none of these rules is called: no challenge is passed so."""
    return [(n, reason) for n, master in enumerate(settings.parts) for reason in master.reasons if reason not in rules]


@dataclass(slots=True)
class Came:
    """One master part since the start: how often it was judged, and what came out last."""

    has_image: bool
    judged: int = 0
    came: str = ""
    is_right: bool = False


class LineChallenge:
    """One line's challenge. `run_images` has the stored pictures of its master parts judged, elsewhere."""

    def __init__(
        self, settings: ChallengeSettings, book: LineBook, counters: LineCounters, run_images: Callable[[], None], now_ns: int
    ) -> None:
        """`now_ns` is monotonic, as everywhere here: how long something lasts is no matter of the clock, which may be set."""
        self._settings = settings
        self._book = book
        self._counters = counters
        self._run_images = run_images
        self._masters = {master.name: master for master in settings.parts}
        self._right: set[str] = set()  # came out as declared since the last challenge was passed, or one failed
        self._came = {name: Came(bool(master.image)) for name, master in self._masters.items()}
        self._due_since_ns: int | None = now_ns  # the schedule may have gone by before the start
        self._tried_ns: int | None = None
        self._armed_until_ns = 0
        self._is_overdue = False
        self.unpassable = ""  # why no challenge can be passed by the rules that the line has now
        self._set_hold()

    def meet_rules(self, rules: Sequence[str]) -> None:
        """The line judges by rules of these names from here on. May be called from any thread."""
        parts, before = self._settings.parts, self.unpassable
        never = [f"master part {parts[n].name} has to break {reason!r}" for n, reason in never_broken(self._settings, rules)]
        told = f"{', '.join(never)}, and the rules of the line are now called {', '.join(rules)}"
        self.unpassable = told if never else ""
        if self.unpassable not in ("", before):
            say("challenge.unpassable", line=self._book.name, why=self.unpassable)

    def arm(self, name: str, now_ns: int) -> None:
        """The next part of the line is this master part, if it comes in time; '' has the stored pictures of all judged.

        Raises DeliveryError."""
        if not name:
            if not self.has_images:
                names = ", ".join(self._masters)
                raise DeliveryError(f"no master part of line {self._book.name} has an image. Name one, and bring it: {names}")
            return self._run_images()
        if name not in self._masters:
            raise DeliveryError(f"master part {name!r} is not known; one of {', '.join(self._masters)}")
        self._book.challenge, self._armed_until_ns = name, now_ns + int(self._settings.bring_min * _MINUTE_NS)
        return None

    def disarm(self, event: str = "challenge.cancelled") -> None:
        """The next part of the line is the production's, whatever was announced."""
        name, self._book.challenge = self._book.challenge, ""
        if name:
            say(event, line=self._book.name, master=name)

    def told(self) -> dict[str, object]:
        """For whoever asks: the master part that comes next, when a challenge was passed last, what failed since, what ends it,
        and what came out of each part."""
        kept = self._counters.kept
        standing = {"next": self._book.challenge, "passed_us": kept.challenged_us, "failed": kept.challenge_failed}
        parts = {name: asdict(came) for name, came in self._came.items()}
        ends = {"bring": self._to_bring(), "remedy": self._remedy(), "unpassable": self.unpassable}
        return {**standing, **ends, "parts": parts}

    def _to_bring(self) -> list[str]:
        """The master parts that have yet to be brought before the line is let go; none where stored pictures may end it."""
        if not self._book.hold or self._pictures_suffice:
            return []
        return [name for name in self._masters if name not in self._right]

    def _remedy(self) -> str:
        """What lets the line go; '' where nothing holds it."""
        if not self._book.hold:
            return ""
        command, names = f"edge-agent challenge --line {self._book.name}", self._to_bring()
        mend = f"{UNPASSABLE} ({self.unpassable})" if self.unpassable else "mend the line"
        if not names:
            return f"{mend}, then have its master parts' pictures judged: {command}"
        then = "".join(f", then --part {name}" for name in names[1:])
        return f"{mend}, then bring its master parts: {command} --part {names[0]}{then}"

    @property
    def _pictures_suffice(self) -> bool:
        """True where stored pictures alone can pass the challenge."""
        return all(master.image for master in self._masters.values()) and not self._counters.kept.challenge_brought

    @property
    def has_images(self) -> bool:
        return any(master.image for master in self._masters.values())

    def note(self, name: str, judgement: Judgement, now_us: int, *, is_brought: bool) -> None:
        """Hold what came out against what was declared; where not `is_brought`, it came out of a stored picture."""
        master = self._masters[name]
        if judgement.outcome == FAULT and judgement.reasons in _UNJUDGED:
            return say("challenge.unjudged", line=self._book.name, master=name, why=judgement.reasons[0])
        is_right = judgement.outcome == master.expect and set(master.reasons) <= set(judgement.reasons)
        came = " ".join([judgement.outcome, *judgement.reasons])
        self._came[name] = Came(bool(master.image), self._came[name].judged + 1, came, is_right)
        if not is_right:
            wanted = " ".join([master.expect, *master.reasons])
            self._right.clear()
            self._counters.fail_challenge(f"master part {name} came out {came}, not {wanted}", is_brought)
            self._set_hold()
            return say("challenge.failed", line=self._book.name, master=name, came=came, wanted=wanted, remedy=self._remedy())
        say("challenge.part_right", line=self._book.name, master=name)
        if is_brought or not self._counters.kept.challenge_brought:
            self._right.add(name)
        if self._right >= set(self._masters):
            self._right.clear()
            self._counters.pass_challenge(now_us)
            say("challenge.passed", line=self._book.name)
        return self._set_hold()

    def look(self, now_us: int, now_ns: int) -> None:
        """Have the pictures judged when a challenge is due; without pictures somebody has to bring the parts in time. A master part
        that was announced and did not come is waited for no longer: the next part would be taken for it."""
        if self._book.challenge and now_ns >= self._armed_until_ns:
            self.disarm("challenge.expired")
        if now_us < self._due_us():
            self._due_since_ns = None
            is_overdue = False
        else:
            if self._due_since_ns is None:
                self._due_since_ns = now_ns
            if self._pictures_suffice and (self._tried_ns is None or now_ns - self._tried_ns > _MINUTE_NS):
                self._tried_ns = now_ns
                self._run_images()
            is_overdue = now_ns - self._due_since_ns > int(self._settings.grace_min * _MINUTE_NS)
        if is_overdue != self._is_overdue:
            self._is_overdue = is_overdue
            self._set_hold()
            if is_overdue:
                remedy = self._remedy()
                say("challenge.overdue", line=self._book.name, **({"remedy": remedy} if remedy else {}))

    def _due_us(self) -> int:
        """When the next challenge is due by the schedule."""
        passed_us = self._counters.kept.challenged_us
        due_us = passed_us + int(self._settings.every_h * _HOUR_US) if self._settings.every_h else 1 << 62
        if self._settings.at_shift and self._counters.kept.shift.since_us > passed_us:
            due_us = min(due_us, self._counters.kept.shift.since_us)
        return due_us

    def _set_hold(self) -> None:
        overdue = "a challenge with master parts is overdue" if self._is_overdue and self._settings.overdue == "not_ready" else ""
        self._book.hold = self._counters.kept.challenge_failed or overdue
