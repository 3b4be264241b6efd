"""Which pictures of a part go to the datacenter: crops of its blobs, frames of what did not pass, a sampled share of PASS."""

from __future__ import annotations

import math
from typing import Protocol

from edge_agent.bundle import Inspection, worst_of
from edge_agent.events import say
from edge_agent.records import PASS, Blob, Judgement, Pixels
from edge_agent.wire import PictureNote


class PicturePool(Protocol):
    """Takes a copy of a picture at once, or refuses. The evidence worker."""

    def offer(self, note: PictureNote, pixels: Pixels) -> bool: ...

    def refuse(self) -> bool:
        """Declare a picture lost that could not even be offered; False."""


class EvidencePicker:
    """Runs on the inspect thread, while the frame and the map are still there. Never waits."""

    def __init__(self, station: str, pool: PicturePool, first_number: int = 0) -> None:
        """`first_number` keeps the pictures of a line's views apart."""
        self._station = station
        self._first_number = first_number
        self._pool = pool
        self._is_refusing = False

    def pick(self, inspection: Inspection, judgement: Judgement) -> None:
        """Offer the part's pictures to the pool."""
        plan = inspection.bundle.recipe.evidence
        is_pass = judgement.outcome == PASS
        is_chosen = is_sampled(inspection.part.seq, plan.pass_share) if is_pass else plan.whole_frame == "ng"
        if is_chosen or not is_pass:
            for index, blob in enumerate(judgement.blobs[: plan.max_crops]):
                self._offer_crop(inspection, judgement, index, blob)
        if is_chosen or plan.whole_frame == "always":
            self._offer(inspection, judgement, "frame", 0, 0, 0, inspection.frame.pixels)
        if plan.probability_map == "always" or (plan.probability_map == "ng" and (is_chosen or not is_pass)):
            for index, (region, maps) in enumerate(inspection.class_maps()):
                try:
                    worst = worst_of(maps)
                except MemoryError:
                    self._tell(inspection, self._pool.refuse())
                else:
                    self._offer(inspection, judgement, "map", index, region.box.x, region.box.y, worst)

    def _offer_crop(self, inspection: Inspection, judgement: Judgement, index: int, blob: Blob) -> None:
        plan = inspection.bundle.recipe.evidence
        x0, y0, x1, y1 = crop_box(blob, plan.margin_px, plan.max_crop_px, inspection.frame.pixels.shape)
        self._offer(inspection, judgement, "crop", index, x0, y0, inspection.frame.pixels[y0:y1, x0:x1])

    def _offer(self, inspection: Inspection, judgement: Judgement, kind: str, index: int, x: int, y: int, pixels: Pixels) -> None:
        part = inspection.part
        note = PictureNote(
            station=self._station,
            line=part.line,
            epoch=part.epoch,
            seq=part.seq,
            part_id=part.part_id,
            outcome=judgement.outcome,
            kind=kind,
            index=self._first_number + index,
            x=x,
            y=y,
            width=pixels.shape[1],
            height=pixels.shape[0],
        )
        self._tell(inspection, self._pool.offer(note, pixels))

    def _tell(self, inspection: Inspection, taken: bool) -> None:
        if taken == self._is_refusing:
            self._is_refusing = not taken
            part = inspection.part
            say("evidence.recovered" if taken else "evidence.refused", line=part.line, part=part.part_id)


def is_sampled(seq: int, share: float) -> bool:
    """True for an evenly spaced share of all sequence numbers."""
    return int(seq * share) != int((seq - 1) * share)


def crop_box(blob: Blob, margin: int, most: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 around a blob, inside the frame and at most `most` pixels a side, centred where it is larger."""
    x0, x1 = _span(blob.x, blob.width, margin, most, shape[1])
    y0, y1 = _span(blob.y, blob.height, margin, most, shape[0])
    return x0, y0, x1, y1


def _span(start: float, length: float, margin: int, most: int, limit: int) -> tuple[int, int]:
    low, high = int(start) - margin, math.ceil(start + length) + margin
    if high - low > most:
        middle = (low + high) // 2
        low, high = middle - most // 2, middle + most - most // 2
    return max(0, low), min(limit, high)
