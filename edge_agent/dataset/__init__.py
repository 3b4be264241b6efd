"""Labelled images from a folder, for training and evaluation. No torch, no engine; runs on the caller's thread.

In: a folder in one of three layouts. Out: `Dataset`, a tuple of `Labelled`; `load` reads one frame with its mask. Whatever is
malformed or absent is told in one ConfigurationError, each problem with its file and line.

- DAGM 2007: `Label/Labels.txt` beside the images, in a class's `Train` or `Test`, in the class, or in a folder of several classes.
- index: `index.csv` (columns image, class; mask and group where known) with `images/` and `masks/`.
- folders: `good/` and `bad/`, without masks.
"""

from edge_agent.dataset.labelled import MASK_ABOVE, Dataset, Labelled, Loaded, load
from edge_agent.dataset.layouts import NoDataset, read_dataset

__all__ = ["Dataset", "Labelled", "Loaded", "MASK_ABOVE", "NoDataset", "load", "read_dataset"]
