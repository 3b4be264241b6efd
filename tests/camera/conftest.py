"""A V4L2 camera over a fake kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_v4l2 import Bench, bench_over
from fake_v4l2 import FakeKernel


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@pytest.fixture
def bench(kernel: FakeKernel) -> Iterator[Bench]:
    with bench_over(kernel) as bench:
        yield bench
