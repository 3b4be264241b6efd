"""What metrics cost a part: the daemon on recorded maps without them, with them, and with them scraped, in turn, in one run.

Scraped every second, far more often than Prometheus does. CPU time of the whole process for each part is the honest measure where
other programs share the machine; parts per second, flat out, stand beside it.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.commands.benchmarks.plumbing import run_daemon, write_maps

_SIDES = ("off", "on", "scraped")
_ROUNDS = 5
_SCRAPE_S = 1.0  # Prometheus's own default is a minute
_PORT = 19108
_PUBLISHED = re.compile(rb"^edge_agent_published_total (\S+)$", re.M)


def measure_metrics(parts: int, ng_share: float) -> dict[str, Any]:
    """Take the three sides in turn, `_ROUNDS` times, each round in another order; return medians, and ratios within the rounds."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in _SIDES}
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="edge-agent-benchmark-") as text:
        folder = Path(text)
        write_maps(folder, ng_share)
        for number in range(_ROUNDS):
            first = number % len(_SIDES)
            for side in (*_SIDES[first:], *_SIDES[:first]):
                metrics = None if side == "off" else {"port": _PORT}
                with _scraping(seconds if side == "scraped" else None):
                    runs[side].append(run_daemon(folder, f"{number}-{side}", parts, 0, {"metrics": metrics}))
    return {
        **{f"cpu_us_per_part_{side}": round(1000 * _median(runs[side], _cpu_ms), 1) for side in _SIDES},
        **{f"ratio_cpu_{side}": round(_ratio(runs, side, _cpu_ms), 3) for side in _SIDES[1:]},
        **{f"parts_per_s_{side}": round(parts * _median(runs[side], _pace), 1) for side in _SIDES},
        **{f"ratio_parts_per_s_{side}": round(_ratio(runs, side, _pace), 3) for side in _SIDES[1:]},
        "scrapes": len(seconds),
        "scrape_p50_ms": round(statistics.median(seconds) * 1000, 1) if seconds else None,
        "unaccounted": sum(run["unaccounted"] for side in _SIDES for run in runs[side]),
        "parts": parts,
        "rounds": _ROUNDS,
    }


def _cpu_ms(run: dict[str, Any]) -> float:
    return float(run["cpu_ms_per_part"])


def _pace(run: dict[str, Any]) -> float:
    return 1 / float(run["seconds"])


def _median(runs: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(map(of, runs))


def _ratio(runs: dict[str, list[dict[str, Any]]], side: str, of: Callable[[dict[str, Any]], float]) -> float:
    """The median over the rounds of a side against that round's `off`."""
    return statistics.median(of(its) / of(off) for its, off in zip(runs[side], runs["off"], strict=True))


@contextlib.contextmanager
def _scraping(seconds: list[float] | None) -> Any:
    """Scrape until the block ends, every `_SCRAPE_S`; each scrape's time goes into `seconds`, where it found parts."""
    stop = threading.Event()

    def scrape(into: list[float]) -> None:
        while not stop.wait(_SCRAPE_S):
            began = time.monotonic()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/metrics", timeout=5) as page:
                found = _PUBLISHED.search(page.read())
                if found and float(found[1]) > 0:
                    into.append(time.monotonic() - began)

    thread = threading.Thread(target=scrape, args=(seconds,), daemon=True)
    if seconds is not None:
        thread.start()
    yield
    stop.set()
    if seconds is not None:
        thread.join()
