"""The process that builds one engine: what a builder takes of memory, and how it may die, is not the station's.

Run by `build.py` with a JSON order on standard input; JSON lines come back: progress, a sign of life, at last done or why not. They
have the pipe to themselves: what a library prints on standard output goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from edge_agent.errors import ConfigurationError, EdgeAgentError, EngineUnavailable
from edge_agent.inference.tensorrt.api import BuildOptions, build_plan, load_library
from edge_agent.inference.tensorrt.store import write_whole

ALIVE_S = 2.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Files to read and to write, and what to build with."""

    onnx: str
    plan: str
    timing: str
    library: str
    workspace_mb: int
    optimization: int
    capabilities: tuple[str, ...] = ()
    device: int = 0


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line from the builder. `kind` progress, alive, done, model (it never will), unavailable (it may), failed, disk."""

    kind: str
    text: str = ""
    step: int = 0
    steps: int = 0


class Teller:
    """Writes words to a file, whole lines, from any thread."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def tell(self, word: Word) -> None:
        """Write one line. Where nobody listens any more the station is gone, and this process with it."""
        with self._lock:
            try:
                self._out.write(msgspec.json.encode(word) + b"\n")
                self._out.flush()
            except OSError:
                os._exit(1)

    def stay_alive(self, ended: threading.Event) -> None:
        while not ended.wait(ALIVE_S):
            self.tell(Word(kind="alive"))


def build(order: Order, tell: Callable[[Word], None]) -> None:
    """Build and write the plan; the timing cache too, which only saves time. Raises what `build_plan` raises, OSError."""
    library = load_library(order.library)
    timing = Path(order.timing)
    options = BuildOptions(order.workspace_mb, order.optimization, order.capabilities)

    def phase(name: str, step: int, steps: int) -> None:
        tell(Word(kind="progress", text=name, step=step, steps=steps))

    known = b""
    with contextlib.suppress(OSError):
        known = timing.read_bytes()
    plan, learnt = build_plan(library, Path(order.onnx).read_bytes(), options, known, phase)
    write_whole(Path(order.plan), plan)
    if learnt:
        with contextlib.suppress(OSError):
            write_whole(timing, learnt)


def main() -> int:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    teller, ended = Teller(out), threading.Event()
    tell = teller.tell
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    threading.Thread(target=teller.stay_alive, args=(ended,), daemon=True).start()
    try:
        build(order, tell)
    except ConfigurationError as error:
        tell(Word(kind="model", text=str(error)))
    except EngineUnavailable as error:
        tell(Word(kind="unavailable", text=str(error)))
    except OSError as error:
        tell(Word(kind="disk", text=error.strerror or str(error)))
    except EdgeAgentError as error:
        tell(Word(kind="failed", text=str(error)))
    else:
        tell(Word(kind="done"))
    ended.set()
    return 0


if __name__ == "__main__":
    sys.exit(main())
