"""Where the words along upright lines stand, so that none is printed over another or over the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

_MIDDLE = 0.42  # of the axes' height: below most legends, above most curves
_STEPS = 50
_GAP_PX = 5.0


@dataclass(frozen=True, slots=True)
class Box:
    """A place in pixels."""

    left: float
    low: float
    right: float
    high: float

    def over(self, other: Box) -> float:
        """How many square pixels both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return max(0.0, width) * max(0.0, height)

    def moved(self, right: float, up: float) -> Box:
        return Box(self.left + right, self.low + up, self.right + right, self.high + up)


def stagger(axes: Axes, texts: Sequence[Text]) -> None:
    """The texts stand on their lines as near to the middle as the earlier ones and the legend leave room. The axes must have their
    last size."""
    room = _box(axes)
    legend = axes.get_legend()
    found = places([_box(text) for text in texts], room, [] if legend is None else [_box(legend)])
    to_axes = axes.transAxes.inverted()
    for text, box in zip(texts, found, strict=True):
        middle = to_axes.transform(((box.left + box.right) / 2, (box.low + box.high) / 2))
        text.set_transform(axes.transAxes)
        text.set_position((float(middle[0]), float(middle[1])))


def places(boxes: Sequence[Box], room: Box, taken: Sequence[Box]) -> list[Box]:
    """Each box moved up or down in the room to where it covers none before it and nothing taken; where no height is free, to beside
    its line."""
    found: list[Box] = []
    for box in boxes:
        width, height = box.right - box.left + _GAP_PX, box.high - box.low
        span = max(0.0, room.high - room.low - height)
        lows = [room.low + span * step / _STEPS for step in range(_STEPS + 1)]
        middle = room.low + _MIDDLE * (room.high - room.low) - height / 2
        tried = [(abs(aside), abs(low - middle), box.moved(aside, low - box.low)) for aside in (0, width, -width) for low in lows]
        others = [*taken, *found]
        found.append(min(tried, key=lambda each: (_cover(each[2], others), each[0], each[1]))[2])
    return found


def _cover(box: Box, others: Sequence[Box]) -> float:
    wider = Box(box.left - _GAP_PX, box.low - _GAP_PX, box.right + _GAP_PX, box.high + _GAP_PX)
    return sum(wider.over(each) for each in others)


def _box(artist: Artist) -> Box:
    found = artist.get_window_extent()
    return Box(found.x0, found.y0, found.x1, found.y1)
