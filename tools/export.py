"""Makes the model of a trained checkpoint: MODEL/model.onnx, its papers model.yaml and its card README.md.

    python tools/export.py models/demo-texture --check generator:11 --count 300

The exported file is run on OpenVINO beside the network it came from, on parts nobody trained on (or on noise, without --check): the
maps must agree to one gray level on all but a few pixels, and a weight made NaN must not leave the peak finite.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
import yaml
from card import card_of
from examples import Examples, draw_examples, fit, read_examples
from graph import graph_of
from numpy.typing import NDArray
from rich.console import Console
from scores import Scores, pooled, score, table_of
from unet import Shape, UNet, probabilities

from edge_agent.dataset import read_dataset

PARTED_SHARE = 1e-4  # of the pixels may differ by more than one gray level: float rounding near steep edges
TIMED_RUNS = 100


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path, help="models/<name>, which holds checkpoint.pt")
    p.add_argument("--version", type=int, default=1)
    p.add_argument("--check", default="", help="generator:SEED or folder:DIR, none of it trained on")
    p.add_argument("--count", type=int, default=300, help="parts to draw for --check generator")
    p.add_argument("--defect-share", type=float, default=0.2, help="share of them with a defect")
    p.add_argument("--folds", type=Path, nargs="*", default=[], help="folders of the same training's folds, for the card")
    p.add_argument("--threads", type=int, default=2, help="for OpenVINO")
    return p.parse_args()


def load_network(path: Path) -> tuple[UNet, dict[str, Any]]:
    """The network in evaluation mode, and the papers that train.py left with its weights."""
    papers: dict[str, Any] = torch.load(path)
    network = UNet(Shape(**papers["shape"]))
    network.load_state_dict(papers.pop("weights"))
    return network.eval(), papers


def load_check(args: argparse.Namespace, shape: Shape, rows: int, cols: int) -> Examples | None:
    """What to check on; None without --check."""
    kind, _, where = args.check.partition(":")
    if kind == "generator":
        return draw_examples(int(where), 0, args.count, rows, cols, defect_share=args.defect_share)
    return read_examples(read_dataset(Path(where)).images, shape) if kind == "folder" else None


class Runner:
    """The ONNX model on OpenVINO, one frame at a time."""

    def __init__(self, onnx_model: Any, rows: int, cols: int, threads: int) -> None:
        core = ov.Core()
        model = core.read_model(onnx_model.SerializeToString())
        model.reshape([1, 1, rows, cols])
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = core.compile_model(model, "CPU", settings)

    def run(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Map (classes, rows, cols) uint8 and peak of a frame (rows, cols) uint8."""
        outputs = self._compiled([frame[None, None]])
        return outputs["map"][0], float(outputs["peak"][0])

    def median_ms(self, frame: NDArray[np.uint8]) -> float:
        """Median time of one run, after a few to warm up."""
        took_ns = []
        for _ in range(TIMED_RUNS + 10):
            began_ns = time.perf_counter_ns()
            self.run(frame)
            took_ns.append(time.perf_counter_ns() - began_ns)
        return round(float(np.median(took_ns[10:])) / 1e6, 2)


