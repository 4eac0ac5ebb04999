"""Prometheus: one process by a collector, several by files; and the dashboard's queries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.events import SAMPLED
from sqlmodel_cache.instrumentation import metrics, prometheus
from sqlmodel_cache.stats import LocalStats, Stats
from tests.operating.models import Hero, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """Return a registry of the test's own, with the cache in it."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    made = CollectorRegistry()
    remove = prometheus.install(made)
    yield made
    remove()
    assert generate_latest(made) == b""


@pytest.fixture
def used(engine: Engine) -> None:
    """Use the cache in every way there is."""
    SQLModelCache.configure("memory://")
    read(engine, Hero, 1, times=SAMPLED)
    read(engine, Hero, 1, execution_options={"cache": False})
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Deadpool"
        session.commit()


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Return what a scrape has, by name and labels as they are written."""
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


@pytest.mark.usefixtures("used")
def test_counts(registry: CollectorRegistry) -> None:
    """Those of stats(), by model, outcome and reason."""
    found = samples(registry)
    prefix = "sqlmodel_cache_"
    assert found[prefix + 'lookups_total{"model": "Hero", "outcome": "hit"}'] == SAMPLED
    assert found[prefix + 'lookups_total{"model": "Hero", "outcome": "miss"}'] == 1
    assert found[prefix + 'bypasses_total{"model": "Hero", "reason": "cache_false"}'] == 1
    assert found[prefix + 'fills_total{"model": "Hero"}'] == 1
    assert found[prefix + 'invalidations_total{"model": "Hero"}'] == 1
    assert found[prefix + "breaker_open{}"] == found[prefix + "queue{}"] == 0
    assert prefix + 'saved_seconds{"model": "Hero"}' in found


def test_local_copies(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process keeps any."""
    assert not any("local" in name for name in samples(registry))
    local = LocalStats(hits=7, entries=3, bytes=900, emptied=2, listening=False)
    monkeypatch.setattr(metrics, "current", lambda: Stats(local=local))
    found = samples(registry)
    prefix = "sqlmodel_cache_local_"
    assert found[prefix + "hits_total{}"] == 7
    assert found[prefix + "emptied_total{}"] == 2
    assert found[prefix + "entries{}"] == 3
    assert found[prefix + "size_bytes{}"] == 900
    assert found[prefix + "deaf{}"] == 1


@pytest.mark.usefixtures("used")
def test_durations(registry: CollectorRegistry) -> None:
    """Histograms that rise, and end with all."""
    found = samples(registry)
    name = "sqlmodel_cache_duration_seconds"
    buckets = [
        value for key, value in found.items() if key.startswith(f"{name}_bucket") and "miss" in key
    ]
    assert buckets == sorted(buckets)
    assert len(buckets) == len(metrics.BOUNDS) + 1
    assert found[f'{name}_count{{"model": "Hero", "step": "miss"}}'] == buckets[-1] == 1
    expected = SQLModelCache.stats().models["Hero"].latencies["miss"].total
    assert found[f'{name}_sum{{"model": "Hero", "step": "miss"}}'] == pytest.approx(expected)


def test_unconfigured(registry: CollectorRegistry) -> None:
    """A scrape before configure() has nothing, and is no error."""
    assert samples(registry) == {}


@pytest.mark.usefixtures("used")
def test_what_belongs_to_no_model(registry: CollectorRegistry) -> None:
    """Is exported under the empty name."""
    _state.active.tally.unattributed.lost = 3
    assert samples(registry)['sqlmodel_cache_lost_total{"model": ""}'] == 3


@pytest.mark.usefixtures("used")
def test_no_label_has_a_key_or_a_value(registry: CollectorRegistry) -> None:
    """Labels are models, outcomes, reasons and steps."""
    names = set(re.findall(r'"(\w+)": ', " ".join(samples(registry))))
    assert names == {"model", "outcome", "reason", "step", "le"}
    assert b"Dead" not in generate_latest(registry)


@pytest.mark.usefixtures("used")
def test_the_dashboard_asks_for_what_there_is(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every query of the Grafana dashboard names a metric that is exported."""
    stats = replace(SQLModelCache.stats(), local=LocalStats())
    monkeypatch.setattr(metrics, "current", lambda: stats)
    exported = {key.partition("{")[0] for key in samples(registry)}
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [variable["query"] for variable in board["templating"]["list"]]
    named = set(re.findall(r"sqlmodel_cache_\w+", " ".join(asked)))
    assert named <= exported
    assert {metrics.prometheus_name(m) for m in metrics.GAUGES} <= named
    assert {metrics.prometheus_name(m) + "_total" for m in metrics.COUNTERS} <= named
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_metric_is_documented() -> None:
    """In docs/operating.md."""
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    for metric in (*metrics.COUNTERS, *metrics.GAUGES, metrics.DURATION):
        suffix = "_total" if metric in metrics.COUNTERS else ""
        assert f"`{metrics.prometheus_name(metric)}{suffix}`" in text


PROCESS = """
import sys
from sqlalchemy import create_engine
from prometheus_client import CollectorRegistry
from sqlmodel_cache import SQLModelCache
from sqlmodel_cache.instrumentation import prometheus
from sqlmodel_cache.stats import LocalStats, Stats
from tests.operating.models import Hero, read
SQLModelCache.configure("memory://")
prometheus.install(CollectorRegistry())
read(create_engine(sys.argv[1]), Hero, 1, times=int(sys.argv[2]))
"""
SCRAPE = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


@pytest.mark.usefixtures("engine")
def test_several_processes(sqlite_url: str, tmp_path: Path) -> None:
    """In multiprocess mode a scrape adds up what each process wrote, to its last moment."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }  # fmt: skip

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    python(PROCESS, sqlite_url, str(SAMPLED + 1))
    python(PROCESS, sqlite_url, "3")
    out = python(SCRAPE)
    hits = SAMPLED + 2
    assert f'sqlmodel_cache_lookups_total{{model="Hero",outcome="hit"}} {hits}.0' in out
    assert 'sqlmodel_cache_duration_seconds_count{model="Hero",step="miss"} 2.0' in out


def test_files_are_written_by_a_thread_that_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new since the last time, also of a new cache; nothing is left behind."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")  # read by the client at import
    registry = CollectorRegistry()
    remove = prometheus.install(registry)
    name = "sqlmodel_cache_lookups_total"
    for total in (2, 4):
        SQLModelCache.configure("memory://")
        read(engine, Hero, 1, times=3)
        remove.__self__.write()  # type: ignore[attr-defined]
        found = registry.get_sample_value(name, {"model": "Hero", "outcome": "hit"})
        assert found == total
    remove()
    assert generate_latest(registry) == b""
    assert "sqlmodel-cache-prometheus" not in {one.name for one in threading.enumerate()}


@pytest.mark.parametrize(
    ("package", "extra"),
    [("prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry")],
)
def test_without_the_extra(package: str, extra: str) -> None:
    """The error names it."""
    code = f"import sys; sys.modules[{package!r}] = None\nimport sqlmodel_cache.instrumentation."
    done = subprocess.run(
        [sys.executable, "-c", code + extra], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"ImportError: install the extra: pip install 'sqlmodel-cache[{extra}]'" in done.stderr
