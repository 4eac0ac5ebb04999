"""P5: what a miss costs that fills the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import MANY, CachedRow, PlainRow
from benchmarks.timing import Case, compare, ratio
from sqlmodel_cache import SQLModelCache


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P5."""
    if place.redis_url is None:
        yield Skipped("P5", "no Redis")
        return
    engine = place.postgres or place.sqlite
    # A slice must not come to rows that it has filled already: MANY is all there are.
    pace = replace(place.pace, slice_=min(place.pace.slice_, 0.02))
    numbers = count()

    @contextmanager
    def emptied() -> Iterator[None]:
        nonlocal numbers
        raw.flushdb()
        numbers = count()
        yield

    def miss() -> None:
        session.get(CachedRow, 1 + next(numbers) % MANY)

    def plain() -> None:
        key = f"raw:{next(numbers)}"
        raw.execute_command("MGET", key, "raw:epoch")
        other.get(PlainRow, 1 + next(numbers) % MANY)
        raw.execute_command("SET", key, value)
        raw.execute_command("SET", "raw:epoch", "x")

    value = b"v" * 160
    with place.client() as raw, configured(place.redis_url):
        with Session(engine) as session, Session(engine) as other:
            filled, bare = compare(
                pace,
                Case("miss", miss, around=emptied),
                Case("raw", plain, around=without),
            )
        counted = SQLModelCache.stats()
        assert counted.hits == 0, f"not what was to be measured: {counted}"
        assert counted.fills == counted.misses, f"not what was to be measured: {counted}"
    what = f"miss and fill, Redis / {engine.name} get and three raw commands"
    yield Measured("P5", what, ratio(filled, bare), sides(filled, bare), 1.25)
