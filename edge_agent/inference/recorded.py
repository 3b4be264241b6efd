"""Plays back stored maps in turn: for replaying decisions, and for measuring everything around the network."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from edge_agent.errors import ConfigurationError
from edge_agent.inference.base import Done, TensorSlot
from edge_agent.inference.believe import logit_of
from edge_agent.inference.model import Model
from edge_agent.inference.slots import SlotPool
from edge_agent.records import Pixels

_SLOTS = 4


class RecordedSegmenter:
    """Shows the n-th submission map number order[n] of `path` (maps, classes, rows, cols) uint8, whatever the picture is.

    After the last it begins anew. Raises ConfigurationError for files that do not hold what the model's papers say."""

    def __init__(self, path: Path, order: Path | None, model: Model) -> None:
        try:
            maps = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"engine.path: {path} is no readable .npy file: {error}") from None
        papers = model.papers
        expected = (len(papers.classes), papers.input.rows, papers.input.cols)
        if maps.dtype != np.uint8 or maps.shape[1:] != expected or not len(maps):
            raise ConfigurationError(
                f"engine.path: {path} holds {maps.dtype} {maps.shape}, the model {papers.name} needs uint8 (maps, "
                f"{', '.join(map(str, expected))}). Record the maps with this model."
            )
        self.rows, self.cols, self.classes = papers.input.rows, papers.input.cols, tuple(papers.classes)
        self.model_hash = model.hash
        self.engine_id = "recorded"
        self.slots = _SLOTS
        self._maps = [np.asarray(each) for each in maps]  # views: the file stays where it is
        self._peaks = [logit_of(int(each.max())) for each in self._maps]
        self._order = _order_of(order, len(self._maps))
        self._next = 0
        self._lock = threading.Lock()
        pool = SlotPool(
            TensorSlot(index, np.zeros((self.rows, self.cols), np.uint8), np.zeros(expected, np.uint8), np.zeros(1, np.float32))
            for index in range(_SLOTS)
        )
        self.lease, self.release, self.forgo = pool.lease, pool.release, pool.forgo

    def submit(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        """Show the next map in the slot and call `done` at once, on the caller's thread. `source` is not looked at."""
        del source
        with self._lock:
            index = self._order[self._next]
            self._next = (self._next + 1) % len(self._order)
        slot.maps = self._maps[index]
        slot.peak[0] = self._peaks[index]
        slot.done_ns = time.monotonic_ns()
        done(slot)

    def adopt(self, memory: Pixels) -> None:
        """Nothing: any memory serves."""

    def warm_up(self) -> float:
        return 0.0

    def close(self) -> None:
        """Nothing is held but memory."""


def _order_of(path: Path | None, maps: int) -> list[int]:
    """Which map each submission gets. Raises ConfigurationError for numbers that are none of a map."""
    if path is None:
        return list(range(maps))
    try:
        order = np.load(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"engine.order: {path} is no readable .npy file: {error}") from None
    if order.ndim != 1 or order.dtype.kind not in "iu" or not order.size or order.min() < 0 or order.max() >= maps:
        raise ConfigurationError(
            f"engine.order: {path} holds {order.dtype} {order.shape}; it needs (parts,) integers from 0 to {maps - 1}."
        )
    return [int(index) for index in order]
