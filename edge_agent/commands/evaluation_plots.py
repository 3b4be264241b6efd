"""The evaluation in plots, for people: PNG files by matplotlib."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.commands.evaluation_figures import FINE, Figures
from edge_agent.errors import EdgeAgentError
from edge_agent.qualification.rates import Counts, Rate, count, rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SLIP, _REJECT, _GOOD, _RECIPE = "#d62728", "#1f77b4", "#2ca02c", "#333333"
_DPI = 110
_LEAST_SPAN = 10.0  # per cent: less would make one part in a thousand look like a cliff
Place = tuple[float, float]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches. Raises EdgeAgentError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EdgeAgentError("plots need matplotlib. Install it: pip install 'edge-agent[evaluate]'") from None
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def write_plots(out: Path, figures: Figures, name: str, thresholds: Collection[float], caution: str) -> None:
    """Write threshold.png, precision_recall.png and scores.png, with the recipe's thresholds and, in red, a caution below."""
    counts = [figures.at(threshold) for threshold in FINE]
    stands = count(figures.is_defective, figures.is_ng)
    for file, figure in {
        "threshold.png": _threshold(figures, counts, stands, name),
        "precision_recall.png": _precision_recall(counts, stands, name),
        "scores.png": _scores(figures, name, thresholds),
    }.items():
        if caution:
            figure.supxlabel(caution, color=_SLIP, fontsize=11, fontweight="bold")
        figure.savefig(out / file)


def _threshold(figures: Figures, counts: Sequence[Counts], stands: Counts, name: str) -> Figure:
    figure = new_figure(13, 5.4)
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"What a threshold costs: {name}, {len(figures.rows)} images", fontsize=14)
    _over_threshold(left, figures, counts)
    _against_each_other(right, figures, counts, stands)
    return figure


def _over_threshold(axes: Axes, figures: Figures, counts: Sequence[Counts]) -> None:
    for label, colour, is_slip in (
        ("defective parts that pass (slips)", _SLIP, True),
        ("good parts rejected (false rejects)", _REJECT, False),
    ):
        rates = [_error(each, is_slip) for each in counts]
        lows, highs = [100 * each.low for each in rates], [100 * each.high for each in rates]
        axes.plot(FINE, [_percent(each.share) for each in rates], color=colour, label=label, linewidth=2)
        axes.fill_between(FINE, lows, highs, color=colour, alpha=0.13, linewidth=0)
        shares = [_percent(_error(figures.of_candidate(index), is_slip).share) for index in range(len(figures.candidates))]
        axes.plot([each.threshold for each in figures.candidates], shares, color=colour, linestyle="--", linewidth=1.4)
    axes.plot([], [], color=_RECIPE, linestyle="--", linewidth=1.4, label="the same, with the recipe's other rules")
    axes.fill_between([], [], [], color=_RECIPE, alpha=0.13, label="95 % bounds")
    axes.set(xlabel="threshold: how probable a pixel must be", ylabel="share of these parts, %", xlim=(0, 1), ylim=(0, None))
    axes.set_title("A lower threshold rejects more, a higher one lets more through", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)


def _error(counts: Counts, is_slip: bool) -> Rate:
    return rate(counts.fn, counts.fn + counts.tp) if is_slip else rate(counts.fp, counts.fp + counts.tn)


def _against_each_other(axes: Axes, figures: Figures, counts: Sequence[Counts], stands: Counts) -> None:
    def place(each: Counts) -> Place:
        return _percent(each.fp_rate), _percent(each.slip)

    _curve(axes, [place(each) for each in counts], _SLIP)
    of_recipe = [place(figures.of_candidate(index)) for index in range(len(figures.candidates))]
    axes.plot(
        *np.array(of_recipe).reshape(-1, 2).T, color=_RECIPE, linestyle="--", linewidth=1.4, label="with the recipe's other rules"
    )
    axes.plot(*place(stands), "*", color=_RECIPE, markersize=15, label="the recipe as it stands")
    axes.set(xlabel="good parts rejected, %", ylabel="defective parts that pass, %")
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        highest = max(_LEAST_SPAN, limits[1])
        set_limits(-0.03 * highest, highest)
    axes.set_title("One error against the other: the nearer to the lower left, the better", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=9)


def _precision_recall(counts: Sequence[Counts], stands: Counts, name: str) -> Figure:
    figure = new_figure(7, 5.6)
    axes = figure.subplots()
    _curve(axes, [(_percent(each.recall), _percent(each.precision)) for each in counts], _REJECT, is_below=True)
    place = (_percent(stands.recall), _percent(stands.precision))
    axes.plot(*place, "*", color=_RECIPE, markersize=16, label="the recipe as it stands")
    axes.set(xlabel="recall: defective parts that are rejected, %", ylabel="precision: rejected parts that are defective, %")
    for limits, set_limits in ((axes.get_xlim(), axes.set_xlim), (axes.get_ylim(), axes.set_ylim)):
        lowest = max(0.0, min(100 - _LEAST_SPAN, limits[0]))
        set_limits(lowest, 100 + 0.03 * (100 - lowest))
    axes.set_title(f"Precision against recall: {name}", fontsize=13)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=9)
    return figure


def _curve(axes: Axes, places: Sequence[Place], colour: str, is_below: bool = False) -> None:
    """A curve over the thresholds, with the number beside every other tenth; equal places share one label."""
    axes.plot(*np.array(places).T, color=colour, linewidth=2, label="any pixel reaches the threshold (numbers)")
    labels: dict[Place, list[str]] = {}
    for threshold, place in zip(FINE, places, strict=True):
        if round(threshold * 100) % 20 == 10 and not any(np.isnan(place)):
            labels.setdefault(place, []).append(f"{threshold:.1f}")
    for place, names in labels.items():
        axes.plot(*place, "o", color=colour, markersize=4)
        where = {"xytext": (4, -6), "rotation": -40, "va": "top"} if is_below else {"xytext": (7, 6)}
        axes.annotate(", ".join(names), place, textcoords="offset points", fontsize=9, color=colour, **where)


def _scores(figures: Figures, name: str, thresholds: Collection[float]) -> Figure:
    figure = new_figure(8.5, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.suptitle(f"How good and defective parts score: {name}", fontsize=13)
    edges = np.linspace(0, 1, 41)
    for axes, is_defective, colour, word in ((upper, False, _GOOD, "good parts"), (lower, True, _SLIP, "defective parts")):
        scores = figures.scores[figures.is_defective == is_defective]
        axes.hist(scores, edges, color=colour, alpha=0.8)
        for threshold in sorted(set(thresholds)):
            axes.axvline(threshold, color=_RECIPE, linestyle="--", linewidth=1.4, label=f"the recipe's threshold, {threshold:g}")
        axes.legend(loc="upper center", fontsize=9)
        axes.set_ylabel("images")
        axes.set_title(f"{len(scores)} images of {word}", fontsize=11, loc="left")
        axes.grid(alpha=0.3)
        axes.yaxis.get_major_locator().set_params(integer=True)
    lower.set(xlabel="score: the highest probability of a defect in the image", xlim=(0, 1))
    return figure


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share
