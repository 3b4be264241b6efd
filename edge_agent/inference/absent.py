"""The place of an engine that cannot be had yet: a line with it is up and not ready."""

from __future__ import annotations

import numpy as np

from edge_agent.errors import EngineError
from edge_agent.inference.base import Done, TensorSlot
from edge_agent.inference.graph import read_network
from edge_agent.inference.model import Model
from edge_agent.inference.slots import SlotPool
from edge_agent.records import Pixels


class AbsentSegmenter:
    """Has the model's sizes and fails every inference with `why`. Raises ConfigurationError for a model that none could run."""

    def __init__(self, model: Model, why: str) -> None:
        read_network(model)
        papers = model.papers
        self.rows, self.cols, self.classes = papers.input.rows, papers.input.cols, tuple(papers.classes)
        self.model_hash, self.engine_id, self.slots = model.hash, "absent", 1
        self.why = why
        shape = (len(self.classes), self.rows, self.cols)
        slot = TensorSlot(0, np.zeros((self.rows, self.cols), np.uint8), np.zeros(shape, np.uint8), np.full(1, np.nan, np.float32))
        pool = SlotPool([slot])
        self.lease, self.release, self.forgo = pool.lease, pool.release, pool.forgo

    def submit(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        """Raises EngineError."""
        del slot, source, done
        raise EngineError(self.why)

    def adopt(self, memory: Pixels) -> None:
        """Nothing."""

    def warm_up(self) -> float:
        """Raises EngineError."""
        raise EngineError(self.why)

    def close(self) -> None:
        """Nothing."""
