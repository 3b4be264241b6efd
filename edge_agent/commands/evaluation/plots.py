"""The evaluation in plots, for people: PNG files by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.commands.evaluation.figures import FINE, Figures
from edge_agent.commands.evaluation.labels import stagger
from edge_agent.errors import EdgeAgentError
from edge_agent.qualification.rates import Counts, Rate, count, rate
from edge_agent.typewords import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SLIP, _REJECT, _GOOD, _RECIPE, _PICKED = "#d62728", "#1f77b4", "#2ca02c", "#333333", "#8a2be2"
_DPI = 110
_LEAST_SPAN = 10.0  # per cent: less would make one part in a thousand look like a cliff
_LEAST_BAR = 0.5  # where the bars of scores.png begin, on a scale that has no zero: a single image has a bar, too
_NEAR = (0.15, 0.06)  # of the axes' width and height: numbers of places nearer to each other would run together
_ON_WHITE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
_NAME = "class"  # marks the texts that `stagger` is to place
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """Thresholds that are shown in every plot, the recipe's or those picked, with what they give."""

    word: str
    thresholds: Mapping[str, float]
    counts: Counts
    colour: str
    marker: str
    line: str

    @property
    def classes(self) -> dict[float, str]:
        """Each threshold once, with the names of its classes."""
        names: dict[float, list[str]] = {}
        for name, threshold in self.thresholds.items():
            names.setdefault(threshold, []).append(name)
        return {threshold: ", ".join(names[threshold]) for threshold in sorted(names)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches. Raises EdgeAgentError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EdgeAgentError("plots need matplotlib. Install it: pip install 'edge-agent[evaluate]'") from None
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def write_plots(
    out: Path, figures: Figures, name: str, thresholds: Mapping[str, float], picked: Mapping[str, Any] | None, caution: str
) -> None:
    """Write threshold.png, precision_recall.png and scores.png, with the recipe's thresholds, those picked (`pick` of
    evaluation.json) and, in red, a caution below."""
    counts = [figures.at(threshold) for threshold in FINE]
    stands = count(figures.is_defective, figures.is_ng)
    marks = [Mark("the recipe as it stands", thresholds, stands, _RECIPE, "*", "-")]
    if picked is not None and "thresholds" in picked:
        gives = Counts(*(picked[key] for key in ("tp", "tn", "fp", "fn")))
        marks.append(Mark(f"picked for {picked['condition']}", picked["thresholds"], gives, _PICKED, "D", "-."))
    for file, figure in {
        "threshold.png": _threshold(figures, counts, marks, name),
        "precision_recall.png": _precision_recall(counts, marks, name),
        "scores.png": _scores(figures, name, marks),
    }.items():
        if caution:
            figure.supxlabel(caution, color=_SLIP, fontsize=11, fontweight="bold")
        figure.draw_without_rendering()  # until then nothing has its place and size
        for axes in figure.axes:
            stagger(axes, [text for text in axes.texts if text.get_gid() == _NAME])
        figure.savefig(out / file)


def _threshold(figures: Figures, counts: Sequence[Counts], marks: Sequence[Mark], name: str) -> Figure:
    figure = new_figure(13, 5.4)
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"What a threshold costs: {name}, {counted(len(figures.rows), 'image')}", fontsize=14)
    _over_threshold(left, figures, counts, marks)
    _against_each_other(right, figures, counts, marks)
    return figure


def _over_threshold(axes: Axes, figures: Figures, counts: Sequence[Counts], marks: Sequence[Mark]) -> None:
    for label, colour, is_slip in (
        ("defective parts that pass (slips)", _SLIP, True),
        ("good parts rejected (false rejects)", _REJECT, False),
    ):
        rates = [_error(each, is_slip) for each in counts]
        lows, highs = [100 * each.low for each in rates], [100 * each.high for each in rates]
        axes.plot(FINE, [_percent(each.share) for each in rates], color=colour, label=label, linewidth=2)
        axes.fill_between(FINE, lows, highs, color=colour, alpha=0.13, linewidth=0)
        shares = [_percent(_error(figures.of_candidate(index), is_slip).share) for index in range(len(figures.candidates))]
        axes.plot([each.threshold for each in figures.candidates], shares, color=_RECIPE, linestyle=(0, (3, 3)), linewidth=1.2)
    axes.plot([], [], color=_RECIPE, linestyle=(0, (3, 3)), linewidth=1.2, label="each with the recipe's other rules")
    axes.fill_between([], [], [], color=_RECIPE, alpha=0.13, label="95 % bounds")
    _lines(axes, marks)
    axes.set(xlabel="threshold: how probable a pixel must be", ylabel="share of these parts, %", xlim=(0, 1), ylim=(0, None))
    axes.set_title("A lower threshold rejects more, a higher one lets more through", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)


def _lines(axes: Axes, marks: Sequence[Mark]) -> None:
    """Upright lines at the thresholds, with the names of their classes where these differ."""
    for mark in marks:
        classes = mark.classes
        told = f"{mark.word}: {next(iter(classes)):g}" if len(classes) == 1 else f"{mark.word}, by class"
        for number, (threshold, names) in enumerate(classes.items()):
            axes.axvline(threshold, color=mark.colour, linestyle=mark.line, linewidth=1.4, label="" if number else told)
            if len(classes) > 1:
                words: dict[str, Any] = {
                    "rotation": 90,
                    "ha": "center",
                    "va": "center",
                    "fontsize": 8,
                    "bbox": _ON_WHITE,
                    "color": mark.colour,
                    "gid": _NAME,
                }
                axes.text(threshold, 0.5, f"{names} {threshold:g}", transform=axes.get_xaxis_transform(), **words)


