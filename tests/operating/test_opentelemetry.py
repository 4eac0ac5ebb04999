"""OpenTelemetry: metrics of stats(), and attributes on the span around a read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.instrumentation import opentelemetry
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer
    from sqlalchemy import Engine


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """Return what reads the metrics."""
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    opentelemetry.install(provider)
    yield made
    provider.shutdown()


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    """Return a tracer whose spans are recorded."""
    provider = TracerProvider()
    yield provider.get_tracer("test")
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], Any]:
    """Return every value, by name and labels."""
    data = reader.get_metrics_data()
    return {
        (metric.name, *sorted(point.attributes.values())): point.value
        for resource in ([] if data is None else data.resource_metrics)
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_metrics(engine: Engine, reader: InMemoryMetricReader) -> None:
    """Counts, times and levels."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=3)
    read(engine, Hero, 1, execution_options={"cache": False})
    found = points(reader)
    assert found["sqlmodel_cache.lookups", "Hero", "hit"] == 2
    assert found["sqlmodel_cache.lookups", "Hero", "miss"] == 1
    assert found["sqlmodel_cache.bypasses", "Hero", "cache_false"] == 1
    assert found["sqlmodel_cache.timed", "Hero", "miss"] == 1
    assert found["sqlmodel_cache.duration", "Hero", "miss"] > 0
    assert found[("sqlmodel_cache.breaker_open",)] == 0


def test_unconfigured(reader: InMemoryMetricReader) -> None:
    """Nothing to tell, and no error."""
    assert points(reader) == {}


def test_span_attributes(engine: Engine, tracer: Tracer) -> None:
    """What happened within a span is counted on it, and on no other; it has no child of ours."""
    SQLModelCache.configure("memory://", observers=[opentelemetry.span_attributes])
    with tracer.start_as_current_span("request") as span:
        read(engine, Hero, 1, times=3)
        read(engine, Hero, 1, execution_options={"cache": False})
        with Session(engine) as session:
            session.get_one(Hero, 2).name = "Rusty"
            session.commit()
    assert dict(span.attributes) == {  # type: ignore[attr-defined]
        "sqlmodel_cache.misses": 2,
        "sqlmodel_cache.hits": 2,
        "sqlmodel_cache.bypasses": 1,
        "sqlmodel_cache.bypass_reason": "cache_false",
        "sqlmodel_cache.invalidations": 1,
    }
    with tracer.start_as_current_span("another") as span:
        read(engine, Hero, 1)
    assert dict(span.attributes) == {"sqlmodel_cache.hits": 1}  # type: ignore[attr-defined]


def test_without_a_span(engine: Engine) -> None:
    """Nobody listens, and nothing happens."""
    SQLModelCache.configure("memory://", observers=[opentelemetry.span_attributes])
    assert read(engine, Hero, 1, times=2).name == "Deadpond"
