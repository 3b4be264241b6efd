"""The desk tools need torch, which a station does not have: without it these tests are skipped."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of tools/ by its name, as `python tools/...` would."""
    for needed in ("torch", "onnx", "openvino"):
        pytest.importorskip(needed, reason=f"{needed} is not installed; `make tools` installs it")
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module
