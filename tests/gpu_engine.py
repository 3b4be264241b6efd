"""A TensorRT engine on the GPU of `fake_gpu.py`, and one inference by it."""

from __future__ import annotations

import queue

import numpy as np
from bright import CENTRE, SLOPE
from fake_tensorrt import plan_of

from edge_agent.inference.base import TensorSlot
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt.api import load_library
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.settings import TensorRtEngine

ROWS = COLS = 64
QUIET = TensorRtEngine(slots=3, keep_warm_ms=0)


def start(model: Model, settings: TensorRtEngine = QUIET, plan: bytes = plan_of(1, ROWS, COLS)) -> TensorRtSegmenter:
    return TensorRtSegmenter(Gpu(settings.device), load_library(settings.library), plan, model, settings, "test")


def infer(engine: TensorRtSegmenter, source: np.ndarray | None = None, level: int = 0) -> TensorSlot:
    """One inference of `source`, or of the slot's own tensor filled with `level`; the slot is still leased."""
    slot = engine.lease()
    assert slot is not None
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    if source is None:
        slot.tensor[:] = level
    engine.submit(slot, slot.tensor if source is None else source, done.put)
    assert done.get(timeout=10) is slot
    return slot


def expected(level: int) -> int:
    return round(255 / (1 + np.exp(-(level - CENTRE) * SLOPE)))


def leased(engine: TensorRtSegmenter) -> list[TensorSlot]:
    slots = []
    while (slot := engine.lease()) is not None:
        slots.append(slot)
    for slot in slots:
        engine.release(slot)
    return slots
