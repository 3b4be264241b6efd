"""What was measured on one part: the noun between measurement and judgement."""

from __future__ import annotations

import msgspec

from edge_agent.records import Blob

_NOISE = 1e-9  # of floats, as a share


class ZoneMeasure(msgspec.Struct, frozen=True):
    """What lies in one zone: how many blobs touch it and how many frame pixels of them lie inside."""

    blobs: int
    area_px: float


class Measured(msgspec.Struct, frozen=True):
    """Blobs in frame coordinates; areas in frame pixels; peaks as probabilities 0..1, per class whether blob or not.

    `count` and `area_px` are of all blobs, also of those beyond the most that `blobs` keeps. `zones` is keyed by
    (zone name, class name).
    """

    blobs: tuple[Blob, ...]
    count: dict[str, int]
    area_px: dict[str, float]
    peak: dict[str, float]
    zones: dict[tuple[str, str], ZoneMeasure]
    inspected_px: float

    @property
    def is_clean(self) -> bool:
        """True where nothing counts as a defect; an area that is no number is not clean."""
        return not (self.blobs or any(self.count.values()) or any(self.area_px.values()))


def merge(parts: list[Measured]) -> Measured:
    """Join what was measured in several regions of one part."""
    if len(parts) == 1:
        return parts[0]
    zones: dict[tuple[str, str], ZoneMeasure] = {}
    for part in parts:
        for key, zone in part.zones.items():
            before = zones.get(key, ZoneMeasure(0, 0.0))
            zones[key] = ZoneMeasure(before.blobs + zone.blobs, before.area_px + zone.area_px)
    names = parts[0].count.keys()
    return Measured(
        blobs=tuple(blob for part in parts for blob in part.blobs),
        count={name: sum(part.count[name] for part in parts) for name in names},
        area_px={name: sum(part.area_px[name] for part in parts) for name in names},
        peak={name: max(part.peak[name] for part in parts) for name in names},
        zones=zones,
        inspected_px=sum(part.inspected_px for part in parts),
    )


def least_px(min_px: float, min_mm2: float, mm_per_px: float | None) -> float:
    """Frame pixels from which a blob counts by both minima. Less the noise of floats: one of just 0.0027 mm² is not below that."""
    return max(min_px, min_mm2 / mm_per_px**2 if mm_per_px else 0.0) * (1 - _NOISE)
