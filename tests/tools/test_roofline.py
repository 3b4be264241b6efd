"""What the roofline says of the decks' network, by the code that `benchmark engine` counts with."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

TOOLS = Path(__file__).parents[2] / "tools" / "gpu"
TUTORIAL = 1_942_289  # trainable weights of the tutorial's network in Keras


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("roofline")


def test_the_network_is_the_tutorials(roofline: ModuleType) -> None:
    made = roofline.u_net(16)
    weights = sum(math.prod(each.dims) for each in made.weights)
    normalised = sum(each.dims[0] for each in made.weights if each.name.startswith("b") and _kernel(made, each) == 3)
    assert weights + normalised == TUTORIAL  # Keras trains a scale and a shift where a folded graph has a bias


def _kernel(made: object, bias: object) -> int:
    return next(each.dims[-1] for each in made.weights if each.name == f"w{bias.name[1:]}")


@pytest.mark.parametrize("words", [("--mhz", "0"), ("--share", "-1"), ("--side", "100"), ("--filters", "0"), ("--gbytes", "wide")])
def test_what_no_gpu_or_network_has_is_refused(
    roofline: ModuleType, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["roofline.py", *words])
    with pytest.raises(SystemExit, match="2"):
        roofline.main()


@pytest.mark.slow
def test_a_t4_may_do_more_than_the_decks_909_in_8_bits(
    roofline: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["roofline.py", "--share", "909"])
    roofline.main()
    said = capsys.readouterr().out
    assert "int8 130.3 TOP/s and 320 GB/s" in said  # the data sheet says 130
    least_ms, rate = (float(word) for word in re.search(r"^int8: .*least ([\d.]+) ms, at most (\d+)", said, re.M).groups())
    assert rate > 909
    assert rate == pytest.approx(1e3 / least_ms, rel=0.01)
