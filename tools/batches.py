"""Batches without end, on the device that learns from them; ahead of a GPU the next one is drawn while it works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from augment import Sampler
from loss import to_cells
from torch import Tensor

Batch = tuple[Tensor, Tensor]


def drawn(sampler: Sampler, size: int, cell_px: int, device: str) -> Iterator[Batch]:
    """Frames (size, 1, rows, cols) uint8 and the classes of their cells (size, rows / cell_px, cols / cell_px) int64."""
    while True:
        frames, masks = sampler.batch(size)
        yield frames.to(device), to_cells(masks, cell_px).to(device)


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same in the same order: while one is used, the next is drawn in a thread."""
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch
