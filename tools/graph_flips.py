"""Does a candidate of `edge-agent calibrate` lose verdicts by its own arithmetic, or by the kernels that compute it?

    python tools/graph_flips.py --model models/M --recipe config/recipes/M.yaml --candidates calibration --data images

FP32 and the 8-bit candidates run on OpenVINO with float kernels between their pairs of Q and DQ, which round as the graph says:
what an engine with right kernels would tell. A flip here is an image whose highest pixel of some class lies on the other side of
its threshold. The gate of `calibrate` lets the whole line judge, on the kernels that the station has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from edge_agent.commands.calibrating.images import read_golden, require_some, tensors, unseen
from edge_agent.commands.calibrating.manifest import read_manifest
from edge_agent.commands.replay import find_model
from edge_agent.errors import EdgeAgentError
from edge_agent.fit import load_pair
from edge_agent.inference.base import infer
from edge_agent.inference.cpu import CpuSegmenter, open_cpu
from edge_agent.inference.model import Model
from edge_agent.qualification.rates import rate
from edge_agent.recipe import ClassLimits, Recipe
from edge_agent.records import Pixels
from edge_agent.settings import CpuEngine

FULL = 255
WAIT_S = 60
CANDIDATES = ("int8", "int8_level0_fp16")


def as_graphed(model: Model) -> CpuSegmenter:
    """The engine that computes the pairs in floats."""
    return open_cpu(CpuEngine(hint="latency", requests=1), model, is_reference=True)[0]


def peaks_of(engine: CpuSegmenter, frames: list[Pixels]) -> NDArray[np.float64]:
    """Highest probability of each class (classes,) in any of the frames (rows, cols) uint8 of an image."""
    highest = np.zeros(len(engine.classes))
    for frame in frames:
        slot = infer(engine, frame, WAIT_S)
        if slot.failure:
            raise SystemExit(slot.failure)
        highest = np.maximum(highest, slot.maps.max((1, 2)) / FULL)
        engine.release(slot)
    return highest


def is_beyond(peaks: NDArray[np.float64], recipe: Recipe, classes: tuple[str, ...]) -> bool:
    """Whether some class reaches the recipe's threshold."""
    return bool((peaks >= [recipe.classes.get(name, ClassLimits()).threshold for name in classes]).any())


def count_flips(model: Model, recipe: Recipe, candidates: Path, data: Path) -> dict[str, tuple[int, int, int]]:
    """By candidate: images that it alone calls defective, images that FP32 alone calls defective, and images looked at."""
    made = read_manifest(candidates, model).candidates
    others = {name: model.calibrated(candidates / made[name].file, made[name].sha256) for name in CANDIDATES}
    engines = {name: as_graphed(each) for name, each in {"fp32": model, **others}.items()}
    counts = {name: [0, 0, 0] for name in CANDIDATES}
    images, left_out = read_golden(data), []
    try:
        seen = tensors(images, recipe, model.papers.input.rows, model.papers.input.cols)
        for each in track(seen, total=len(images)):
            if not each.frames:
                left_out.append(each)
                continue
            calls = {name: is_beyond(peaks_of(engine, each.frames), recipe, engine.classes) for name, engine in engines.items()}
            for name, count in counts.items():
                count[0] += calls[name] and not calls["fp32"]
                count[1] += calls["fp32"] and not calls[name]
                count[2] += 1
    finally:
        for engine in engines.values():
            engine.close()
    if len(left_out) == len(images):
        require_some(left_out, "images")
    if left_out:
        print(f"left out: {unseen(left_out)}", file=sys.stderr)
    return {name: (count[0], count[1], count[2]) for name, count in counts.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a shipped model's name, or a folder with model.yaml")
    p.add_argument("--recipe", type=Path, required=True)
    p.add_argument("--candidates", type=Path, required=True, help="the --out of `edge-agent calibrate`")
    p.add_argument("--data", type=Path, required=True, help="images, labelled or not")
    args = p.parse_args()
    try:
        model, recipe = load_pair(find_model(args.model), args.recipe)
        counts = count_flips(model, recipe, args.candidates, args.data)
    except EdgeAgentError as error:
        raise SystemExit(str(error)) from None
    for name, (to_ng, to_pass, of) in counts.items():
        bounds = rate(to_ng + to_pass, of)
        told = f"{name}: {to_ng + to_pass} of {of} images flip by the graph itself, {to_ng} of them to defective"
        print(f"{told}; 95 % bounds {100 * bounds.low:.3f} to {100 * bounds.high:.3f} %")


if __name__ == "__main__":
    main()
