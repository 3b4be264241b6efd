"""The least time that the decks' network can take on a GPU of the data sheet: `roofline.py` alone is the tutorial's U-Net on a T4.

Operations and bytes are counted as `edge-agent benchmark engine` counts them, in the graphs that `edge-agent calibrate` writes.
Weights do not matter, so they are random.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from stand_in_model import PAPERS, fingerprint

from edge_agent.calibration.cost import cost_of
from edge_agent.commands.benchmarks.engine import graphs_of
from edge_agent.commands.benchmarks.gpu import PER_CLOCK
from edge_agent.inference.model import Model, load_model

LEVELS = 4
T4 = {"capability": "7.5", "multiprocessors": 40, "mhz": 1590.0, "gbytes": 320.0}  # NVIDIA's T4 data sheet and Turing white paper


class Network:
    """Nodes and weights of a U-Net, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(0)

    def add(self, kind: str, *taken: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(taken), [name], name=name, **attributes))
        return name

    def convolution(self, source: str, taken: int, given: int, side: int = 3, kind: str = "Conv") -> str:
        from onnx import numpy_helper

        shape = (given, taken, side, side) if kind == "Conv" else (taken, given, side, side)
        at = len(self.nodes)
        weight = self._rng.normal(0, (2 / taken) ** 0.5 / side, shape).astype(np.float32)
        for name, value in ((f"w{at}", weight), (f"b{at}", np.zeros(given, np.float32))):
            self.weights.append(numpy_helper.from_array(value, name))
        edges = {"strides": [2, 2]} if kind == "ConvTranspose" else {"pads": [side // 2] * 4}
        return self.add(kind, source, f"w{at}", f"b{at}", **edges)

    def block(self, source: str, taken: int, given: int) -> str:
        for channels in (taken, given):
            source = self.add("Relu", self.convolution(source, channels, given))
        return source


def u_net(filters: int) -> Network:
    """From `frames` to the logits: the last node's."""
    made, skipped, source, taken = Network(), list[str](), "frames", 1
    for level in range(LEVELS):
        skipped.append(made.block(source, taken, taken := filters << level))
        source = made.add("MaxPool", skipped[-1], kernel_shape=[2, 2], strides=[2, 2])
    source = made.block(source, taken, filters << LEVELS)
    for level in reversed(range(LEVELS)):
        wide = filters << level
        up = made.convolution(source, 2 * wide, wide, 2, "ConvTranspose")
        source = made.block(made.add("Concat", skipped.pop(), up, axis=1), 2 * wide, wide)
    made.convolution(source, filters, 1, 1)
    return made


def model_of(folder: Path, filters: int, side: int) -> Model:
    """Write the network and its papers; return them loaded."""
    from onnx import TensorProto, helper

    made = u_net(filters)
    last = made.nodes[-1].output[0]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, side, side]) for name in ("frames", last)]
    graph = helper.make_graph(made.nodes, "u-net", ports[:1], ports[1:], made.weights)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = network.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    told = {"name": "frames", "layout": "NCHW", "dtype": "float32", "rows": side, "cols": side, "scale": 1 / 255}
    papers = PAPERS | fingerprint(content) | {"name": "u-net", "input": told, "output": {"kind": "logits", "map": last}}
    (folder / "model.yaml").write_text(yaml.safe_dump(papers))
    return load_model(folder)


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=16, help="of the first level; each level has twice as many")
    parser.add_argument("--side", type=int, default=512, help="of the picture")
    parser.add_argument("--capability", default=T4["capability"], choices=sorted(PER_CLOCK))
    for name, meaning in (("multiprocessors", "as listed"), ("mhz", "listed highest clock"), ("gbytes", "memory's GB/s")):
        parser.add_argument(f"--{name}", type=_above_0, default=T4[name], help=meaning)
    parser.add_argument("--share", type=_above_0, metavar="IMAGES/S", help="tell which share of the roofline that is")
    args = parser.parse_args()
    if args.filters < 1 or args.side < 1 or args.side % (1 << LEVELS):
        parser.error(f"--filters takes 1 or more, --side a multiple of {1 << LEVELS}")
    clocks = args.multiprocessors * args.mhz * 1e6
    peaks = dict(zip(("float32", "float16", "int8"), (each * clocks for each in PER_CLOCK[args.capability]), strict=True))
    print(", ".join(f"{name} {each / 1e12:.1f} TOP/s" for name, each in peaks.items()), f"and {args.gbytes:g} GB/s")
    with TemporaryDirectory() as folder:
        graphs = graphs_of(model_of(Path(folder), args.filters, args.side), None)
    for name, graph in graphs.items():
        cost = cost_of(graph)
        least_s = cost.least_s(1, peaks, args.gbytes * 1e9)
        operations = ", ".join(f"{count / 1e9:.1f} GOP of {precision}" for precision, count in cost.operations.items())
        share = f", of which {args.share:g} images/s are {args.share * least_s:.0%}" if args.share else ""
        told = f"at least {least_s * 1e3:.3f} ms, at most {1 / least_s:.0f} images/s{share}"
        print(f"{name}: {operations}, {cost.frame_bytes / 1e6:.0f} MB: {told}")


if __name__ == "__main__":
    main()
