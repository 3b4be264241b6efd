"""The daemon with a fault to come: `prove_fault.py FILE run --config ...`. Once FILE is there, the next inference ends in a kernel
that traps; CUDA then refuses every call of this process, as it does after a fault of the GPU's own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kernels import break_context

from edge_agent import cli
from edge_agent.inference import tensorrt
from edge_agent.inference.tensorrt.cuda import Gpu


class FailingGpu(Gpu):
    """Breaks once, in front of the event that ends an inference."""

    arm: Path
    is_broken = False

    def event(self) -> Any:
        return _Event(super().event(), self)


class _Event:
    def __init__(self, event: Any, gpu: FailingGpu) -> None:
        self._event, self._gpu = event, gpu
        self.query = event.query

    def record(self, stream: Any) -> None:
        if not self._gpu.is_broken and self._gpu.arm.exists():
            self._gpu.is_broken = True
            break_context(int(stream.handle))
        self._event.record(stream)


def main(arguments: list[str]) -> int:
    FailingGpu.arm = Path(arguments[0])
    tensorrt.Gpu = FailingGpu  # type: ignore[attr-defined]
    return cli.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
