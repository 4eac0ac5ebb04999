"""P8: what a commit costs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import CachedRow
from benchmarks.timing import Case, compare, ratio


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P8, through Redis and in process."""
    if place.postgres is None:
        yield Skipped("P8", "no PostgreSQL")
        return
    if place.redis_url is None:
        yield Skipped("P8", "no Redis")
    else:
        yield _commit(place, place.redis_url, "Redis", 1.20)
    yield _commit(place, "memory://", "memory", None)


def _commit(place: Place, transport: str, name: str, target: float | None) -> Measured:
    score = count()
    with configured(transport), Session(place.postgres, expire_on_commit=False) as session:
        row = session.get(CachedRow, 2)
        assert row is not None

        def change() -> None:
            row.score = next(score)
            session.commit()

        cached, plain = compare(
            place.pace, Case("with", change), Case("without", change, around=without)
        )
    what = f"commit of one changed row, PostgreSQL, with the cache ({name}) / without"
    return Measured("P8", what, ratio(cached, plain), sides(cached, plain), target)
