"""Everything that the page shows, as plain data for JSON. No key and no value of a row is in it.

The counts of all processes where they are published, of this process otherwise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlmodel_cache import _state, clock
from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.dashboard.history import History, Interval
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.stats import ModelStats, Stats, merge
from sqlmodel_cache.transport.breaker import State
from sqlmodel_cache.transport.bulletin import Report, collect
from sqlmodel_cache.transport.failures import is_store_failure

_SLOWEST: Final = 12  # steps that are shown
_OF_ALL: Final = ("models", "breaker", "queue", "local")  # what no single model has
_RECENT: Final = 12  # intervals whose invalidations are shown


def take(history: History) -> dict[str, Any]:
    """Return what is known now. Asks the store where processes publish there, and may wait."""
    cache = _state.active
    if cache is None:
        return {"configured": False}
    published = _published(cache)
    reports = published or [_own(cache)]
    intervals = history.note(reports, clock.real(), clock.wall())
    total = merge(report.stats for report in reports)
    return {
        "configured": True,
        "at": clock.wall(),
        "all_processes": bool(published),
        "processes": [_process(report) for report in reports],
        "breaker": total.breaker,
        "queue": total.queue,
        "local": None if total.local is None else total.local.as_dict(),
        "total": _row("", total),
        "models": [_row(name, model) for name, model in total.models.items()],
        "slowest": _slowest(total),
        "bypasses": list(_bypasses(total)),
        "history": [_interval(one) for one in intervals],
        "invalidations": list(islice(_invalidations(intervals), _RECENT)),
    }


def _published(cache: Any) -> list[Report]:
    """Return the reports of all processes; none where none is published, or the store is away."""
    execute = getattr(cache.stores.sync, "execute", None)
    if (
        not cache.config.publish_stats
        or execute is None
        or cache.stores.breaker.state is not State.CLOSED
    ):
        return []
    try:
        return collect(execute, cache.config.key_prefix)
    except Exception as error:
        if not is_store_failure(error):
            raise
        return []


def _own(cache: Any) -> Report:
    process = f"{os.getpid()}.{id(cache)}"
    return Report(process, socket.gethostname(), os.getpid(), 0.0, clock.wall(), cache.stats())


def _process(report: Report) -> dict[str, Any]:
    return {
        "host": report.host,
        "pid": report.pid,
        "since": report.since or None,
        "at": report.at,
        "reads": report.stats.reads,
        "hit_rate": report.stats.hit_rate,
        "breaker": report.stats.breaker,
        "queue": report.stats.queue,
    }


def _row(name: str, model: ModelStats) -> dict[str, Any]:
    row = model.as_dict() | {"name": name, "reads": model.reads, "verdict": model.verdict}
    row["compared"] = any(model.comparisons)
    return {key: value for key, value in row.items() if key not in _OF_ALL}


def _slowest(total: Stats) -> list[dict[str, Any]]:
    steps = [
        {"model": name, "step": step, "total": latency.total, **latency.as_dict()}
        for name, model in total.models.items()
        for step, latency in model.latencies.items()
    ]
    return sorted(steps, key=lambda one: -one["p99"])[:_SLOWEST]


def _bypasses(total: Stats) -> Iterator[dict[str, Any]]:
    for reason, number in sorted(total.bypasses.items(), key=lambda item: -item[1]):
        # A process of another release may publish a reason that this one does not know.
        cause = CAUSES[Bypass(reason)] if reason in set(Bypass) else None
        models = {
            name: model.bypasses[reason]
            for name, model in total.models.items()
            if model.bypasses.get(reason)
        }
        yield {
            "reason": reason,
            "number": number,
            "models": models,
            "why": "" if cause is None else cause.why,
            "remedy": "" if cause is None else cause.remedy,
        }


def _interval(one: Interval) -> dict[str, Any]:
    return {
        "until": one.until,
        "seconds": one.seconds,
        "hits": one.hits,
        "misses": one.misses,
        "bypasses": one.bypasses,
    }


def _invalidations(intervals: Sequence[Interval]) -> Iterator[dict[str, Any]]:
    """Yield what was forgotten in each interval that saw any, the newest first."""
    for one in reversed(intervals):
        if one.invalidations:
            models = dict(sorted(one.invalidations.items(), key=lambda item: -item[1]))
            yield {"until": one.until, "seconds": one.seconds, "models": models}
