"""Learning curves as a picture: the loss falls, the scores rise, and where they part the network learns by heart."""

from __future__ import annotations

from pathlib import Path

# One check: step, mean training loss since the last check, AUC, highest peak of a good frame and lowest of a defective one.
Point = tuple[int, float, float, float, float]


def draw_curves(points: list[Point], file: Path) -> None:
    """Writes the picture of all checks so far."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    steps, losses, aucs, good, bad = zip(*points, strict=True)
    figure = Figure(figsize=(9, 6), layout="constrained")
    loss_axes, score_axes = figure.subplots(2, sharex=True)
    loss_axes.plot(steps, losses, marker="o", label="loss on examples trained on")
    loss_axes.set_ylabel("loss")
    score_axes.plot(steps, aucs, marker="o", label="AUC on held-out frames")
    score_axes.fill_between(steps, good, bad, alpha=0.2, label="between the worst good and the best hidden defective frame")
    score_axes.set_ylim(0, 1.02)
    score_axes.set_xlabel("training steps")
    for axes in (loss_axes, score_axes):
        axes.legend(loc="best")
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=90)
