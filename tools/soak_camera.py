"""Soak a station with a camera that fails in every way it can, and reconcile what the station said with what happened.

python tools/soak_camera.py --parts 10000 --seed 1 --rate 50 --out docs/measurements/camera-soak.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from soak_line import (
    FAULTS,
    FREEZE_EVERY,
    FREEZE_S,
    OFF_S,
    POWER_EVERY,
    Record,
    Seen,
    Session,
    is_defective,
    soak,
)

from edge_agent.events import configure_logging
from edge_agent.simulator import Truth
from edge_agent.wire import Verdict

_WHOLE = ("good", "loss")  # fates of which a picture may be judged
_UNCOUNTED_S = 0.2  # the station reads the camera's counter every 0.05 s: what came after the last reading goes with the power
_MOST_LATE_NS = 2_000_000_000
ADDRESS = "127.9.0.1"


@dataclass(slots=True)
class Account:
    """What reconciles and what does not. `cells` counts (fate, outcome or reason); `problems` is empty where all is well."""

    pulses: int = 0
    stations: int = 0  # pulses that reached a camera which the station had set up
    elsewhere: int = 0  # those that came while it had none
    outcomes: int = 0
    cut_off: int = 0  # pulses that went with the power before the station could know of them
    unseen_frozen: int = 0
    matched: int = 0
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def require(self, is_well: bool, what: str) -> None:
        if not is_well:
            self.problems.append(what)


def reconcile(record: Record) -> Account:
    """Compare every outcome with the truth of its pulse."""
    account = Account(pulses=record.pulses, outcomes=len(record.verdicts))
    summary = record.summary
    account.require(
        summary["triggers"] == summary["outcomes"] == summary["published"] == len(record.verdicts),
        f"triggers {summary['triggers']}, outcomes {summary['outcomes']}, published {summary['published']}, "
        f"heard {len(record.verdicts)} are not the same",
    )
    account.require(len(record.truths) == record.pulses, f"{record.pulses} pulses have {len(record.truths)} truths")
    verdicts = sorted(record.verdicts, key=lambda v: v.seq)
    truths = sorted(record.truths, key=lambda t: t.trigger)
    matches = _match(record, verdicts, truths, account)
    _count_sessions(record, verdicts, truths, account)
    for verdict in verdicts:
        truth = matches.get(verdict.seq)
        if truth is not None:
            _check(verdict, record.seen[verdict.seq], truth, record, account)
        elif verdict.outcome != "FAULT":
            account.problems.append(f"part {verdict.seq} is {verdict.outcome} without a picture of any pulse")
    _tabulate(record, verdicts, truths, matches, account)
    return account


def _match(record: Record, verdicts: list[Verdict], truths: list[Truth], account: Account) -> dict[int, Truth]:
    """Each judged picture's pulse: that of the same frame id, the last before it was there. Ids begin anew with each session."""
    by_id: dict[int, list[Truth]] = defaultdict(list)
    for truth in truths:
        if truth.block_id:
            by_id[truth.block_id].append(truth)
    matches: dict[int, Truth] = {}
    taken: set[int] = set()
    for verdict in verdicts:
        seen = record.seen.get(verdict.seq)
        if seen is None:
            continue
        near = [t for t in by_id[seen.frame_id] if -50_000_000 < seen.trigger_ns - t.trigger_ns < _MOST_LATE_NS]
        if not near:
            account.problems.append(f"part {verdict.seq} has frame {seen.frame_id}, which no pulse has")
            continue
        truth = near[-1]
        account.require(truth.trigger not in taken, f"pulse {truth.trigger} has two outcomes")
        taken.add(truth.trigger)
        matches[verdict.seq] = truth
    account.matched = len(matches)
    return matches


