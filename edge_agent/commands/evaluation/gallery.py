"""The worst images as a contact sheet: slips, false rejects, then those that were nearly wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from edge_agent.commands.drawing import FALSE_REJECT, RIGHT, SLIP, card, heat, outline, overlay, sheet, told
from edge_agent.commands.drawing import Picture as Drawn
from edge_agent.commands.evaluation.line import Judged, Picture
from edge_agent.dataset import MASK_ABOVE
from edge_agent.recipe import Recipe

_COLUMNS, _SIDE = 3, 260
_MOST_LETTERS = 44  # beside the widest badge


def write_gallery(
    file: Path, worst: dict[bool, list[Picture]], judged: Sequence[Judged], recipe: Recipe, name: str, caution: str
) -> None:
    """Write the sheet of the images kept as the worst, defective ones first."""
    pictures = [each for is_defective in (True, False) for each in sorted(worst[is_defective], reverse=True)]
    if not pictures:
        return
    cards = [_card(each, judged[each.index], recipe) for each in pictures]
    shown = [judged[each.index] for each in pictures]
    slips = _share([each.is_slip for each in shown], [each.is_slip for each in judged], "slips")
    rejects = _share([each.is_false_reject for each in shown], [each.is_false_reject for each in judged], "false rejects")
    subtitle = (
        f"Of {name}: the worst defective images, then the worst good ones; violet: judged wrongly. First the frame with what was "
        "found (red) and what is labelled (magenta), beside it the probability of a defect."
    )
    cv2.imwrite(str(file), sheet(cards, _COLUMNS, f"The worst images: {slips}, {rejects}{caution and f'. {caution}'}", subtitle))


def title_of(name: str) -> str:
    """An image's name with its folders, which tell apart those that are called alike; of a long one the end."""
    return name if len(name) <= _MOST_LETTERS else f"...{name[-_MOST_LETTERS:]}"


def _share(shown: Sequence[bool], every: Sequence[bool], word: str) -> str:
    return f"{sum(shown)} of {sum(every)} {word}" if any(every) else f"no {word}"


def _card(picture: Picture, judged: Judged, recipe: Recipe) -> Drawn:
    frame = picture.frame
    worth = SLIP if judged.is_slip else FALSE_REJECT if judged.is_false_reject else RIGHT
    wrongly = "" if worth == RIGHT else " WRONGLY"
    drawn = overlay(frame, judged.verdict.blobs, recipe)
    if picture.mask is not None:
        outline(drawn, picture.mask > MASK_ABOVE)
    score = judged.seen.score if judged.seen is not None else 0.0
    broken = [told(finding) for finding in judged.verdict.findings if not finding.ok]
    group = f", group {judged.labelled.group}" if judged.labelled.group != judged.labelled.name else ""
    lines = [
        f"truth {judged.labelled.kind}, judged {judged.verdict.outcome}{wrongly}, score {score:.2f}{group}",
        "; ".join(broken[:2]) or "all rules kept",
    ]
    if judged.seen is not None and judged.seen.truth_area_px is not None:
        lines.append(f"labelled area {judged.seen.truth_area_px:g} px of a frame of {frame.shape[1]}x{frame.shape[0]}")
    return card(drawn, heat(picture.probability), title_of(judged.labelled.name), worth, lines, _SIDE)
