"""`stats` and `watch`: the counts of every process of a deployment, added up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from sqlmodel_cache import clock
from sqlmodel_cache.cli import show
from sqlmodel_cache.cli.target import DEFAULT_PREFIX, Json, Prefix, Url, opened, problems
from sqlmodel_cache.stats import ModelStats, Stats, merge
from sqlmodel_cache.transport.bulletin import Report, collect

NOBODY = (
    "No process publishes its counts under this prefix: configure(publish_stats=True), or"
    " SQLMODEL_CACHE_PUBLISH_STATS=1"
)


def stats(url: Url = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show the counts of all processes that publish theirs, since each was configured."""
    with problems(), opened(url) as store:
        reports = collect(store.execute, prefix or DEFAULT_PREFIX)
    total = merge(report.stats for report in reports)
    if as_json:
        processes = [
            {"process": one.process, "host": one.host, "pid": one.pid, "since": one.since}
            for one in reports
        ]
        return show.print_json({"processes": processes, "stats": total.as_dict()})
    out = show.console()
    if not reports:
        return out.print(NOBODY)
    out.print(show.stats_table(_title(reports, total), total))
    if total.bypasses:
        worst = sorted(total.bypasses.items(), key=lambda item: -item[1])
        out.print(show.table("Bypasses", ("reason", "reads"), worst))
    compared = show.comparisons(total)
    if compared is not None:
        out.print(compared)
    return None


def watch(
    url: Url = None,
    prefix: Prefix = None,
    as_json: Json = False,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = 2.0,
    count: Annotated[
        int, typer.Option("--count", min=0, help="Stop after so many looks; 0: never.")
    ] = 0,
) -> None:
    """Show what happens now: hit rate, reads and invalidations a second, bypasses; Ctrl-C ends it.

    Processes publish every five seconds, so the picture changes as often.
    """
    with problems(), opened(url) as store:
        looks = _looks(store, prefix or DEFAULT_PREFIX, interval, count)
        try:
            if as_json:
                for _, rates in looks:
                    show.print_json(rates)
                return
            with Live(console=show.console(), auto_refresh=False) as live:
                for reports, rates in looks:
                    live.update(_picture(reports, rates), refresh=True)
        except KeyboardInterrupt:
            return


def _looks(
    store: Any, prefix: str, interval: float, count: int
) -> Iterator[tuple[list[Report], dict[str, dict[str, Any]]]]:
    """Yield the reports, and each model's rates between the last two of each process."""
    pairs: dict[str, tuple[Report | None, Report]] = {}
    number = 0
    while True:
        reports = collect(store.execute, prefix)
        for report in reports:
            _, last = pairs.get(report.process, (None, None))
            if last is None or last.at != report.at:
                pairs[report.process] = (last, report)
        yield reports, _rates([pairs[report.process] for report in reports])
        number += 1
        if number == count:
            return
        time.sleep(interval)


def _rates(pairs: list[tuple[Report | None, Report]]) -> dict[str, dict[str, Any]]:
    """Return rates by model: each process's own counts by its own clock, added up."""
    rates: dict[str, dict[str, Any]] = {}
    for last, report in pairs:
        seconds = max(report.at - (report.since if last is None else last.at), 1e-3)
        for name, now in report.stats.models.items():
            then = (last.stats.models.get(name) if last is not None else None) or ModelStats()
            row = rates.setdefault(
                name, {"reads": 0.0, "hits": 0.0, "bypasses": 0.0, "invalidations": 0.0}
            )
            row["reads"] += (now.reads - then.reads) / seconds
            row["hits"] += (now.hits - then.hits) / seconds
            row["bypasses"] += (_bypasses(now) - _bypasses(then)) / seconds
            row["invalidations"] += (now.invalidations - then.invalidations) / seconds
    for row in rates.values():
        row["hit_rate"] = row["hits"] / row["reads"] if row["reads"] else None
    return dict(sorted(rates.items()))


def _bypasses(model: ModelStats) -> int:
    return sum(model.bypasses.values())


def _picture(reports: list[Report], rates: dict[str, dict[str, Any]]) -> RenderableType:
    if not reports:
        return NOBODY
    total = merge(report.stats for report in reports)
    columns = ("model", "hit rate", "reads/s", "bypasses/s", "invalidations/s")
    rows = (
        (
            name,
            show.share(row["hit_rate"]),
            f"{row['reads']:,.1f}",
            f"{row['bypasses']:,.1f}",
            f"{row['invalidations']:,.1f}",
        )
        for name, row in rates.items()
    )
    return Group(show.table(_title(reports, total), columns, rows))


def _title(reports: list[Report], total: Stats) -> str:
    oldest = max(clock.wall() - report.at for report in reports)
    return (
        f"{len(reports)} processes, counts at most {max(oldest, 0):.0f} s old; breaker"
        f" {total.breaker}, {total.queue} invalidations waiting"
    )
