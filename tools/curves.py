"""Learning curves as a picture: the loss falls, the scores rise, and where they part the network learns by heart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

# One check: step, mean training loss since the last check, AUC, highest peak of a good frame and lowest of a defective one.
Point = tuple[int, float, float, float, float]


def draw_curves(points: list[Point], file: Path) -> None:
    """Writes the picture of all checks so far; the scores only where something is held out to score."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    is_judged = any(math.isfinite(point[2]) for point in points)
    figure = Figure(figsize=(10, 6 if is_judged else 3.5), layout="constrained")
    axes = figure.subplots(1 + is_judged, sharex=True, squeeze=False)[:, 0]
    steps, losses, *_ = zip(*points, strict=True)
    axes[0].plot(steps, losses, marker="o", label="loss on examples trained on")
    axes[0].set_ylabel("loss")
    if is_judged:
        _draw_scores(axes[1], points)
    else:
        axes[0].set_title("nothing held out: no scores", loc="right", fontsize=9)
    axes[-1].set_xlabel("training steps")
    for each in axes:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 5, "columnspacing": 1.2}  # where no curve runs
        each.legend(**above, frameon=False, fontsize=9)
        each.grid(alpha=0.3)
    figure.savefig(file, dpi=90)


def _draw_scores(axes: Any, points: list[Point]) -> None:
    """AUC, and both ends that a threshold must go between: green where there is room, red where they overlap."""
    steps, _, aucs, good, bad = (list(each) for each in zip(*points, strict=True))
    axes.plot(steps, aucs, marker="o", color="tab:blue", label="AUC on held-out frames")
    axes.plot(steps, bad, marker="v", color="tab:red", label="lowest defective frame")
    axes.plot(steps, good, marker="^", color="tab:green", label="highest good frame")
    for is_right, colour, words in ((True, "tab:green", "room for a threshold"), (False, "tab:red", "overlap")):
        where = [(low < high) is is_right for low, high in zip(good, bad, strict=True)]
        if any(where):
            axes.fill_between(steps, good, bad, where, interpolate=True, color=colour, alpha=0.15, label=words)
    axes.set_ylabel("held-out frames")
    axes.set_ylim(-0.02, 1.02)