def _check(verdict: Verdict, seen: Seen, truth: Truth, record: Record, account: Account) -> None:
    """A verdict on a picture says what its exposure showed, and a picture that is not whole has none."""
    what = f"part {verdict.seq} ({verdict.outcome} {','.join(verdict.reasons)}; pulse {truth.trigger}, {truth.fate})"
    if verdict.outcome == "FAULT":
        return
    if truth.fate == "frozen" and not any(s.number == seen.number and s.seq < seen.seq for s in record.seen.values()):
        account.unseen_frozen += 1  # shows a picture that was lost on its way: new to whoever sees it
        return
    account.require(truth.fate in _WHOLE, f"{what} was judged")
    account.require(seen.number == truth.sequence, f"{what} was judged by the picture of exposure {seen.number}")
    expected = "NG" if is_defective(truth.sequence) else "PASS"
    account.require(verdict.outcome == expected, f"{what} should be {expected}")


def _count_sessions(record: Record, verdicts: list[Verdict], truths: list[Truth], account: Account) -> None:
    """Outcomes against the camera's own count of pulses, session by session."""
    begins = [session.began_ns for session in record.sessions[1:]] + [sys.maxsize]
    begin_ns = 0
    for number, (session, end_ns) in enumerate(zip(record.sessions, begins, strict=True), start=1):
        told = sum(begin_ns <= record.trigger_ns(verdict) < end_ns for verdict in verdicts)
        begin_ns = end_ns
        account.stations += session.pulses
        missing = session.pulses - told
        unknowable = _last_pulses(session, truths) if session.ended_by == "power" else 0
        account.cut_off += missing if 0 <= missing <= unknowable else 0
        account.require(
            0 <= missing <= unknowable,
            f"session {number} (ended by {session.ended_by}): {session.pulses} pulses, {told} outcomes, "
            f"{unknowable} pulses too short before its end to be known of",
        )
    account.elsewhere = record.pulses - account.stations


def _last_pulses(session: Session, truths: list[Truth]) -> int:
    return sum(0 <= session.ended_ns - truth.trigger_ns < _UNCOUNTED_S * 1e9 for truth in truths)


def _tabulate(record: Record, verdicts: list[Verdict], truths: list[Truth], matches: dict[int, Truth], account: Account) -> None:
    """Count fates by what became of them. Outcomes without a picture go, in their order, to the pulses without one."""
    for verdict in verdicts:
        if verdict.seq in matches:
            account.cells[matches[verdict.seq].fate, _word(verdict)] += 1
    shown = {truth.trigger for truth in matches.values()}
    spans = [(s.began_ns, s.ended_ns, s.pulses) for s in record.sessions]
    own: list[Truth] = []
    for _, ended_ns, pulses in spans:
        own += [t for t in truths if t.trigger_ns <= ended_ns][-pulses:] if pulses else []
    unseen = [truth for truth in own if truth.trigger not in shown]
    faults = [verdict for verdict in verdicts if verdict.seq not in matches]
    for truth, verdict in zip(unseen, faults, strict=False):
        account.cells[truth.fate, _word(verdict)] += 1
    for truth in unseen[len(faults) :]:
        account.cells[truth.fate, "-"] += 1


def _word(verdict: Verdict) -> str:
    return verdict.reasons[0] if verdict.outcome == "FAULT" else verdict.outcome


