"""P6 and P7: many at once, as concurrent tasks and in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import redis.asyncio
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, col, select

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import CachedRow, PlainRow, fill_tables
from benchmarks.timing import ON_CPU, Case, compare, ratio
from sqlmodel_cache import SQLModelCache, get_many

CROWD = 100
KEYS = list(range(1, CROWD + 1))


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P6 and both halves of P7."""
    if place.redis_url is None:
        yield Skipped("P6", "no Redis")
    else:
        yield _tasks(place, place.redis_url)
    yield _in_process(place)
    if place.redis_url is None:
        yield Skipped("P7b", "no Redis")
    else:
        yield _through_redis(place, place.redis_url)


def _tasks(place: Place, url: str) -> Measured:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    with asyncio.Runner() as runner, configured(url):
        runner.run(_fill(engine))
        raw = redis.asyncio.Redis.from_url(url)
        sessions = [AsyncSession(engine) for _ in KEYS]

        async def hits() -> None:
            await asyncio.gather(
                *(one.get(CachedRow, key) for one, key in zip(sessions, KEYS, strict=True))
            )

        async def gets() -> None:
            await asyncio.gather(*(raw.get(f"raw:{key}") for key in KEYS))

        async def end() -> None:
            await asyncio.gather(*(one.close() for one in sessions))
            await raw.aclose()
            await engine.dispose()

        runner.run(hits())
        before = SQLModelCache.stats().misses
        crowd, plain = compare(
            place.pace,
            Case("hits", lambda: runner.run(hits()), of=CROWD),
            Case("raw", lambda: runner.run(gets()), of=CROWD),
        )
        assert SQLModelCache.stats().misses == before, "not what was to be measured"
        runner.run(end())
    what = f"async hit, {CROWD} tasks at once / as many raw redis.asyncio GETs"
    return Measured("P6", what, ratio(crowd, plain), sides(crowd, plain), 0.5)


async def _fill(engine: object) -> None:
    async with engine.begin() as connection:  # type: ignore[attr-defined]
        await connection.run_sync(fill_tables)


def _in_process(place: Place) -> Measured:
    query = select(PlainRow).where(col(PlainRow.id).in_(KEYS))
    with configured("memory://"):
        with Session(place.sqlite) as session:
            get_many(session, CachedRow, KEYS)
        with Session(place.sqlite) as session, Session(place.sqlite) as other:
            many, plain = compare(
                place.pace,
                Case("get_many", lambda: get_many(session, CachedRow, KEYS)),
                Case("IN", lambda: other.exec(query).all(), around=without),
                clock=ON_CPU,
            )
        assert SQLModelCache.stats().misses == CROWD, "not what was to be measured"
    what = f"get_many of {CROWD} hits in process / the IN query, SQLite in memory"
    return Measured("P7a", what, ratio(many, plain), sides(many, plain), 0.6)


def _through_redis(place: Place, url: str) -> Measured:
    with place.client() as raw, configured(url):
        with Session(place.sqlite) as session:
            get_many(session, CachedRow, KEYS)
        keys = [*raw.keys("*:i*"), *raw.keys("*!epoch")]
        with Session(place.sqlite) as session:
            many, plain = compare(
                place.pace,
                Case("get_many", lambda: get_many(session, CachedRow, KEYS)),
                Case("MGET", lambda: raw.mget(keys)),
            )
        assert SQLModelCache.stats().misses == CROWD, "not what was to be measured"
    what = f"get_many of {CROWD} hits through Redis / the raw MGET"
    return Measured("P7b", what, ratio(many, plain), sides(many, plain), 9)
