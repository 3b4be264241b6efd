"""The demo's contact sheet, from what the collector has: picture, probability, blobs, zones, outcome with its reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge_agent.camera.texture import PartTruth
from edge_agent.collector.opening import open_store
from edge_agent.collector.store import StoredPicture
from edge_agent.commands.drawing import Picture, card, heat, overlay, sheet
from edge_agent.commands.drawing import told as finding_told
from edge_agent.errors import EdgeAgentError
from edge_agent.recipe import Recipe
from edge_agent.records import FAULT, NG, PASS
from edge_agent.typewords import counted
from edge_agent.wire import Verdict

_MOST = {NG: 9, PASS: 5, FAULT: 2}
_MOST_WRONG = 4  # of each outcome
_COLUMNS = 4
_SIDE = 240


def write_contact_sheet(file: Path, store: Path, verdicts: list[Verdict], truths: list[PartTruth], recipe: Recipe) -> None:
    """Write the sheet of the parts whose frames reached the collector: wrong ones before right ones."""
    pictures = {(picture.seq, picture.kind): picture for picture in open_store(str(store)).pictures()}
    chosen = _choose(verdicts, truths, pictures)
    cards = [_card(verdict, truths, pictures, recipe) for verdict in chosen]
    if not cards:
        raise EdgeAgentError(f"no picture reached the collector in {store}, so there is nothing to put on a contact sheet")
    counts = ", ".join(f"{sum(v.outcome == o for v in verdicts)} {o}" for o in (PASS, NG, FAULT))
    title = f"{counted(len(verdicts), 'part')}: {counts}"
    identity = f"recipe {recipe.name} {recipe.hash[:12]}, engine {verdicts[0].engine_id}"
    subtitle = f"{identity}. Left the frame with zones and blobs, right the probability of a defect, dark to bright."
    cv2.imwrite(str(file), sheet(cards, _COLUMNS, title, subtitle))


def _choose(verdicts: list[Verdict], truths: list[PartTruth], pictures: dict[tuple[int, str], StoredPicture]) -> list[Verdict]:
    shown = [verdict for verdict in verdicts if (verdict.seq, "frame") in pictures]
    chosen: list[Verdict] = []
    for outcome, most in _MOST.items():
        of_outcome = [verdict for verdict in shown if verdict.outcome == outcome]
        wrong = [verdict for verdict in of_outcome if not _is_right(verdict, truths)][:_MOST_WRONG]
        right = [verdict for verdict in of_outcome if _is_right(verdict, truths)][: most - len(wrong)]
        chosen += wrong + right
    return chosen


def _is_right(verdict: Verdict, truths: list[PartTruth]) -> bool:
    if not truths:
        return True
    expected = {"good": PASS, "defective": NG, "empty": FAULT}[truths[verdict.seq - 1].kind]
    return verdict.outcome == expected


def _card(verdict: Verdict, truths: list[PartTruth], pictures: dict[tuple[int, str], StoredPicture], recipe: Recipe) -> Picture:
    frame = pictures[verdict.seq, "frame"].read()
    stored_map = pictures.get((verdict.seq, "map"))
    probability = heat(stored_map.read()) if stored_map else np.full((_SIDE, _SIDE, 3), 235, np.uint8)
    truth = truths[verdict.seq - 1] if truths else None
    drawn = f"drawn: {told(truth)}" if truth else ""
    mark = "" if _is_right(verdict, truths) else "  << WRONG"
    lines = [_why(verdict), drawn + mark]
    title = f"part {verdict.part_id}   {verdict.latency_ms:.1f} ms"
    return card(overlay(frame, verdict.blobs, recipe), probability, title, verdict.outcome, lines, _SIDE)


def told(truth: PartTruth) -> str:
    """What was drawn, in words."""
    on = f"on {truth.family}" if truth.family else ""
    return " ".join(filter(None, (truth.kind, truth.defect, on)))


def _why(verdict: Verdict) -> str:
    """The broken rules with value and limit; for PASS the tightest margin."""
    if verdict.outcome == FAULT:
        return f"fault: {', '.join(verdict.reasons)}"
    broken = sorted((f for f in verdict.findings if not f.ok), key=lambda f: not f.rule.startswith("zone"))
    if broken:
        more = f"; and {len(broken) - 2} more" if len(broken) > 2 else ""
        return "; ".join(finding_told(f) for f in broken[:2]) + more
    peak = next((f for f in verdict.findings if f.rule.startswith("peak_score")), None)
    return f"all {len(verdict.findings)} rules kept" + (f"; peak score {peak.value:.2f} of {peak.limit:.2f}" if peak else "")
