"""P10: what eight processes get done with the cache, and without it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.place import Place
from benchmarks.report import Measured, Skipped
from benchmarks.timing import QUICK, ratio
from benchmarks.workload import Round, fill_items, hired

PROCESSES = 8
TARGETS = ((0.99, 5.0), (0.90, 2.0))  # share of reads, the least that the ratio must be


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P10 at 99 % and 90 % reads."""
    if place.redis_url is None or place.postgres is None:
        yield Skipped("P10", "no Redis or no PostgreSQL")
        return
    quick = place.pace is QUICK
    rows, seconds, repeats = (2_000, 0.5, 5) if quick else (100_000, 4.0, 9)
    fill_items(place.postgres, rows)
    url = place.postgres.url.render_as_string(hide_password=False)
    with hired(PROCESSES, url, place.redis_url, rows) as crew:
        crew.run(Round(cached=True, reads=1.0, seconds=seconds * 5))  # the store is warm
        for reads, target in TARGETS:
            with_, bare = [], []
            for number in range(repeats):
                for cached in (True, False) if number % 2 else (False, True):
                    taken = crew.run(Round(cached=cached, reads=reads, seconds=seconds))
                    (with_ if cached else bare).append(taken)
            yield _measured(reads, target, with_, bare, rows)


def _measured(
    reads: float, target: float, with_: list[float], bare: list[float], rows: int
) -> Measured:
    found = ratio(with_, bare)
    middle = [sorted(side)[len(side) // 2] for side in (with_, bare)]
    what = f"{PROCESSES} processes, Zipf over {rows} rows, {reads:.0%} reads: with / without"
    shown = f"{middle[0]:.0f} / {middle[1]:.0f} operations a second"
    return Measured("P10", what, found, shown, target, at_least=True)
