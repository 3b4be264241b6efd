"""The page that Prometheus scrapes. Each request has a thread of its own and few seconds in all; no peer holds up another."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.events import say
from edge_agent.listening import await_address
from edge_agent.metrics.machine import Gpus, Sample, of_disk, of_memory, of_temperatures, of_throttling
from edge_agent.metrics.station import Sources, of_station
from edge_agent.metrics.table import METRICS
from edge_agent.plc.statistics import BOUNDS_MS, Histogram
from edge_agent.settings import MetricsSettings

_PATIENCE_S = 5.0  # a peer that does not finish its request, or does not read the answer, within so long in all is dropped
_MOST_PEERS = 16  # at a time; one more is turned away
_POLL_S = 0.2
_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
_LE = (*(f"{ms / 1000:g}" for ms in BOUNDS_MS), "+Inf")


class StationCollector(Collector):
    """Reads everything anew for each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._readers: list[Callable[[], Iterable[Sample]]] = [
            partial(of_station, sources),
            partial(of_disk, sources.state),
            of_memory,
            of_temperatures,
            of_throttling,
            Gpus(),
        ]

    def collect(self) -> Iterator[Metric]:
        samples: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for read in self._readers:
            try:
                for name, labels, value in read():
                    samples[name].append((labels, value))
            except OSError:
                continue  # the disk or the kernel does not tell; the rest goes out
        for name, of_name in samples.items():
            metric = METRICS[name]
            family = _KINDS[metric.kind](metric.name, metric.meaning, labels=metric.labels)
            for labels, value in of_name:
                family.add_metric(labels, value)
            yield family
        yield from self._histograms()

    def _histograms(self) -> Iterator[Metric]:
        stages, verdicts = (
            HistogramMetricFamily(METRICS[name].name, METRICS[name].meaning, labels=METRICS[name].labels)
            for name in ("stage_seconds", "verdict_seconds")
        )
        for line, statistics in (self._sources.publisher.statistics or {}).items():
            _add(verdicts, (line,), statistics.verdict)
            for key, histogram in statistics.stages.copy().items():
                view, _, stage = key.rpartition("/")
                _add(stages, (line, view, stage), histogram)
        yield from (stages, verdicts)

    def describe(self) -> list[Metric]:
        return []  # so that nothing is read before the station is open


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets = list(zip(_LE, accumulate(histogram.counts.copy()), strict=True))
    family.add_metric(labels, buckets, histogram.sum_ms / 1000)


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Who scrapes is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each peer, and a clock that ends its connection, whatever it sends until then."""

    daemon_threads = True
    block_on_close = False  # `drop_all` ends them

    def __init__(self, *args: Any) -> None:
        self._peers: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def server_bind(self) -> None:
        try:
            super().server_bind()
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            await_address(self.socket, "{}:{}".format(*self.server_address[:2]))
            super().server_bind()

    def verify_request(self, *_: object) -> bool:
        return len(self._peers) < _MOST_PEERS

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._peers.add(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be had: whoever called closes the connection
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        clock = threading.Timer(_PATIENCE_S, _drop, (request,))
        clock.daemon = True
        try:
            clock.start()
            super().process_request_thread(request, client_address)
        except RuntimeError:  # no thread can be had for the clock, and no peer goes without one
            self.shutdown_request(request)
        finally:
            clock.cancel()
            self._forget(request)

    def _forget(self, peer: socket.socket) -> None:
        with self._lock:
            self._peers.discard(peer)

    def drop_all(self) -> None:
        with self._lock:
            for peer in self._peers:
                _drop(peer)

    def handle_error(self, *_: object) -> None:
        """A peer that went away in the middle of its answer is no event either."""


def _drop(peer: socket.socket) -> None:
    """Wake whoever reads from this connection or writes to it; its thread closes it."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)


class MetricsServer:
    """Serves `/metrics`. `close` ends it within a fraction of a second, whatever its peers do."""

    def __init__(self, settings: MetricsSettings, collector: Collector) -> None:
        """Raises OSError where the address cannot be had."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        ProcessCollector(registry=registry)
        page, lock = make_wsgi_app(registry), threading.Lock()

        def one_at_a_time(environ: Any, start_response: Any) -> Any:
            with lock:  # the page is made here, and sent without the lock
                return page(environ, start_response)

        family, _, _, _, where = socket.getaddrinfo(settings.address, settings.port, type=socket.SOCK_STREAM)[0]
        kind = type("_Server", (_Server,), {"address_family": family})
        self._server: _Server = make_server(str(where[0]), settings.port, one_at_a_time, kind, _Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.drop_all()


def open_metrics(settings: MetricsSettings, sources: Sources) -> MetricsServer | None:
    """Serve the station's metrics; None, and an event, where the address cannot be had: parts are judged all the same."""
    try:
        server = MetricsServer(settings, StationCollector(sources))
    except (OSError, OverflowError) as error:
        say("metrics.failed", address=settings.address, port=settings.port, why=str(error))
        return None
    server.start()
    return server
