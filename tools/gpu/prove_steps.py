"""One step of `prove_gpu.py`, in a process of its own: `prove_steps.py NAME ANSWER < ORDER`, both in JSON.

A step that aborts, hangs or breaks its CUDA context takes nothing with it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import prove_daemon
import prove_engine
import prove_timing
from proving import Answer, Order, Skipped, Task

STEPS: dict[str, Callable[[Task], str]] = {
    "ahead": prove_engine.built_ahead,
    "precisions": prove_engine.precisions_ahead,
    "machine": prove_engine.machine,
    "engine": prove_engine.engine,
    "parity": prove_engine.parity,
    "graph": prove_engine.graph,
    "overlap": prove_timing.overlap,
    "overhead": prove_timing.overhead,
    "fault": prove_daemon.fault,
    "daemon": prove_daemon.daemon,
    "growth": prove_engine.growth,
    "benchmark": prove_daemon.benchmark,
}


def answer(name: str, order: Order) -> Answer:
    """Run the step; whatever it raises is its answer."""
    task = None
    try:
        task = Task(order)
        told, state = STEPS[name](task), "proved"
    except Skipped as why:
        told, state = str(why), "skipped"
    except Exception as error:  # noqa: BLE001  # a step ends for any reason, and the others go on
        traceback.print_exc()
        told, state = f"{type(error).__name__}: {error}", "NOT PROVED"
    return Answer(state=state, told=told, sheets=task.sheets if task is not None else [])  # type: ignore[arg-type]


def main() -> None:
    name, file = sys.argv[1:]
    found = answer(name, msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
    Path(file).write_bytes(msgspec.json.encode(found))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a context that a step left or broke cannot be taken down in order


if __name__ == "__main__":
    main()
