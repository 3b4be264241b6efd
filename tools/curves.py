"""Learning curves as a picture: the loss falls, the scores rise, and where they part the network learns by heart."""

from __future__ import annotations

from pathlib import Path

from scores import Scores


class Curves:
    """Draws FILE anew after every validation."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._aucs: list[float] = []
        self._ends: list[tuple[float, float]] = []

    def add(self, step: int, loss: float, scores: Scores) -> None:
        """One more check: the mean training loss since the last, and the scores."""
        import matplotlib
        from matplotlib.figure import Figure

        matplotlib.use("Agg")
        self._steps.append(step)
        self._losses.append(loss)
        self._aucs.append(scores.auc)
        self._ends.append((scores.highest_good, scores.lowest_bad))
        figure = Figure(figsize=(9, 6), layout="constrained")
        loss_axes, score_axes = figure.subplots(2, sharex=True)
        loss_axes.plot(self._steps, self._losses, marker="o", label="loss on examples trained on")
        loss_axes.set_ylabel("loss")
        score_axes.plot(self._steps, self._aucs, marker="o", label="AUC on held-out frames")
        good, bad = zip(*self._ends, strict=True)
        score_axes.fill_between(
            self._steps, good, bad, alpha=0.2, label="between the worst good and the best hidden defective frame"
        )
        score_axes.set_ylim(0, 1.02)
        score_axes.set_xlabel("training steps")
        for axes in (loss_axes, score_axes):
            axes.legend(loc="best")
            axes.grid(alpha=0.3)
        figure.savefig(self._file, dpi=90)
