"""What tests of whole lines share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
