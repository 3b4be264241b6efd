"""The process that builds one engine: what a builder takes of memory, and how it may die, is not the station's.

Run by `build.py` with a JSON order on standard input; JSON lines come back: progress, a sign of life, at last done or why not.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

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
    """One line from the builder. `kind` progress, alive, done, model (it never will), unavailable (it may)."""

    kind: str
    text: str = ""
    step: int = 0
    steps: int = 0


_lock = threading.Lock()


def tell(word: Word) -> None:
    """Write one line. Where nobody listens any more the station is gone, and this process with it."""
    with _lock:
        try:
            sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
            sys.stdout.buffer.flush()
        except OSError:
            os._exit(1)


def _stay_alive(ended: threading.Event) -> None:
    while not ended.wait(ALIVE_S):
        tell(Word(kind="alive"))


def build(order: Order) -> None:
    """Build and write the plan and the timing cache. Raises what `build_plan` raises, OSError."""
    library = load_library(order.library)
    timing = Path(order.timing)
    options = BuildOptions(order.workspace_mb, order.optimization, order.capabilities)

    def phase(name: str, step: int, steps: int) -> None:
        tell(Word(kind="progress", text=name, step=step, steps=steps))

    known = timing.read_bytes() if timing.is_file() else b""
    plan, learnt = build_plan(library, Path(order.onnx).read_bytes(), options, known, phase)
    write_whole(Path(order.plan), plan)
    if learnt:
        write_whole(timing, learnt)


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    ended = threading.Event()
    threading.Thread(target=_stay_alive, args=(ended,), daemon=True).start()
    try:
        build(order)
    except ConfigurationError as error:
        tell(Word(kind="model", text=str(error)))
    except (EngineUnavailable, OSError) as error:
        tell(Word(kind="unavailable", text=str(error)))
    except EdgeAgentError as error:
        tell(Word(kind="failed", text=str(error)))
    else:
        tell(Word(kind="done"))
    ended.set()
    return 0


if __name__ == "__main__":
    sys.exit(main())
