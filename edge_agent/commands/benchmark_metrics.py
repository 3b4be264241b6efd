"""What metrics cost a part: the daemon on recorded maps with and without them, in turn, in one run.

With them the page is scraped all the time, far more often than Prometheus does. CPU time of the whole process for each part is
the honest measure where other programs share the machine; parts per second stand beside it.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from edge_agent.commands.benchmark_plumbing import run_daemon, write_maps

_ROUNDS = 5
_SCRAPE_S = 0.5  # Prometheus's own default is a minute
_PORT = 19108
_PUBLISHED = re.compile(rb"^edge_agent_published_total (\S+)$", re.M)


def measure_metrics(parts: int, ng_share: float) -> dict[str, Any]:
    """Alternate without and with metrics `_ROUNDS` times, each beginning every other round; return medians and ratios."""
    without: list[dict[str, Any]] = []
    scraped: list[dict[str, Any]] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="edge-agent-benchmark-") as text:
        folder = Path(text)
        write_maps(folder, ng_share)
        for number in range(_ROUNDS):
            order = [(without, None), (scraped, {"port": _PORT})]
            for side, metrics in order if number % 2 == 0 else reversed(order):
                with _scraping(seconds if metrics else None):
                    name = f"{number}-{'on' if metrics else 'off'}"
                    side.append(run_daemon(folder, name, parts, 0, {"metrics": metrics}))
    cpu_ms = [statistics.median(run["cpu_ms_per_part"] for run in side) for side in (without, scraped)]
    rate = [statistics.median(parts / run["seconds"] for run in side) for side in (without, scraped)]
    pairs = zip(without, scraped, strict=True)
    return {
        "cpu_us_per_part_without": round(cpu_ms[0] * 1000, 1),
        "cpu_us_per_part_with": round(cpu_ms[1] * 1000, 1),
        "ratio_cpu": round(statistics.median(b["cpu_ms_per_part"] / a["cpu_ms_per_part"] for a, b in pairs), 3),
        "parts_per_s_without": round(rate[0], 1),
        "parts_per_s_with": round(rate[1], 1),
        "ratio_parts_per_s": round(rate[1] / rate[0], 3),
        "scrapes": len(seconds),
        "scrape_p50_ms": round(statistics.median(seconds) * 1000, 1) if seconds else None,
        "unaccounted": sum(run["unaccounted"] for run in (*without, *scraped)),
        "parts": parts,
        "rounds": _ROUNDS,
    }


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
