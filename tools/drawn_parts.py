"""The picture and the figures of docs/drawn-parts.md.

    python tools/drawn_parts.py --picture docs/images/drawn-parts.png
    python tools/drawn_parts.py --beside DAGM/Class1
    python tools/drawn_parts.py --time 40

The second compares the good images of a data set in any layout that `edge-agent evaluate` reads, DAGM 2007's Class 1 meant, with
drawn moires, and prints the table; the third times every surface.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.camera.texture import DrawnPart, draw_part
from edge_agent.camera.texture_families import FAMILIES
from edge_agent.commands.draw_parts import CLASSES
from edge_agent.commands.drawing import Picture, write
from edge_agent.dataset import load, read_dataset
from edge_agent.errors import EdgeAgentError

SEED = 10
SIDE, GAP, HEAD, LEFT = 256, 10, 28, 96  # of the picture, in pixels
INK, LABEL = (40, 40, 40), (0, 0, 255)
SHADING_PX = 16  # deviation of the blur
SLOPE_FROM, SLOPE_TO, BANDS = 0.01, 0.5, 40  # cycles per pixel
Pixels = NDArray[np.uint8]


def cut(part: DrawnPart) -> Picture:
    """A square of the part at full size, around its defect or its middle, with the label in red."""
    rows, cols = part.pixels.shape
    x, y = part.truth.ellipse[:2] if part.truth.ellipse else (cols / 2, rows / 2)
    left, top = (int(np.clip(at - SIDE / 2, 0, size - SIDE)) for at, size in ((x, cols), (y, rows)))
    picture = cv2.cvtColor(part.pixels, cv2.COLOR_GRAY2BGR)
    if part.truth.ellipse:
        _, _, a, b, angle_deg = part.truth.ellipse
        cv2.ellipse(picture, ((x, y), (2 * a, 2 * b), angle_deg), LABEL, 2, cv2.LINE_AA)
    return np.asarray(picture[top : top + SIDE, left : left + SIDE], np.uint8)


def picture_of(seed: int) -> Picture:
    """The six classes side by side: in the upper row a good part, in the lower one with the defect of the class."""
    canvas = np.full((HEAD + 2 * (SIDE + GAP), LEFT + len(CLASSES) * (SIDE + GAP), 3), 255, np.uint8)
    for row, (word, share) in enumerate((("good", 0.0), ("defective", 1.0))):
        top = HEAD + row * (SIDE + GAP)
        write(canvas, word, (8, top + SIDE // 2), 0.5, INK, bold=True)
        for column, (family, defect) in enumerate(CLASSES):
            left = LEFT + column * (SIDE + GAP)
            part = draw_part(seed, column, defect_share=share, empty_share=0.0, families=(family,), defects=(defect,))
            canvas[top : top + SIDE, left : left + SIDE] = cut(part)
            write(canvas, f"{column + 1}: {family}, {defect}", (left, HEAD - 10), 0.5, INK)
    return canvas


def spectrum_slope(pixels: Pixels) -> float:
    """The slope of the logarithm of the radial power spectrum over the logarithm of the frequency."""
    gray = pixels.astype(np.float64) - pixels.mean()
    power = np.abs(np.fft.fft2(gray)) ** 2
    radius = np.hypot(np.fft.fftfreq(gray.shape[0])[:, None], np.fft.fftfreq(gray.shape[1])[None, :])
    edges = np.geomspace(SLOPE_FROM, SLOPE_TO, BANDS + 1)
    band = np.digitize(radius, edges) - 1
    known = [n for n in range(BANDS) if (band == n).any()]
    means = [power[band == n].mean() for n in known]
    middles = [np.sqrt(edges[n] * edges[n + 1]) for n in known]
    return float(np.polyfit(np.log(middles), np.log(means), 1)[0])


def figures_of(pixels: Pixels) -> list[float]:
    """Mean, deviation, skew, shading, three percentiles and the slope of one image."""
    gray = pixels.astype(np.float64)
    mean, deviation = gray.mean(), gray.std()
    skew = ((gray - mean) ** 3).mean() / deviation**3
    shading = cv2.GaussianBlur(gray, (0, 0), SHADING_PX).std()
    return [mean, deviation, skew, shading, *np.percentile(gray, (5, 50, 95)), spectrum_slope(pixels)]


def row_of(name: str, images: Sequence[Pixels]) -> str:
    """One row of the table: means over the images, with the deviation between them."""
    values = np.array([figures_of(image) for image in images])
    mean, spread = values.mean(axis=0), values.std(axis=0)
    told = [f"{mean[0]:.1f} +- {spread[0]:.1f}", f"{mean[1]:.1f} +- {spread[1]:.1f}", f"{mean[2]:.1f}"]
    told += [f"{mean[3]:.1f} +- {spread[3]:.1f}", ", ".join(f"{each:.0f}" for each in mean[4:7])]
    return f"| {name}, {len(images)} | {' | '.join(told)} | {mean[7]:.2f} +- {spread[7]:.2f} |"


def save(picture: Picture, file: Path) -> None:
    """The picture as a file. Raises SystemExit where it cannot be one."""
    if file.suffix != ".png" or not file.parent.is_dir() or not cv2.imwrite(str(file), picture):
        raise SystemExit(f"--picture {file} cannot be written: name a .png file in a folder that is there")


def beside(folder: Path, drawn: int, seed: int) -> list[str]:
    """The table's rows: all good images of the folder, and as many drawn moires as asked for."""
    real = [load(each).frame for each in read_dataset(folder).images if not each.is_defective]
    if not real:
        raise SystemExit(f"--beside {folder}: all of its images are defective; give a data set with good ones")
    moires = [draw_part(seed, n, defect_share=0, empty_share=0, families=("moire",)).pixels for n in range(drawn)]
    return [row_of("real", real), row_of("drawn", moires)]


