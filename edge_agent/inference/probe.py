"""Shows a new engine a few pictures before a part depends on it: what gives NaN or no probabilities is refused here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from edge_agent.errors import ConfigurationError, UnbelievableMap
from edge_agent.inference.base import Segmenter, infer
from edge_agent.inference.believe import require_believable
from edge_agent.inference.model import Model
from edge_agent.records import Pixels

Explain = Callable[[Pixels], str]  # what the bare network gives for a picture, in words; '' where that tells nothing
_SAME = 1e-4  # peak logits nearer than this say that the picture made no difference
_WAIT_S = 60


def pictures(rows: int, cols: int) -> Iterator[tuple[str, Pixels]]:
    """Yield names and pictures that between them hold every gray level."""
    for name, level in (("black", 0), ("gray", 128), ("white", 255)):
        yield name, np.full((rows, cols), level, np.uint8)
    yield "noisy", np.random.default_rng(0).integers(0, 256, (rows, cols), dtype=np.uint8)


def probe(segmenter: Segmenter, model: Model, explain: Explain) -> list[str]:
    """Run the pictures; return what looks doubtful. Raises ConfigurationError for an answer that nobody could believe,
    EngineError where the engine gave none.

    Blocks for a few inferences; every slot must be free.
    """
    peaks, lowest, highest = [], 255, 0
    for name, picture in pictures(segmenter.rows, segmenter.cols):
        slot = infer(segmenter, picture, _WAIT_S)
        level = int(slot.maps.max())
        try:
            require_believable(slot, level)
        except UnbelievableMap as error:
            why = explain(picture) or f"its answer cannot be believed: {error}."
            remedy = "mend output.kind and input.scale, or export the network again."
            raise ConfigurationError([model.problem(f"{model.onnx.name} on a {name} picture: {why}", remedy)]) from None
        finally:
            segmenter.release(slot)
        peaks.append(float(slot.peak.item(0)))
        lowest, highest = min(lowest, int(slot.maps.min())), max(highest, level)
    return list(_doubts(model, peaks, lowest, highest))


def _doubts(model: Model, peaks: list[float], lowest: int, highest: int) -> Iterator[str]:
    papers = model.papers
    if max(peaks) - min(peaks) < _SAME:
        yield (
            f"a black, a gray, a white and a noisy picture have the same peak, {_percent(peaks[0])}: the network does not "
            "seem to see them. Is input.scale what it was trained with?"
        )
    if papers.output.kind == "logits" and papers.head == "sigmoid" and lowest >= 127 and max(peaks) <= 1.0 + _SAME:
        yield (
            f"every value is between 0 and 1, which makes maps of {lowest} to {highest} out of 255: they look like probabilities "
            "already. If they are, give output.kind: probability."
        )


def _percent(logit: float) -> str:
    return f"{100 / (1 + math.exp(-max(-80.0, min(80.0, logit)))):.4g} %"


def told(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], kind: str) -> str:
    """What is wrong with the values that a network gave, in words; '' where nothing is."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        return f"{bad} of {values.size} values are NaN or infinite: a weight is damaged, or the picture's values are too large."
    low, high = float(values.min()), float(values.max())
    if kind == "probability" and (low < -1e-3 or high > 1 + 1e-3):
        return f"its values go from {low:.3g} to {high:.3g}, so they are no probabilities; output.kind says so."
    return ""
