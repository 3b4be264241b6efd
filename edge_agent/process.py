"""How the process itself runs: whose turn it is, on which core, and when garbage is collected."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterable

import cv2

from edge_agent.errors import ConfigurationError
from edge_agent.settings import CpuEngine, StationSettings

SWITCH_INTERVAL_S = 0.0005  # a busy Python thread otherwise holds back the publisher for another 5 ms
GC_THRESHOLDS = (50_000, 20, 100)


def prepare() -> None:
    """Before anything is opened: short turns for Python threads; no threads of OpenCV's, whose cores belong to the engine."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)


def settle(threads: Iterable[threading.Thread], core: int | None) -> None:
    """When everything is open: leave what the start made out of every later garbage collection, and collect rarely, since a
    part makes no cycles; and gather the threads on `core`, where the interpreter lock passes among them without waking
    another core and what they share stays in one cache."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for thread in threads:
        if core is not None and thread.native_id is not None:
            os.sched_setaffinity(thread.native_id, {core})


def python_seconds() -> float:
    """CPU time of the interpreter's own threads so far; what a library's threads compute is not in it."""
    clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threading.enumerate() if thread.ident is not None]
    return sum(time.clock_gettime(clock) for clock in clocks)


def choose_core(settings: StationSettings) -> int | None:
    """The core for the Python threads; None leaves it to the kernel.

    `auto` takes the last core this process may use, where one line runs beside an engine that computes elsewhere: an engine
    on the same cores, or the pictures of many lines, need them all. Raises ConfigurationError for a core that is not there."""
    allowed = sorted(os.sched_getaffinity(0))
    wanted = settings.python_core
    if wanted == "any":
        return None
    if wanted == "auto":
        is_alone = len(settings.lines) == 1 and not isinstance(settings.engine, CpuEngine)
        return allowed[-1] if is_alone and len(allowed) > 1 else None
    if wanted not in allowed:
        raise ConfigurationError(f"python_core: {wanted} is none of the cores this process may use ({_told(allowed)}). Name one.")
    return wanted


def _told(cores: list[int]) -> str:
    return ", ".join(map(str, cores))
