"""Prometheus: counts and latencies of this process on the application's own `/metrics`.

A collector that reads `stats()` when it is scraped: a hit pays nothing for it. In multiprocess
mode (`PROMETHEUS_MULTIPROC_DIR`) see `prometheus_files`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

try:
    from prometheus_client import REGISTRY
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import CollectorRegistry
except ImportError as error:
    raise ImportError("install the extra: pip install 'sqlmodel-cache[prometheus]'") from error

from sqlmodel_cache.instrumentation import metrics
from sqlmodel_cache.instrumentation.metrics import prometheus_name as name


def install(registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Export the active cache, whichever it is, to `registry`; return what ends that."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from sqlmodel_cache.instrumentation.prometheus_files import Files

        return Files(registry).close
    collector = _Collector()
    registry.register(collector)
    return lambda: registry.unregister(collector)


class _Collector:
    """Makes metrics of `stats()`, at each scrape."""

    def describe(self) -> list[Metric]:
        """Return nothing: a registry need not ask for counts to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        stats = metrics.current()
        if stats is None:
            return
        families: dict[metrics.Metric, Any] = {
            **{m: CounterMetricFamily(name(m), m.help, labels=m.labels) for m in metrics.COUNTERS},
            **{m: GaugeMetricFamily(name(m), m.help, labels=m.labels) for m in metrics.GAUGES},
        }
        for metric, labels, value in (*metrics.counts(stats), *metrics.levels(stats)):
            families[metric].add_metric(labels, value)
        yield from families.values()
        metric = metrics.DURATION
        family = HistogramMetricFamily(name(metric), metric.help, labels=metric.labels)
        for model_name, model in stats.models.items():
            for step, latency in model.latencies.items():
                buckets = [(repr(bound), latency.within(bound)) for bound in metrics.BOUNDS]
                buckets.append(("+Inf", latency.count))
                family.add_metric((model_name, step), buckets, latency.total)
        yield family
