"""P8: what a commit costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median
from urllib.parse import urlsplit

import redis
from sqlalchemy import Engine, create_engine
from sqlmodel import Session

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.relay import far
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import CachedRow
from benchmarks.timing import Case, compare, ratio
from sqlmodel_cache.orm.connections import ahead

DELAY = 0.4e-3  # seconds each way


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield P8, through Redis and in process, and over a network (P8n)."""
    if place.postgres is None:
        yield Skipped("P8", "no PostgreSQL")
        return
    if place.redis_url is None:
        yield Skipped("P8", "no Redis")
    else:
        yield _commit(place, place.redis_url, "Redis", 1.20)
    yield _commit(place, "memory://", "memory", None)
    if place.redis_url is not None:
        yield from _over_a_network(place, place.postgres, place.redis_url)


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


@contextmanager
def awaited() -> Iterator[None]:
    """Have fences awaited before the COMMIT inside the block, not sent ahead of the flush."""
    ahead.unwatch()
    try:
        yield
    finally:
        ahead.watch()


def _over_a_network(place: Place, postgres: Engine, redis_url: str) -> Iterator[Measured]:
    score = count()
    with far([_address(postgres), urlsplit(redis_url).netloc], DELAY) as ports:
        url = postgres.url.set(host="127.0.0.1", port=ports[0]).difference_update_query(["host"])
        engine = create_engine(url)
        with (
            configured(f"redis://127.0.0.1:{ports[1]}"),
            redis.Redis(port=ports[1]) as client,
            Session(engine, expire_on_commit=False) as session,
        ):
            row = session.get(CachedRow, 3)
            assert row is not None

            def change() -> None:
                row.score = next(score)
                session.commit()

            sent, waited, plain, ping = compare(
                place.pace,
                Case("sent ahead", change),
                Case("awaited", change, around=awaited),
                Case("without", change, around=without),
                Case("PING", client.ping),
            )
        engine.dispose()
    what = f"commit over a network, a PING takes {median(ping) * 1e3:.2f} ms, with Redis / without"
    yield Measured("P8n", what, ratio(sent, plain), sides(sent, plain), None)
    what = "the same, its fence awaited before the COMMIT"
    yield Measured("P8n", what, ratio(waited, plain), sides(waited, plain), None)


def _address(engine: Engine) -> str:
    url = engine.url
    folder = url.query.get("host") or url.host or "127.0.0.1"
    port = url.port or 5432
    return f"{folder}/.s.PGSQL.{port}" if str(folder).startswith("/") else f"{folder}:{port}"