def times_ms(count: int, seed: int) -> dict[str, float]:
    """The median processor time of drawing a good part, 512x512, on one core, by surface."""
    cv2.setNumThreads(1)
    found = {}
    for family in FAMILIES:
        took = []
        for n in range(count):
            began_ns = time.thread_time_ns()
            draw_part(seed, n, defect_share=0, empty_share=0, families=(family,))
            took.append((time.thread_time_ns() - began_ns) / 1e6)
        found[family] = float(np.median(took))
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--picture", type=Path, metavar="FILE", help="write the picture of the six classes")
    p.add_argument("--beside", type=Path, metavar="FOLDER", help="compare drawn moires with the good images of this data set")
    p.add_argument("--drawn", type=int, default=40, help="moires to compare")
    p.add_argument("--time", type=int, metavar="N", help="time N parts of each surface")
    p.add_argument("--seed", type=int, default=SEED)
    args = p.parse_args()
    if not (args.picture or args.beside or args.time is not None):
        raise SystemExit("nothing is asked for: say --picture FILE, --beside FOLDER or --time N")
    for name in ("drawn", "time"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise SystemExit(f"--{name} {getattr(args, name)}: take 1 or more")
    if args.seed < 0:
        raise SystemExit(f"--seed {args.seed}: take 0 or more")
    return args


def main() -> None:
    args = parse()
    if args.picture:
        save(picture_of(args.seed), args.picture)
    if args.beside:
        try:
            rows = beside(args.beside, args.drawn, args.seed)
        except EdgeAgentError as error:
            raise SystemExit(str(error)) from error
        print("| | mean | deviation | skew | shading | 5 %, 50 %, 95 % | slope |\n|---|---|---|---|---|---|---|")
        print("\n".join(rows))
    if args.time:
        print(", ".join(f"{family} {ms:.1f} ms" for family, ms in times_ms(args.time, args.seed).items()))


if __name__ == "__main__":
    main()
