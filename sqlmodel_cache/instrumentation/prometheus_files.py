"""Prometheus in multiprocess mode, where a scrape sees only what was written into files.

A daemon thread writes what is new every five seconds, and once more at the end of the process.
"""

from __future__ import annotations

import atexit
from threading import Lock
from typing import Any, Literal

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import CollectorRegistry

from sqlmodel_cache import _state
from sqlmodel_cache.instrumentation import metrics
from sqlmodel_cache.instrumentation.metrics import prometheus_name as name
from sqlmodel_cache.latency import Latency
from sqlmodel_cache.stats import Stats
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.ticker import Ticker


class Files:
    """Writes what is new since the last time into the files of multiprocess mode."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: dict[metrics.Metric, Any] = {
            m: Counter(name(m), m.help, m.labels, registry=registry) for m in metrics.COUNTERS
        }
        mode: Literal["livesum"] = "livesum"
        for m in metrics.GAUGES:
            self._made[m] = Gauge(
                name(m),
                m.help,
                m.labels,
                registry=registry,
                multiprocess_mode=mode,
            )
        m = metrics.DURATION
        self._made[m] = Histogram(
            name(m), m.help, m.labels, registry=registry, buckets=metrics.BOUNDS
        )
        self._cache: Any = None
        self.after_fork()
        tell_of_forks(self)
        self._ticker = Ticker("sqlmodel-cache-prometheus", self.write)
        atexit.register(self.write)

    def after_fork(self) -> None:
        """Begin at nothing in a forked child, as its counts do."""
        self._lock = Lock()
        self._written: dict[tuple[Any, ...], int] = {}

    def write(self) -> None:
        """Write what is new."""
        with self._lock:
            if self._cache is not _state.active:  # another configure(): its counts begin at nothing
                self._cache = _state.active
                self._written.clear()
            stats = metrics.current()
            if stats is not None:
                self._write(stats)

    def _write(self, stats: Stats) -> None:
        for metric, labels, count in metrics.counts(stats):
            self._at(metric, labels).inc(self._new((metric, labels), count))
        for metric, labels, level in metrics.levels(stats):
            self._at(metric, labels).set(level)
        for model_name, model in stats.models.items():
            for step, latency in model.latencies.items():
                self._observe((model_name, step), latency)

    def _observe(self, labels: tuple[str, str], latency: Latency) -> None:
        histogram = self._at(metrics.DURATION, labels)
        for seconds, number in latency.midpoints():
            for _ in range(self._new((labels, seconds), number)):
                histogram.observe(seconds)

    def _at(self, metric: metrics.Metric, labels: tuple[str, ...]) -> Any:
        made = self._made[metric]
        return made.labels(*labels) if labels else made

    def _new(self, key: tuple[Any, ...], count: int) -> int:
        """Return what was added since the last call."""
        before, self._written[key] = self._written.get(key, 0), count
        return max(0, count - before)

    def close(self) -> None:
        """Write once more, and no longer."""
        self._ticker.close()
        self.write()
        atexit.unregister(self.write)
        for made in self._made.values():
            self._registry.unregister(made)
