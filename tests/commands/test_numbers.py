"""A number that makes no sense is refused with its bounds, whichever command it is for."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stations import Program

from edge_agent.commands.numbers import number, whole

CALIBRATE = "calibrate --model m --recipe r --out o"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("watch --count -1", "--count: is -1; give a whole number, 0 or more"),
        ("watch --timeout nan", "--timeout: is nan; give a number from 0 to 1000000000"),
        ("challenge --line a --wait nan", "--wait: is nan; give a number from 0 to 1000000000"),
        ("run --config s --parts 1.5", "--parts: is 1.5; give a whole number, 0 or more"),
        ("demo --parts 0", "--parts: is 0; give a whole number, 1 or more"),
        ("describe-model m --rows 0", "--rows: is 0; give a whole number, 1 or more"),
        ("capture --config s --out o --count 0", "--count: is 0; give a whole number, 1 or more"),
        ("capture --config s --out o --timeout 0", "--timeout: is 0; give a number above 0, up to 1000000000"),
        ("draw-parts --out o --classes 7", "--classes: is 7; give a whole number from 1 to 6"),
        ("draw-parts --out o --count 0", "--count: is 0; give a whole number from 1 to 4999"),
        ("draw-parts --out o --defect-share 1.5", "--defect-share: is 1.5; give a number from 0 to 1"),
        ("draw-parts --out o --seed -1", "--seed: is -1; give a whole number from 0 to 9223372036854775807"),
        ("draw-parts --out o --rows 8", "--rows: is 8; give a whole number from 64 to 4096"),
        ("simulate-camera --rate 0", "--rate: is 0; give a number from 0.01 to 10000"),
        ("simulate-camera --seconds nan", "--seconds: is nan; give a number from 0 to 1000000000"),
        ("benchmark station --seconds -1", "--seconds: is -1; give a number from 0 to 3600"),
        ("benchmark plumbing --parts many", "--parts: is many; give a whole number, 0 or more"),
        ("benchmark plumbing --ng-share 2", "--ng-share: is 2; give a number from 0 to 1"),
        (f"{CALIBRATE} --percentile 50", "--percentile: is 50; give a number above 50, up to 100"),
        (f"{CALIBRATE} --least-speedup nan", "--least-speedup: is nan; give a number, 0 or more"),
        (f"{CALIBRATE} --allow-flips 2", "--allow-flips: is 2; give a number from 0 to 1"),
        (f"{CALIBRATE} --camera c --count 0", "--count: is 0; give a whole number, 1 or more"),
    ],
)
def test_it_is_refused_with_its_bounds_before_anything_is_done(within: Program, tmp_path: Path, line: str, told: str) -> None:
    refused = within(*line.split())
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"argument {told}" in refused.stderr
    assert not [*tmp_path.glob("o*")]


@given(st.integers(), st.integers(0, 100), st.integers(0, 100))
def test_whole_numbers_within_their_bounds_are_read(value: int, least: int, more: int) -> None:
    is_read = True
    try:
        assert whole(least, least + more)(str(value)) == value
    except argparse.ArgumentTypeError:
        is_read = False
    assert is_read == (least <= value <= least + more)


@given(st.floats(), st.floats(0, 100), st.booleans())
def test_numbers_within_their_bounds_are_read(value: float, least: float, above: bool) -> None:
    is_read = True
    try:
        assert number(least, above=above)(repr(value)) == value
    except argparse.ArgumentTypeError:
        is_read = False
    assert is_read == (math.isfinite(value) and (value > least if above else value >= least))
