"""Draw a set of labelled parts in DAGM 2007's own layout: one surface and its own kind of defect in each class.

DIR/ClassK/Train and DIR/ClassK/Test hold NNNN.PNG, Label/NNNN_label.PNG (the weak ellipse, 0 or 255) and Label/Labels.txt.
The same seed draws the same bytes. Part n of a class is the same part whatever the number of classes, and numbers go on from
Train to Test.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import cv2
from rich.console import Console
from rich.progress import track

from edge_agent.camera.texture import draw_part, label_of
from edge_agent.commands.numbers import number, whole
from edge_agent.commands.output import make_folder
from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.records import Pixels

# Class 1 first: the surface and the defect of each.
CLASSES: Final = (
    ("moire", "smear"),
    ("grain", "scratch"),
    ("brushed", "pits"),
    ("woven", "stain"),
    ("mottled", "crack"),
    ("turned", "dent"),
)
_MOST_PARTS: Final = 4999  # in each of Train and Test: names have four digits
_APART: Final = 10_000  # between the numbers of two classes in the series of the seed
_SIZES: Final = (64, 4096)  # rows or cols, in pixels
_LINE_ENDS: Final = {"lf": "\n", "crlf": "\r\n"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--classes", type=whole(1, len(CLASSES)), default=len(CLASSES), metavar="K", help="the first K of the six classes"
    )
    parser.add_argument(
        "--count", type=whole(1, _MOST_PARTS), default=575, metavar="N", help="parts of a class in Train, and as many in Test"
    )
    parser.add_argument("--defect-share", type=number(0, 1), default=0.14, metavar="SHARE", help="of the parts that have a defect")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=1)
    parser.add_argument("--rows", type=whole(*_SIZES), default=512)
    parser.add_argument("--cols", type=whole(*_SIZES), default=512)
    parser.add_argument("--line-ends", choices=list(_LINE_ENDS), default="lf", help="of Labels.txt; copies of DAGM have either")


def run(args: argparse.Namespace) -> int:
    _require_room(args.out)
    jobs = [(k, half, n) for k in range(1, args.classes + 1) for half in range(2) for n in range(args.count)]
    lines: dict[Path, list[str]] = {}
    for kind, half, place in track(jobs, "drawing", console=Console(stderr=True)):
        folder = args.out / f"Class{kind}" / ("Train", "Test")[half]
        lines.setdefault(folder, ["1"]).append(_draw(folder, kind, half * args.count + place + 1, args))
    for folder, rows in lines.items():
        text = "".join(row + _LINE_ENDS[args.line_ends] for row in rows)
        (folder / "Label" / "Labels.txt").write_bytes(text.encode("ascii"))
    defective = sum(row.split("\t")[1] == "1" for rows in lines.values() for row in rows[1:])
    print(f"{len(jobs)} parts in {args.classes} classes, {defective} with a defect -> {args.out}")
    return 0


def _draw(folder: Path, kind: int, number: int, args: argparse.Namespace) -> str:
    """Writes a part, and its label if it has a defect; its row of Labels.txt. Clean rows end in a tab, as DAGM's do."""
    family, defect = CLASSES[kind - 1]
    index = (kind - 1) * _APART + number - 1
    shares = {"defect_share": args.defect_share, "empty_share": 0.0}
    part = draw_part(args.seed, index, args.rows, args.cols, **shares, families=(family,), defects=(defect,))
    image, label = f"{number:04d}.PNG", f"{number:04d}_label.PNG"
    _write(folder / image, part.pixels)
    (folder / "Label").mkdir(exist_ok=True)
    if part.truth.kind != "defective":
        return f"{number:04d}\t0\t{image}\t0\t0\t"
    _write(folder / "Label" / label, label_of(part.truth, args.rows, args.cols).astype("uint8") * 255)
    return f"{number:04d}\t1\t{image}\t0\t{label}"


def _write(file: Path, pixels: Pixels) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    ok, encoded = cv2.imencode(".png", pixels)
    if not ok:
        raise EdgeAgentError(f"{file}: {pixels.shape[1]} x {pixels.shape[0]} pixels could not be encoded as PNG")
    try:
        file.write_bytes(encoded.tobytes())
    except OSError as error:
        raise EdgeAgentError(f"{file} cannot be written: {error.strerror}. Free some space, or name another --out.") from error


def _require_room(out: Path) -> None:
    """Makes the folder; old parts must not mix with new ones."""
    make_folder(out)
    held = next(out.iterdir(), None)
    if held is not None:
        raise UsageError(f"--out {out} is not empty: it holds {held.name}. Name a new folder, or empty this one.")
