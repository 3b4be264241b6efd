"""The daemon with a fault to come: `prove_fault.py FILE run --config ...`. Once FILE is there, the next inference ends in a kernel
that traps; CUDA then refuses every call of this process, as it does after a fault of the GPU's own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hooked import HookedEvent
from kernels import break_context

from edge_agent import cli
from edge_agent.inference import tensorrt
from edge_agent.inference.tensorrt.cuda import Gpu


class FailingGpu(Gpu):
    """Breaks once, in front of the event that ends an inference."""

    arm: Path
    is_broken = False

    def event(self) -> Any:
        return HookedEvent(super().event(), self._break)

    def _break(self, stream: Any) -> None:
        if not self.is_broken and self.arm.exists():
            self.is_broken = True
            break_context(int(stream.handle))


def main(arguments: list[str]) -> int:
    FailingGpu.arm = Path(arguments[0])
    tensorrt.Gpu = FailingGpu  # type: ignore[attr-defined]
    return cli.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
