"""The plot of a calibration: every golden image's score margin, FP32's against the candidate's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edge_agent.commands.evaluation.plots import new_figure
from edge_agent.qualification.gate import Case

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {True: ("#d62728", "labelled defective"), False: ("#2ca02c", "labelled good"), None: ("#1f77b4", "no label")}
_ROOM = 0.5


def margins_png(cases: Mapping[str, Sequence[Case]], reference: str) -> bytes:
    """One panel for each candidate, as the bytes of a PNG."""
    names = [name for name in cases if name != reference]
    known = [each.margin for side in cases.values() for each in side if each.margin is not None]
    low, high = min(known, default=-1.0) - _ROOM, max(known, default=1.0) + _ROOM
    figure = new_figure(3.9 * len(names) + 0.3, 4.3)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, cases[reference], cases[name], name, (low, high))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _panel(axes: Axes, reference: Sequence[Case], candidate: Sequence[Case], name: str, span: tuple[float, float]) -> None:
    axes.axhline(0, color="#bbbbbb", linewidth=1)
    axes.axvline(0, color="#bbbbbb", linewidth=1)
    axes.plot(span, span, color="#999999", linewidth=1, linestyle="--")
    pairs = [(old, new) for old, new in zip(reference, candidate, strict=True) if None not in (old.margin, new.margin)]
    for truth, (colour, label) in _COLOURS.items():
        points = [(old.margin, new.margin) for old, new in pairs if old.is_defective is truth]
        if points:
            axes.plot(*zip(*points, strict=True), ".", color=colour, markersize=5, alpha=0.6, label=label)
    flipped = [(old.margin, new.margin) for old, new in pairs if old.outcome != new.outcome]
    if flipped:
        axes.plot(*zip(*flipped, strict=True), "o", color="red", markersize=10, fillstyle="none", label="verdict flipped")
    axes.set(xlim=span, ylim=span, xlabel="FP32: below / beyond the threshold", ylabel=name, title=name, aspect="equal")
    axes.legend(fontsize=8, loc="upper left")