def report(record: Record, account: Account, command: str) -> str:
    """The report as Markdown."""
    words = sorted({word for _, word in account.cells}, key=lambda w: (w not in ("PASS", "NG"), w))
    fates = sorted({fate for fate, _ in account.cells})
    rows = [f"| {fate} | " + " | ".join(str(account.cells[fate, word] or "") for word in words) + " |" for fate in fates]
    happened = Counter(h.what for h in record.happenings)
    lines = [
        "# A camera that fails in every way it can",
        "",
        f"`{command}`, measured on {date.today()} with {os.cpu_count()} processors, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}. `make soak-camera` repeats ten thousand parts.",
        "",
        f"The whole daemon with one hardware-triggered GigE Vision camera, a simulated one, for "
        f"{record.seconds:.0f} s: random faults (`{FAULTS}`), "
        f"the power taken away for {OFF_S:g} s about every {POWER_EVERY} pulses, the control channel frozen for {FREEZE_S:g} s "
        f"about every {FREEZE_EVERY}.",
        "",
        "| what | count |",
        "|---|---|",
        f"| pulses | {account.pulses} |",
        f"| of these to a camera that the station had set up | {account.stations} |",
        f"| of these while it had none | {account.elsewhere} |",
        f"| outcomes | {account.outcomes} |",
        f"| pulses cut off with the power | {account.cut_off} |",
        f"| pictures judged, each matched with its pulse | {account.matched} |",
        f"| frozen pictures of an exposure that was lost before | {account.unseen_frozen} |",
        f"| sessions of the camera | {len(record.sessions)} |",
        f"| power cycles, freezes | {happened['power']}, {happened['freeze']} |",
        f"| packets resent in the last session | {record.counters.get('resent_packets', 0)} |",
        f"| what does not reconcile | {len(account.problems)} |",
        "",
        "Pulses by what became of them in the camera (rows) and what the station said (columns; `-`: nothing):",
        "",
        "| fate | " + " | ".join(words) + " |",
        "|---|" + "---|" * len(words),
        *rows,
        "",
        "A judged picture is matched with its pulse by the camera's frame id and the trigger time; its content must be that of",
        "the pulse's exposure, which is drawn into it. Outcomes without a picture are counted against the camera's own counter,",
        "session by session, and in the table stand in order against the pulses without one, so that neighbours may have changed",
        "places. A pulse counts as the station's from when it resets the camera's counter until the power goes; between that and",
        "the next reset nobody but the camera could know of it, and the line says that it is not ready once it has noticed.",
        f"Pulses of the last {_UNCOUNTED_S:g} s before the power goes may be unknown to the station: its counter went with it.",
    ]
    if account.problems:
        lines += ["", "What does not reconcile:", "", *(f"- {problem}" for problem in account.problems[:50])]
    return "\n".join(lines) + "\n"


def as_json(account: Account) -> dict[str, Any]:
    return {
        **{name: getattr(account, name) for name in ("pulses", "stations", "elsewhere", "outcomes", "cut_off", "matched")},
        "unseen_frozen": account.unseen_frozen,
        "table": {f"{fate} {word}": count for (fate, word), count in sorted(account.cells.items())},
        "problems": account.problems,
    }


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", type=int, default=1000, help="pulses to give")
    parser.add_argument("--seed", type=int, default=1, help="of faults and of the time between pulses")
    parser.add_argument("--rate", type=float, default=50.0, help="pulses a second, on average")
    parser.add_argument("--out", type=Path, help="write the report there")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of the report")
    given = parser.parse_args(words)
    if given.parts < 1 or given.seed < 0 or not 0 < given.rate < float("inf"):
        parser.error("--parts takes 1 or more, --seed 0 or more, --rate more than 0")
    if given.out is not None and (given.out.is_dir() or not given.out.parent.is_dir()):
        parser.error(f"--out {given.out}: name a file, in a folder that is there")

    def tell(number: int) -> None:
        print(f"{number} of {given.parts} pulses", file=sys.stderr)

    configure_logging("error")
    with tempfile.TemporaryDirectory() as folder:
        record = soak(
            Path(folder),
            given.parts,
            given.seed,
            given.rate,
            ADDRESS,
            tell,
            power_every=POWER_EVERY,
            freeze_every=FREEZE_EVERY,
        )
    account = reconcile(record)
    text = report(record, account, f"python tools/soak_camera.py --parts {given.parts} --seed {given.seed} --rate {given.rate:g}")
    if given.out is not None:
        given.out.write_text(text)
    print(json.dumps(as_json(account)) if given.json else text)
    return 1 if account.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
