"""P1 to P3: what a hit costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import CachedRow, PlainRow
from benchmarks.timing import ON_CPU, Case, compare, ratio
from sqlmodel_cache import SQLModelCache


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P1, P2 and P3."""
    yield _through_redis(place)
    yield _in_process(place)
    yield _with_session(place)


@contextmanager
def warmed(engine: Engine, transport: object) -> Iterator[Session]:
    """Give an open session, with row 1 in the cache and not in the session."""
    with configured(transport):
        with Session(engine) as session:
            session.get(CachedRow, 1)
        with Session(engine) as session:
            yield session
        counted = SQLModelCache.stats()
        assert counted.misses == 1, f"not what was to be measured: {counted}"
        assert not counted.bypasses, f"not what was to be measured: {counted}"


def _through_redis(place: Place) -> Measured | Skipped:
    if place.redis_url is None:
        return Skipped("P1", "no Redis")
    with place.client() as raw, warmed(place.sqlite, place.redis_url) as session:
        (epoch,) = raw.keys("*!epoch")
        (value,) = raw.keys("*:i1")
        hit, plain = compare(
            place.pace,
            Case("hit", lambda: session.get(CachedRow, 1)),
            Case("raw", lambda: raw.execute_command("MGET", value, epoch)),
        )
    what = "hit through Redis, open session / the raw command"
    return Measured("P1", what, ratio(hit, plain), sides(hit, plain), 1.25)


def _in_process(place: Place) -> Measured:
    with warmed(place.sqlite, "memory://") as session, Session(place.sqlite) as other:
        hit, plain = compare(
            place.pace,
            Case("hit", lambda: session.get(CachedRow, 1)),
            Case("get", lambda: other.get(PlainRow, 1), around=without),
            clock=ON_CPU,
        )
    what = "hit in process, open session / SQLite in memory"
    return Measured("P2", what, ratio(hit, plain), sides(hit, plain), 0.10)


def _with_session(place: Place) -> Measured | Skipped:
    engine = place.postgres
    if engine is None:
        return Skipped("P3", "no PostgreSQL")

    def read(model: type[CachedRow | PlainRow]) -> None:
        with Session(engine) as session:
            session.get(model, 1)

    with warmed(engine, "memory://"):
        hit, plain = compare(
            place.pace,
            Case("hit", lambda: read(CachedRow)),
            Case("get", lambda: read(PlainRow), around=without),
        )
    what = "with Session(): get, hit in process / PostgreSQL"
    return Measured("P3", what, ratio(hit, plain), sides(hit, plain), 0.06)
