"""Makes a line's threads and what they are connected to: the publisher, the evidence, a joiner where the line has views, and the
master parts that challenge it."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.bundle import Bundle, Inspection
from edge_agent.camera.base import Camera
from edge_agent.evidence import EvidencePicker
from edge_agent.joiner import Joiner
from edge_agent.line import Line, Observe
from edge_agent.masters import open_challenge
from edge_agent.plc.counters import LineCounters
from edge_agent.plc.parts import LineBook
from edge_agent.plc.publisher import Publisher
from edge_agent.records import Judgement
from edge_agent.settings import LineSettings, Station
from edge_agent.triggers import Budget, Registrar
from edge_agent.uplink.encoding import EvidenceWorker

_PICTURES_OF_A_VIEW = 1000  # numbers of a part's pictures are this far apart from view to view


class Wiring:
    """Makes the lines of one station, which end after `parts` parts in all, 0 for never. `observe` sees what they judge;
    without `evidence` no picture is kept. `joiners` are those of the lines made so far, `sources` ask what opens
    parts beside the cameras to stop."""

    def __init__(
        self, station: Station, publisher: Publisher, evidence: EvidenceWorker | None, parts: int, observe: Observe | None
    ) -> None:
        self._station, self._publisher, self._evidence = station, publisher, evidence
        self._parts, self._budget, self._observe = parts, Budget(parts), observe
        self.joiners: list[Joiner] = []
        self.sources: list[Callable[[], None]] = []

    def line(
        self, settings: LineSettings, bundles: dict[str, Bundle], cameras: dict[str, Camera], counters: LineCounters
    ) -> list[Line]:
        """The threads of a line, not started: one pair, or one for each of its views, whose judgements a joiner makes one of.
        `bundles` are by view, `cameras` by their own name."""
        views = self._views(settings, bundles, cameras)
        pictures = open_challenge(settings, views[0], self._publisher, counters, self._station.base)
        if pictures is not None:
            self.sources.append(pictures.ask_to_stop)
        return views

    def _views(self, settings: LineSettings, bundles: dict[str, Bundle], cameras: dict[str, Camera]) -> list[Line]:
        book = self._publisher.book.lines[settings.name]
        if not settings.views:
            return [self._view(book, settings, bundles[settings.name], cameras[str(settings.camera)], self._publisher, 0)]
        joiner = Joiner(book, self._publisher, tuple(bundles), settings.join_window_ms / 1000)
        self.joiners.append(joiner)
        lines = []
        for number, view in enumerate(settings.views):
            seen, first = joiner.views[view.name], number * _PICTURES_OF_A_VIEW
            lines.append(self._view(seen.book, settings, bundles[view.name], cameras[view.camera], seen, first))
        return lines

    def _view(
        self, book: LineBook, settings: LineSettings, bundle: Bundle, camera: Camera, publisher: Registrar, first_picture: int
    ) -> Line:
        observe = self._observe
        evidence = self._evidence
        picker = None if evidence is None else EvidencePicker(self._station.settings.station, evidence, first_picture)

        def hand_over(inspection: Inspection, judgement: Judgement) -> None:
            if picker is not None:
                picker.pick(inspection, judgement)
            if observe is not None:
                observe(inspection, judgement)

        budget = Budget(self._parts) if settings.views else self._budget  # of several views each sees every part
        return Line(book, camera, settings, bundle, publisher, hand_over, budget)
