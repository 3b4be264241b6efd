"""What train.py left: checkpoint.pt, the network kept and its papers; last.pt, where the training stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from networks import Network, network_of
from unet import Shape


def load_network(file: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint.pt in evaluation mode, and the papers that lie with its weights."""
    papers: dict[str, Any] = torch.load(file, map_location="cpu")
    network = network_of(Shape(**papers["shape"]))
    network.load_state_dict(papers.pop("weights"))
    return network.eval(), papers


def load_last(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The same with the weights of the last check, whatever was kept: nothing has chosen these."""
    network, papers = load_network(folder / "checkpoint.pt")
    network.load_state_dict(torch.load(folder / "last.pt", map_location="cpu")["mean"])
    return network, papers


def at_of(folder: Path) -> dict[str, Any]:
    """How far the training is: `step`, `seconds`, `check`, and `cpu_seconds` where train.py kept them."""
    at: dict[str, Any] = torch.load(folder / "last.pt", map_location="cpu", mmap=True)["at"]
    return at


def cpu_seconds_of(folder: Path) -> tuple[float, bool]:
    """CPU time of the whole training, and whether it was measured; else it is that up to a check, in proportion to the steps."""
    at = at_of(folder)
    if "cpu_seconds" in at:
        return float(at["cpu_seconds"]), True
    kept = torch.load(folder / "checkpoint.pt", map_location="cpu", mmap=True)["training"]
    return kept["cpu_seconds"] * at["step"] / kept["steps"], bool(kept["steps"] == at["step"])
