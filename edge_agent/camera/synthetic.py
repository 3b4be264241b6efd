"""Draws textured surfaces with known defects. The truth of part n follows from (seed, n): whoever knows the seed knows it."""

from __future__ import annotations

from edge_agent.camera.base import Exposure
from edge_agent.camera.pace import Pace
from edge_agent.camera.texture import draw_part
from edge_agent.records import Pixels
from edge_agent.settings import SyntheticCamera as SyntheticSettings


class SyntheticCamera:
    """Part n (from 0) is drawn from (seed, n); with `preload` the first that many are drawn at open and shown in turn.

    A slot that still holds the preloaded picture is left alone: like a camera that writes by itself, this one then takes
    no time of the processor's."""

    def __init__(self, settings: SyntheticSettings) -> None:
        self.name = settings.name
        self.max_pixels = settings.rows * settings.cols
        self._settings = settings
        self._pace = Pace(settings.name, settings.rate_hz, settings.trigger)
        self.is_live = self._pace.is_live
        self._index = -1
        self._drawn: list[Pixels] = []
        self._held: dict[int, tuple[Pixels, int]] = {}  # by slot: its memory and the preloaded picture in it

    def open(self) -> None:
        if not self._drawn:
            self._drawn = [self._draw(index).ravel() for index in range(self._settings.preload)]

    def _draw(self, index: int) -> Pixels:
        s = self._settings
        drawn = draw_part(s.seed, index, s.rows, s.cols, defect_share=s.defect_share, empty_share=s.empty_share)
        return drawn.pixels

    def wait_for_trigger(self, timeout_s: float) -> str | None:
        part_id = self._pace.wait(timeout_s)
        if part_id is not None:
            self._index += 1
        return part_id

    def fill(self, slot: Pixels) -> Exposure:
        if self._drawn:
            self._show_preloaded(slot, self._index % len(self._drawn))
        else:
            slot[: self.max_pixels] = self._draw(self._index).ravel()
        return Exposure(self._settings.rows, self._settings.cols, self._index)

    def _show_preloaded(self, slot: Pixels, number: int) -> None:
        held = self._held.get(id(slot))
        if held is None or held[1] != number:
            slot[: self.max_pixels] = self._drawn[number]
            self._held[id(slot)] = slot, number  # kept, so that the id stays its own

    def trigger(self, part_id: str) -> None:
        self._pace.trigger(part_id)

    def close(self) -> None:
        self._pace.close()
