"""P10: what eight processes get done with the cache, and without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.place import Place
from benchmarks.report import Measured, Skipped
from benchmarks.timing import QUICK, ratio
from benchmarks.workload import CachedItem, CopiedItem, PlainItem, Round, fill_items, hired

PROCESSES = 8
# Share of reads, the least that the ratio must be. Where nobody writes, everything is a hit: that
# is what two cores, which Redis and the processes share, can give at most.
TARGETS = ((0.99, 5.0), (0.90, 2.0), (1.0, None))
SIDES = {CachedItem: "with the cache", CopiedItem: "with copies in the process"}


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P10 at 99 % and 90 % reads, and where nobody writes."""
    if place.redis_url is None or place.postgres is None:
        yield Skipped("P10", "no Redis or no PostgreSQL")
        return
    quick = place.pace is QUICK
    rows, seconds, repeats = (2_000, 0.5, 5) if quick else (100_000, 4.0, 9)
    fill_items(place.postgres, rows)
    url = place.postgres.url.render_as_string(hide_password=False)
    with hired(PROCESSES, url, place.redis_url, rows) as crew:
        crew.warm()
        for model in SIDES:
            crew.run(Round(model, reads=1.0, seconds=seconds))
        for reads, target in TARGETS:
            taken: dict[Any, list[float]] = {model: [] for model in (*SIDES, PlainItem)}
            for number in range(repeats):
                for model in taken if number % 2 else reversed(taken):
                    taken[model].append(crew.run(Round(model, reads=reads, seconds=seconds)))
            for model, side in SIDES.items():
                aim = target if model is CachedItem else None
                yield _measured(f"{reads:.0%} reads, {side}", aim, taken[model], taken[PlainItem])


def _measured(what: str, target: float | None, with_: list[float], bare: list[float]) -> Measured:
    middle = [sorted(side)[len(side) // 2] for side in (with_, bare)]
    shown = f"{middle[0]:.0f} / {middle[1]:.0f} operations a second"
    what = f"{PROCESSES} processes, Zipf, {what} / without"
    return Measured("P10", what, ratio(with_, bare), shown, target, at_least=True)