def _error(counts: Counts, is_slip: bool) -> Rate:
    return rate(counts.fn, counts.fn + counts.tp) if is_slip else rate(counts.fp, counts.fp + counts.tn)


def _against_each_other(axes: Axes, figures: Figures, counts: Sequence[Counts], marks: Sequence[Mark]) -> None:
    def place(each: Counts) -> Place:
        return _percent(each.fp_rate), _percent(each.slip)

    _curve(axes, [place(each) for each in counts], _SLIP)
    of_recipe = [place(figures.of_candidate(index)) for index in range(len(figures.candidates))]
    axes.plot(
        *np.array(of_recipe).reshape(-1, 2).T, color=_RECIPE, linestyle="--", linewidth=1.4, label="with the recipe's other rules"
    )
    for mark in marks:
        _place(axes, place(mark.counts), mark)
    axes.set(xlabel="good parts rejected, %", ylabel="defective parts that pass, %")
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        highest = max(_LEAST_SPAN, limits[1])
        set_limits(-0.03 * highest, highest)
    _numbers(axes, [place(each) for each in counts], _SLIP, to_upper_right=True)
    axes.set_title("One error against the other: the nearer to the lower left, the better", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=9)


def _precision_recall(counts: Sequence[Counts], marks: Sequence[Mark], name: str) -> Figure:
    def place(each: Counts) -> Place:
        return _percent(each.recall), _percent(each.precision)

    figure = new_figure(7, 5.6)
    axes = figure.subplots()
    _curve(axes, [place(each) for each in counts], _REJECT)
    for mark in marks:
        _place(axes, place(mark.counts), mark)
    axes.set(xlabel="recall: defective parts that are rejected, %", ylabel="precision: rejected parts that are defective, %")
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        lowest = max(0.0, min(100 - _LEAST_SPAN, limits[0]))
        set_limits(lowest, 100 + 0.03 * (100 - lowest))
    _numbers(axes, [place(each) for each in counts], _REJECT, to_upper_right=False)
    axes.set_title(f"Precision against recall: {name}", fontsize=13)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=9)
    return figure


def _curve(axes: Axes, places: Sequence[Place], colour: str) -> None:
    axes.plot(*np.array(places).T, color=colour, linewidth=2, label="any pixel reaches the threshold (numbers)")


def _place(axes: Axes, place: Place, mark: Mark) -> None:
    style: dict[str, Any] = {
        "markersize": 12,
        "markeredgecolor": "white",
        "zorder": 5 if mark.marker == "*" else 4,
    }  # a star fits on a diamond
    axes.plot(*place, mark.marker, color=mark.colour, label=mark.word, **style)


def _numbers(axes: Axes, places: Sequence[Place], colour: str, to_upper_right: bool) -> None:
    """The number of every other tenth beside its place on the curve, on the side where the curve is not; places near each other
    share one. The axes must have their limits."""
    tenths = [(threshold, place) for threshold, place in zip(FINE, places, strict=True) if round(threshold * 100) % 20 == 10]
    for _, place in tenths:
        axes.plot(*place, "o", color=colour, markersize=4)
    groups: list[list[tuple[float, Place]]] = []
    for threshold, place in tenths:
        if np.isnan(place).any():
            continue
        if groups and _is_near(axes, groups[-1][0][1], place):
            groups[-1].append((threshold, place))
        else:
            groups.append([(threshold, place)])
    for group in groups:
        first, last = group[0][0], group[-1][0]
        middle = group[len(group) // 2][1]
        _beside(axes, f"{first:.1f}" if first == last else f"{first:.1f} to {last:.1f}", middle, colour, to_upper_right)


def _beside(axes: Axes, text: str, place: Place, colour: str, to_upper_right: bool) -> None:
    """A text on white beside a place, turned back where it would leave the axes."""
    right, up = _share(axes, place)
    is_right = (to_upper_right and right < 0.85) or right < 0.15
    is_above = (to_upper_right and up < 0.92) or up < 0.08
    axes.annotate(
        text,
        place,
        xytext=(9 if is_right else -9, 8 if is_above else -8),
        textcoords="offset points",
        ha="left" if is_right else "right",
        va="bottom" if is_above else "top",
        fontsize=9,
        color=colour,
        bbox=_ON_WHITE,
        zorder=3,
    )


def _share(axes: Axes, place: Place) -> Place:
    """Where a place lies in the axes, 0 to 1 from the lower left."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return (place[0] - left) / (right - left), (place[1] - low) / (high - low)


def _is_near(axes: Axes, one: Place, other: Place) -> bool:
    return bool((np.abs(np.subtract(_share(axes, one), _share(axes, other))) < _NEAR).all())


def _scores(figures: Figures, name: str, marks: Sequence[Mark]) -> Figure:
    figure = new_figure(8.5, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(f"How good and defective parts score: {name}", fontsize=13)
    edges = np.linspace(0, 1, 41)
    for axes, is_defective, colour, word in ((upper, False, _GOOD, "good parts"), (lower, True, _SLIP, "defective parts")):
        scores = figures.scores[figures.is_defective == is_defective]
        axes.set_yscale("log", subs=[])  # one false reject is seen beside hundreds of good parts
        axes.set_ylim(_LEAST_BAR, max(10, 2 * len(scores)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.hist(scores, edges, color=colour, alpha=0.8)
        _lines(axes, marks)
        axes.set_ylabel("images")
        axes.set_title(f"{counted(len(scores), 'image')} of {word}", fontsize=11, loc="left")
        axes.grid(alpha=0.3)
    upper.legend(loc="upper center", fontsize=9)
    lower.set(xlabel="score: the highest probability of a defect in the image", xlim=(0, 1))
    return figure


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share
