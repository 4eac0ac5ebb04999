"""What every back-end exports, once: names, help, labels, and where the numbers come from.

No label has a key or a value of a row in it. What belongs to no model has the model "".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlmodel_cache import _state
from sqlmodel_cache.stats import ModelStats, Stats, add_up_models


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` without prefix and without the unit's or a counter's suffix."""

    name: str
    help: str
    labels: tuple[str, ...] = ("model",)


LOOKUPS: Final = Metric("lookups", "Reads that asked the store.", ("model", "outcome"))
BYPASSES: Final = Metric("bypasses", "Reads that did not ask the store.", ("model", "reason"))
FILLS: Final = Metric("fills", "Rows stored.")
INVALIDATIONS: Final = Metric("invalidations", "Rows and whole models forgotten.")
ERRORS: Final = Metric("errors", "Operations that failed, and unreadable entries.")
LOST: Final = Metric("lost", "Writes that could not be invalidated.")
LOCAL_HITS: Final = Metric("local_hits", "Hits by copies in the process, among all hits.", ())
LOCAL_EMPTIED: Final = Metric(
    "local_emptied", "How often all copies were dropped because no messages came.", ()
)
COUNTERS: Final = (
    *(LOOKUPS, BYPASSES, FILLS, INVALIDATIONS, ERRORS, LOST),
    *(LOCAL_HITS, LOCAL_EMPTIED),
)

DURATION: Final = Metric(
    "duration", "How long each step takes. One hit of 16 is timed.", ("model", "step")
)

SAVED: Final = Metric("saved", "Seconds that the cache saved by now; negative: that it cost.")
BREAKER: Final = Metric("breaker_open", "1 while the store is left alone.", ())
QUEUE: Final = Metric("queue", "Invalidations that wait for the store.", ())
LOCAL_ENTRIES: Final = Metric("local_entries", "Copies in the process.", ())
LOCAL_BYTES: Final = Metric("local_size_bytes", "What the copies take, as an estimate.", ())
LOCAL_DEAF: Final = Metric("local_deaf", "1 while copies are unused, as no messages come.", ())
GAUGES: Final = (SAVED, BREAKER, QUEUE, LOCAL_ENTRIES, LOCAL_BYTES, LOCAL_DEAF)

# Bounds of histograms in seconds, powers of 2 of a nanosecond: 16 us to 4.3 s.
BOUNDS: Final = tuple(2**bits / 1e9 for bits in range(14, 33))


def current() -> Stats | None:
    """Return the counts of the active cache, None while nothing is configured."""
    return None if _state.active is None else _state.active.stats()


def models_of(stats: Stats) -> dict[str, ModelStats]:
    """Return the counts by model; under "" those that belong to none."""
    known = add_up_models(stats.models.values())
    bypasses = {
        reason: number - known["bypasses"].get(reason, 0)
        for reason, number in stats.bypasses.items()
    }
    rest = ModelStats(lost=stats.lost - known["lost"], bypasses=bypasses)
    return {**stats.models, "": rest}


def counts(stats: Stats) -> Iterator[tuple[Metric, tuple[str, ...], int]]:
    """Yield (counter, values of its labels, count)."""
    for name, model in models_of(stats).items():
        if name:
            yield LOOKUPS, (name, "hit"), model.hits
            yield LOOKUPS, (name, "miss"), model.misses
            yield FILLS, (name,), model.fills
            yield INVALIDATIONS, (name,), model.invalidations
            yield ERRORS, (name,), model.errors
        if name or model.lost:
            yield LOST, (name,), model.lost
        for reason, number in model.bypasses.items():
            if number:
                yield BYPASSES, (name, reason), number
    if stats.local is not None:
        yield LOCAL_HITS, (), stats.local.hits
        yield LOCAL_EMPTIED, (), stats.local.emptied


def levels(stats: Stats) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
    """Yield (gauge, values of its labels, level)."""
    for name, model in stats.models.items():
        if (saved := model.saved_seconds) is not None:
            yield SAVED, (name,), saved
    yield BREAKER, (), float(stats.breaker != "closed")
    yield QUEUE, (), stats.queue
    if stats.local is not None:
        yield LOCAL_ENTRIES, (), stats.local.entries
        yield LOCAL_BYTES, (), stats.local.bytes
        yield LOCAL_DEAF, (), float(not stats.local.listening)


def labelled(metric: Metric, values: tuple[str, ...]) -> Mapping[str, str]:
    """Return labels as a mapping."""
    return dict(zip(metric.labels, values, strict=True))


def prometheus_name(metric: Metric) -> str:
    """Return a metric's name in Prometheus; counters get their suffix from its client."""
    unit = "_seconds" if metric in (DURATION, SAVED) else ""
    return f"sqlmodel_cache_{metric.name}{unit}"
