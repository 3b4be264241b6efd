"""What Prometheus reads. In: counters that other rooms keep for themselves. Out: one HTTP page, on the thread `metrics`.

Nothing is counted here and nothing here is waited for: a scrape reads plain numbers, each owned by one other thread. A port
that is taken, a sensor that is missing and a peer that never finishes its request cost metrics, never a part.
"""

from edge_agent.metrics.server import MetricsServer, open_metrics
from edge_agent.metrics.station import Sources

__all__ = ["MetricsServer", "Sources", "open_metrics"]