def compare(network: UNet, runner: Runner, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The highest probability on each frame by the ONNX model's peak, and how its maps differ from the network's."""
    peaks, worst, parted = [], 0, 0
    for frame in frames:
        found, peak = runner.run(frame)
        with torch.no_grad():
            wanted = probabilities(network(torch.from_numpy(frame[None, None])), network.shape.head)[0].mul(255).round()
        cell = np.ones((1, network.shape.cell_px, network.shape.cell_px), np.int16)
        off = np.abs(found.astype(np.int16) - np.kron(wanted.numpy().astype(np.int16), cell))
        worst, parted = max(worst, int(off.max())), parted + int((off > 1).sum())
        peaks.append(1 / (1 + math.exp(-peak)))
    parity = {"largest_difference": worst, "pixels_off_by_more_than_1": parted, "pixels": int(frames.size)}
    return np.array(peaks), parity


def check_poison(network: UNet, rows: int, cols: int, threads: int) -> None:
    """Refuses a graph whose peak stays finite although the head has a NaN weight."""
    poisoned = copy.deepcopy(network)
    with torch.no_grad():
        poisoned.head.weight[0, 0] = math.nan
    _, peak = Runner(graph_of(poisoned, "poisoned"), rows, cols, threads).run(np.full((rows, cols), 128, np.uint8))
    if math.isfinite(peak):
        raise SystemExit(f"a NaN weight left the peak at {peak}: the graph hides a broken model")


def papers_of(args: argparse.Namespace, shape: Shape, papers: dict[str, Any], sha256: str) -> dict[str, Any]:
    """model.yaml without its scores."""
    size = {"rows": papers["rows"], "cols": papers["cols"], "channels": 1}
    return {
        "name": args.model.name,
        "version": args.version,
        "onnx": {"file": "model.onnx", "sha256": sha256},
        "input": {"name": "frames", "layout": "NCHW", "dtype": "uint8", **size, "scale": 1.0, "offset": 0.0},
        "output": {"kind": "map_and_peak", "map": "map", "peak": "peak", "layout": "NCHW"},
        "head": shape.head,
        "classes": list(shape.classes),
        "stride": shape.stride,
        "training": papers["training"],
    }


def main() -> None:
    args, console = parse(), Console()
    torch.set_num_threads(args.threads)
    network, papers = load_network(args.model / "checkpoint.pt")
    shape, rows, cols = network.shape, papers["rows"], papers["cols"]

    onnx_bytes = (onnx_model := graph_of(network, args.model.name)).SerializeToString()
    (args.model / "model.onnx").write_bytes(onnx_bytes)
    check_poison(network, rows, cols, args.threads)
    runner = Runner(onnx_model, rows, cols, args.threads)

    examples = load_check(args, shape, rows, cols)
    noise = np.random.default_rng(0).integers(0, 256, (8, rows, cols), dtype=np.uint8)
    frames = noise if examples is None else np.stack([fit(pair, rows, cols)[0] for pair in examples.pairs])
    peaks, parity = compare(network, runner, frames)
    if parity["pixels_off_by_more_than_1"] > PARTED_SHARE * parity["pixels"]:
        raise SystemExit(f"{args.model}/model.onnx on OpenVINO is not the network it came from: {parity}")
    console.print(f"OpenVINO against torch: {parity}")

    scores: dict[str, Any] = {"validation": papers["scores"]} if papers["scores"]["frames"] else {}
    if args.folds:
        folds = [torch.load(folder / "checkpoint.pt")["scores"] for folder in args.folds]
        scores["cross-validation"] = pooled(folds)
    if examples is not None:
        unseen: Scores = score(peaks, examples.is_defective, examples.kinds)
        console.print(table_of(unseen, f"unseen, {args.check}"))
        kind, _, where = args.check.partition(":")
        scores["unseen"] = {"data": f"{kind}:{Path(where).name}", **unseen.as_dict()}
    scores["openvino"] = {**parity, "threads": args.threads, "median_ms": runner.median_ms(noise[0]), "cpu": platform.machine()}
    console.print(f"one frame takes {scores['openvino']['median_ms']} ms on {args.threads} threads")

    told = {**papers_of(args, shape, papers, hashlib.sha256(onnx_bytes).hexdigest()), "scores": scores}
    (args.model / "model.yaml").write_text(yaml.safe_dump(told, sort_keys=False, default_flow_style=None, width=120))
    command = shlex.join(["python", *sys.argv]).replace(args.check or "--check", Path(args.check).name or "--check")
    (args.model / "README.md").write_text(card_of(told, shape, command))
    console.print(f"{args.model}: model.onnx, model.yaml and README.md are written")


if __name__ == "__main__":
    main()
