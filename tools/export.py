"""Makes the model of a trained checkpoint: MODEL/model.onnx, its papers model.yaml and its card README.md.

    python tools/export.py models/demo-texture --check generator:11 --count 300
    python tools/export.py models/cap --folds out/cap-fold0 out/cap-fold1 out/cap-fold2 --data folder:my/parts

The exported file is run on OpenVINO beside the network it came from, on parts nobody trained on (or on noise, without --check): the
maps must agree to one gray level on all but a few pixels, peaks must be finite, and a weight made NaN must not leave them so; else
nothing is written. Each of the --folds is judged on OpenVINO too, by the weights of its last check on the groups it held out.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import platform
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from card import card_of
from checkpoints import load_last, load_network
from examples import Examples, asked_for, draw_examples, fit, read_examples, require_both
from folds import fold_of, require_one_split
from graph import graph_of
from judged import compiled, finite, scores_of
from lite import Lite
from networks import Network
from numpy.typing import NDArray
from options import ENDLESS, NOT_THE_TRAINING, Help, differences, name_of, refusing, require_within, source_of, told_of
from rich.console import Console
from scores import Scores, pooled, score, table_of
from unet import Shape, probabilities

from edge_agent.dataset import read_dataset
from edge_agent.inference.model import load_model
from edge_agent.records import NAME_PATTERN

PARTED_SHARE = 1e-4  # of the pixels may differ by more than one gray level: float rounding near steep edges
TIMED_RUNS = 100
# A map's 255 levels span log-odds of 12: lowered by 100 it is empty, raised by as much it is full.
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("count", "threads"), (1, ENDLESS)),
    "defect_share": (0, 1),
    "lower_odds": (-100, 100),
}


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    p.add_argument("model", type=Path, help="models/<name>, which holds checkpoint.pt")
    p.add_argument("--version", type=int, default=1, help="of the model, for its papers")
    p.add_argument("--check", default="", help="generator:SEED or folder:DIR, none of it trained on")
    p.add_argument("--count", type=int, default=300, help="parts to draw for --check generator")
    p.add_argument("--defect-share", type=float, default=0.2, help="share of them with a defect")
    p.add_argument("--folds", type=Path, nargs="*", default=[], help="folders of the same training's folds, for the card")
    p.add_argument("--data", default="", help="folder:DIR, which the folds were trained on")
    p.add_argument(
        "--lower-odds",
        type=float,
        default=0.0,
        metavar="X",
        help="lower the log-odds of a defect by X: half of the frames trained on showed one, a line's hardly ever do",
    )
    p.add_argument("--turned", action="store_true", help="of an encoder from ImageNet: judge frames as if turned by half")
    p.add_argument("--note", default="", help="a sentence for the card: what was chosen on what")
    p.add_argument("--threads", type=int, default=2, help="for OpenVINO")
    args = p.parse_args()
    require_within(args, BOUNDS)
    if not re.match(NAME_PATTERN, name_of(args.model)):
        raise SystemExit(
            f"{args.model}: no model may be called {name_of(args.model)!r}. Name its folder with letters, digits, dot, underscore "
            "and dash, at most 64, the first a letter or digit."
        )
    if bool(args.folds) != args.data.startswith("folder:"):
        raise SystemExit(f"--folds and --data folder:DIR, which they are judged on, go together; --data is {args.data!r}")
    return args


def load_check(args: argparse.Namespace, papers: dict[str, Any]) -> Examples | None:
    """What to check on; None without --check. Raises SystemExit for what the model was trained on, and for what judges nothing."""
    if not args.check:
        return None
    source, training = source_of("--check", args.check), papers["training"]
    if isinstance(source, int):
        if args.check in training["data"].split("; then "):
            raise SystemExit(f"--check {args.check}: the model was trained on it. Take another seed.")
        examples = draw_examples(source, 0, args.count, papers["rows"], papers["cols"], defect_share=args.defect_share)
        remedy = f"Draw more than --count {args.count}, or another --defect-share than {args.defect_share:g}."
    else:
        shape = Shape(**papers["shape"])
        examples = read_examples(asked_for(read_dataset(source), shape).images, shape)
        require_unseen(args.check, examples, training)
        remedy = "Give good parts and defective ones."
    require_both(examples, f"--check {args.check}: its {len(examples.pairs)} frames", remedy)
    return examples


def require_unseen(check: str, examples: Examples, training: dict[str, Any]) -> None:
    """Raises SystemExit for pictures that were trained on, whatever their names, and for parts that were, as far as names tell.

    The bytes of a picture tell more than its name, which another may have too; of a part there may be several pictures.
    """
    known = set(training.get("trained_on_sha256", ()))
    pictures = [group for group, digest in zip(examples.groups, examples.hashes, strict=True) if digest in known]
    if pictures:
        raise SystemExit(
            f"--check {check}: {len(pictures)} of its {len(examples.groups)} pictures were trained on, such as {pictures[0]}. "
            "Give others."
        )
    names_tell = not known or len(set(examples.groups)) < len(examples.groups)
    if names_tell and told_of(check) == training["data"] and (seen := seen_of(examples.groups, training)):
        raise SystemExit(
            f"--check {check}: {len(seen)} of its {len(set(examples.groups))} groups were trained on, such as {seen[0]}. "
            "Give others."
        )


def seen_of(groups: tuple[str, ...], training: dict[str, Any]) -> list[str]:
    """Those of the groups that were trained on by name, wherever in a data set's folder they lay."""
    trained_on = {Path(name).name for name in training.get("trained_on", ())}
    return sorted({group for group in groups if Path(group).name in trained_on})


