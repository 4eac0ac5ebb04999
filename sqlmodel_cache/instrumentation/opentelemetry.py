"""OpenTelemetry: counts as metrics, and attributes on the span in which a read happens.

Metrics are read from `stats()` when they are collected. No spans of our own: redis-py's
instrumentation has one for each command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

try:
    from opentelemetry import trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError as error:
    raise ImportError("install the extra: pip install 'sqlmodel-cache[opentelemetry]'") from error

from sqlmodel_cache.events import Event, Lookup
from sqlmodel_cache.instrumentation import metrics

PREFIX: Final = "sqlmodel_cache."
_PLURALS: Final = {"hit": "hits", "miss": "misses", "bypass": "bypasses", "failure": "failures"}


def install(provider: MeterProvider | None = None) -> None:
    """Export the active cache, whichever it is, as metrics. Call it once."""
    meter = get_meter("sqlmodel_cache", meter_provider=provider)
    for metric in metrics.COUNTERS:
        meter.create_observable_counter(
            PREFIX + metric.name, [_reads(metrics.counts, metric)], description=metric.help
        )
    for metric in metrics.GAUGES:
        unit = "s" if metric is metrics.SAVED else ""
        meter.create_observable_gauge(
            PREFIX + metric.name, [_reads(metrics.levels, metric)], unit, metric.help
        )
    duration = metrics.DURATION
    meter.create_observable_counter(PREFIX + "duration", [_seconds], "s", duration.help)
    meter.create_observable_counter(PREFIX + "timed", [_timed], "", "How many were timed.")


def span_attributes(event: Event) -> None:
    """Count what happens within the current span, on it: `configure(observers=[this])`.

    `sqlmodel_cache.hits`, `.misses`, `.bypasses`, `.failures`, `.invalidations`, and the last
    `.bypass_reason`. A span that is not recorded costs a look at it.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return None
    if not isinstance(event, Lookup):
        return _add(span, "invalidations", event.number)
    if event.reason is not None:
        span.set_attribute(PREFIX + "bypass_reason", event.reason.value)
    return _add(span, _PLURALS[event.outcome], 1)


def _add(span: Any, name: str, number: int) -> None:
    so_far = (getattr(span, "attributes", None) or {}).get(PREFIX + name, 0)
    span.set_attribute(PREFIX + name, so_far + number)


def _reads(source: Any, metric: metrics.Metric) -> Any:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        stats = metrics.current()
        for found, labels, value in () if stats is None else source(stats):
            if found is metric:
                yield Observation(value, metrics.labelled(metric, labels))

    return read


def _seconds(options: CallbackOptions) -> Iterable[Observation]:
    return _steps("total")


def _timed(options: CallbackOptions) -> Iterable[Observation]:
    return _steps("count")


def _steps(what: str) -> Iterable[Observation]:
    stats = metrics.current()
    for name, model in () if stats is None else stats.models.items():
        for step, latency in model.latencies.items():
            labels = metrics.labelled(metrics.DURATION, (name, step))
            yield Observation(getattr(latency, what), labels)
