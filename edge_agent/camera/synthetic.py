"""Draws textured surfaces with known defects. The truth of part n follows from (seed, n): whoever knows the seed knows it."""

from __future__ import annotations

from edge_agent.camera.base import Exposure
from edge_agent.camera.pull import PullCamera
from edge_agent.camera.texture import draw_part
from edge_agent.camera_settings import SyntheticCamera as SyntheticSettings
from edge_agent.records import Pixels


class SyntheticCamera(PullCamera):
    """Part n (from 0) is drawn from (seed, n); with `preload` the first that many are drawn at open and shown in turn.

    A slot that still holds the preloaded picture is left alone: like a camera that writes by itself, this one then takes
    no time of the processor's."""

    def __init__(self, settings: SyntheticSettings) -> None:
        super().__init__(settings.name, settings.rows * settings.cols, settings.rate_hz, settings.trigger)
        self._settings = settings
        self._index = -1
        self._drawn: list[Pixels] = []
        self._held: dict[int, int] = {}  # by slot: the preloaded picture in it

    def open(self) -> None:
        self._held.clear()
        if not self._drawn:
            self._drawn = [self._draw(index).ravel() for index in range(self._settings.preload)]

    def _draw(self, index: int) -> Pixels:
        s = self._settings
        drawn = draw_part(s.seed, index, s.rows, s.cols, defect_share=s.defect_share, empty_share=s.empty_share)
        return drawn.pixels

    def _advance(self, part_id: str) -> str:
        self._index += 1
        return part_id

    def _fill(self, slot: int, memory: Pixels) -> Exposure:
        if self._drawn:
            self._show_preloaded(slot, memory, self._index % len(self._drawn))
        else:
            memory[: self.max_pixels] = self._draw(self._index).ravel()
        return Exposure(self._settings.rows, self._settings.cols, self._index)

    def _show_preloaded(self, slot: int, memory: Pixels, number: int) -> None:
        if self._held.get(slot) != number:
            memory[: self.max_pixels] = self._drawn[number]
            self._held[slot] = number
