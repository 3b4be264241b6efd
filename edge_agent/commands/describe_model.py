"""Write first papers for a network: `edge-agent describe-model my/models/cap/model.onnx > my/models/cap/model.yaml`.

Names, sizes and layouts are the file's; what nobody can see in a file is guessed and says so. Then try it: `edge-agent check
--model my/models/cap`, and `edge-agent replay` on pictures whose defects you know.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.commands.numbers import whole
from edge_agent.errors import EXIT_OK
from edge_agent.inference.describe import first_papers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("onnx", type=Path, metavar="FILE", help="the network's ONNX file")
    parser.add_argument("--rows", type=whole(1), help="of the pictures, where the file leaves them open")
    parser.add_argument("--cols", type=whole(1), help="of the pictures, where the file leaves them open")


def run(args: argparse.Namespace) -> int:
    print(first_papers(args.onnx, args.rows, args.cols), end="")
    return EXIT_OK
