"""The numbers that commands take, within their bounds: for argparse's `type`, which names the option and ends with exit code 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)

MOST_S = 1e9  # of any wait: for ever, and within what a clock can count


def whole(least: int = 0, most: float = math.inf) -> Callable[[str], int]:
    """Reads an integer from `least` to `most`."""

    def read(text: str) -> int:
        value = _read(text, int)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"is {text}; give a whole number{_bounds(least, most)}")
        return value

    return read


def number(least: float = 0.0, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Reads a finite number from `least` to `most`; with `above`, one that is more than `least`."""

    def read(text: str) -> float:
        value = _read(text, float)
        if value is None or not (least <= value <= most and math.isfinite(value)) or (above and value == least):
            raise argparse.ArgumentTypeError(f"is {text}; give a number{_bounds(least, most, above)}")
        return value

    return read


def _read(text: str, kind: Callable[[str], Number]) -> Number | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _bounds(least: float, most: float, above: bool = False) -> str:
    low, high = (str(each) if isinstance(each, int) else f"{each:.12g}" for each in (least, most))
    if above:
        return f" above {low}" + (f", up to {high}" if math.isfinite(most) else "")
    return f" from {low} to {high}" if math.isfinite(most) else f", {low} or more"
