"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Final

import typer
from rich.console import Console
from rich.table import Table

from sqlmodel_cache.latency import Latency
from sqlmodel_cache.stats import ModelStats, Stats

_WIDTH: Final = 140  # where there is no terminal to ask


def console() -> Console:
    """Return where tables go."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def print_json(value: object) -> None:
    """Print one line of JSON; what JSON does not know, as text."""
    typer.echo(json.dumps(value, default=str))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a table whose first column is text and whose others are numbers, or short."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(str, row))
    return made


def pairs(title: str, values: Mapping[str, object]) -> Table:
    """Return a table of names and values."""
    made = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        made.add_row(name, str(value))
    return made


def share(part: float | None) -> str:
    """Return a share as a percentage, a dash where it is not known."""
    return "-" if part is None else f"{part:.1%}"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that reads best, a dash for none."""
    if not seconds:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def stats_table(title: str, stats: Stats) -> Table:
    """Return every model, and their sum."""
    columns = (
        "model", "reads", "hit rate", "bypasses", "hit p50", "hit p99", "miss p50", "database p50",
        "invalidations", "errors", "lost", "the cache",
    )  # fmt: skip
    models: list[tuple[str, ModelStats]] = [*stats.models.items(), ("all", stats)]
    return table(title, columns, (_row(name, model) for name, model in models))


def _row(name: str, model: ModelStats) -> tuple[object, ...]:
    times = {step: model.latencies.get(step) or Latency() for step in ("hit", "miss", "database")}
    return (
        name,
        f"{model.reads:,}",
        share(model.hit_rate),
        f"{sum(model.bypasses.values()):,}",
        duration(times["hit"].p50),
        duration(times["hit"].p99),
        duration(times["miss"].p50),
        duration(times["database"].p50),
        f"{model.invalidations:,}",
        f"{model.errors:,}",
        f"{model.lost:,}",
        model.verdict,
    )


def comparisons(stats: Stats) -> Table | None:
    """Return what shadow mode and `verify` found, by model; None if nothing was compared."""
    lines = [
        (
            name,
            one.shadow_same,
            one.shadow_different,
            one.shadow_unsure,
            one.verified,
            one.inconsistent,
            ", ".join(f"{column} {number}" for column, number in sorted(one.differing.items())),
        )
        for name, one in stats.models.items()
        if any(one.comparisons)
    ]
    if not lines:
        return None
    columns = ("model", "same", "different", "unsure", "verified", "inconsistent", "columns")
    return table("Compared with the database", columns, lines)