class Runner:
    """The ONNX model on OpenVINO, one frame at a time."""

    def __init__(self, onnx_model: Any, rows: int, cols: int, threads: int) -> None:
        self._compiled = compiled(onnx_model, rows, cols, threads)

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


def compare(network: Network, runner: Runner, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The highest probability on each frame by the ONNX model's peak, and how its maps differ from the network's.

    Raises SystemExit for a peak that is not finite.
    """
    peaks, worst, parted = [], 0, 0
    for frame in frames:
        found, peak = runner.run(frame)
        peaks.append(finite(peak))
        with torch.no_grad():
            wanted = probabilities(network(torch.from_numpy(frame[None, None])), network.shape.head)[0].mul(255).round()
        cell = np.ones((1, network.shape.cell_px, network.shape.cell_px), np.int16)
        off = np.abs(found.astype(np.int16) - np.kron(wanted.numpy().astype(np.int16), cell))
        worst, parted = max(worst, int(off.max())), parted + int((off > 1).sum())
    parity = {"largest_difference": worst, "pixels_off_by_more_than_1": parted, "pixels": int(frames.size)}
    return 1 / (1 + np.exp(-np.array(peaks))), parity


def check_poison(network: Network, rows: int, cols: int, threads: int) -> None:
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
        "name": name_of(args.model),
        "version": args.version,
        "onnx": {"file": "model.onnx", "sha256": sha256},
        "input": {"name": "frames", "layout": "NCHW", "dtype": "uint8", **size, "scale": 1.0, "offset": 0.0},
        "output": {"kind": "map_and_peak", "map": "map", "peak": "peak", "layout": "NCHW"},
        "head": shape.head,
        "classes": list(shape.classes),
        "stride": shape.stride,
        "training": papers["training"],
    }


def change(network: Network, args: argparse.Namespace) -> dict[str, Any]:
    """Change the network as the command wants it; what its papers tell of that. Raises SystemExit where it has no such thing."""
    told: dict[str, Any] = {}
    if args.lower_odds:
        lower_odds(network, args.lower_odds)
        told["log_odds_lowered_by"] = args.lower_odds
    if args.turned:
        if not isinstance(network, Lite):
            raise SystemExit(f"--turned: an encoder that is {network.shape.encoder} sees all ends of a frame alike. Leave it out.")
        network.turn()
        told["judged_as_turned"] = "by half"
    return told


def lower_odds(network: Network, by: float) -> None:
    """Lowers the log-odds of any defect everywhere: softmax by the background's logit, sigmoid by each class's own.

    The order of frames stays; a map of 255 levels then tells those apart that decide, rather than many near 255.
    """
    each = network.head.out_channels // network.shape.logits
    with torch.no_grad():
        if network.shape.head == "softmax":
            network.head.bias[:each] += by
        else:
            network.head.bias -= by


def judge_folds(args: argparse.Namespace, training: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What the scores of the folds are to be called, and these: of networks trained as this one, but for what they held out."""
    dataset = read_dataset(Path(args.data.partition(":")[2]))
    loaded = [load_last(folder) for folder in args.folds]
    folds = [fold_of(folder, papers["training"]) for folder, (_, papers) in zip(args.folds, loaded, strict=True)]
    require_one_split(folds)
    judged, differing, of, numbers = [], set(), folds[0].of, [fold.number for fold in folds]
    for fold, (network, papers) in zip(folds, loaded, strict=True):
        change(network, args)
        told = papers["training"]
        if told["data"] != training["data"] or told["data"] != told_of(args.data):
            raise SystemExit(f"{fold.folder} was trained on {told['data']}, the model on {training['data']}; --data is {args.data}")
        differing |= set(differences(training["command"], told["command"], NOT_THE_TRAINING | {"folds", "fold"}))
        examples = read_examples(asked_for(dataset, network.shape).of_groups(fold.held_out).images, network.shape)
        require_both(examples, f"{fold.folder}: the {len(examples.pairs)} frames that it held out", "Leave it out of --folds.")
        engine = compiled(graph_of(network, "fold"), papers["rows"], papers["cols"], args.threads)
        judged.append(scores_of(engine, examples, papers["rows"], papers["cols"]).as_dict())
    name = "cross-validation" if sorted(numbers) == list(range(of)) else "held out"
    return name, {**pooled(judged), "folds": numbers, "of": of, "differing": sorted(differing)}


def require_parity(args: argparse.Namespace, parity: dict[str, Any]) -> None:
    """Raises SystemExit where the exported graph is not the network it came from."""
    if parity["pixels_off_by_more_than_1"] > PARTED_SHARE * parity["pixels"]:
        raise SystemExit(f"{args.model} on OpenVINO is not the network it came from, and nothing was written: {parity}")


def write(folder: Path, onnx_bytes: bytes, papers: dict[str, Any], card: str) -> None:
    """Model, papers and card, once the station's own reader takes them; else ConfigurationError, and the folder is as it was."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="export-") as scratch:
        made = Path(scratch)
        (made / "model.onnx").write_bytes(onnx_bytes)
        (made / "model.yaml").write_text(yaml.safe_dump(papers, sort_keys=False, default_flow_style=None, width=120))
        (made / "README.md").write_text(card)
        load_model(made)
        for file in made.iterdir():
            file.replace(folder / file.name)


@refusing()
def main() -> None:
    args, console = parse(), Console()
    torch.set_num_threads(args.threads)
    network, papers = load_network(args.model / "checkpoint.pt")
    changes = change(network, args)
    papers["training"] |= changes
    shape, rows, cols = network.shape, papers["rows"], papers["cols"]

    onnx_bytes = (onnx_model := graph_of(network, name_of(args.model))).SerializeToString()
    check_poison(network, rows, cols, args.threads)
    runner = Runner(onnx_model, rows, cols, args.threads)

    examples = load_check(args, papers)
    noise = np.random.default_rng(0).integers(0, 256, (8, rows, cols), dtype=np.uint8)
    frames = noise if examples is None else np.stack([fit(pair, rows, cols)[0] for pair in examples.pairs])
    peaks, parity = compare(network, runner, frames)
    require_parity(args, parity)
    differing = f"{parity['pixels_off_by_more_than_1']} of {parity['pixels']} pixels differ by more than one gray level"
    console.print(f"OpenVINO against torch: {differing}, none by more than {parity['largest_difference']}", soft_wrap=True)

    scores: dict[str, Any] = {"validation": papers["scores"]} if papers["scores"]["frames"] and not changes else {}
    if args.folds:
        name, folds = judge_folds(args, papers["training"])
        scores[name] = folds
    if examples is not None:
        unseen: Scores = score(peaks, examples.is_defective, examples.kinds, examples.groups)
        console.print(table_of(unseen, f"unseen, {args.check}"))
        same = len(seen_of(examples.groups, papers["training"]))  # which proves nothing: the card doubts
        scores["unseen"] = {"data": told_of(args.check), "names_trained_on": same, **unseen.as_dict()}
    scores["openvino"] = {**parity, "threads": args.threads, "median_ms": runner.median_ms(noise[0]), "cpu": platform.machine()}
    console.print(f"one frame takes {scores['openvino']['median_ms']} ms on {args.threads} threads")

    told = {**papers_of(args, shape, papers, hashlib.sha256(onnx_bytes).hexdigest()), "scores": scores}
    words = [told_of(each) if each in (args.check, args.data) else each for each in sys.argv[1:]]
    write(args.model, onnx_bytes, told, card_of(told, shape, shlex.join(["python", "tools/export.py", *words]), args.note))
    console.print(f"{args.model}: model.onnx, model.yaml and README.md are written", soft_wrap=True)


if __name__ == "__main__":
    main()
