"""Every kind of transport under every kind of session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from sqlalchemy import Engine, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sqlmodel_cache import SQLModelCache, UnavailableError, UnsupportedError, get_many
from sqlmodel_cache.transport import MemoryTransport, RedisAsyncTransport, RedisSyncTransport
from tests.api.models import Hero, fill
from tests.api.user_transports import AsyncDictTransport, DictTransport, Failing
from tests.servers.redis_server import RedisServer


@pytest.fixture(autouse=True)
def rows(engine: Engine) -> None:
    """Store two rows; nothing is configured."""
    fill(engine, Hero(id=1, name="one"), Hero(id=2, name="two"))


def name_of(engine: Engine, key: int = 1) -> str:
    """Return a hero's name as a new session reads it."""
    with Session(engine) as session:
        return session.get_one(Hero, key).name


async def async_name_of(engine: AsyncEngine, key: int = 1) -> str:
    """Return a hero's name as a new async session reads it."""
    async with AsyncSession(engine) as session:
        return str((await session.get_one(Hero, key)).name)


def rename(engine: Engine, name: str) -> None:
    """Change hero 1 and commit."""
    with Session(engine) as session:
        session.get_one(Hero, 1).name = name
        session.commit()


async def async_rename(engine: AsyncEngine, name: str) -> None:
    """Change hero 1 and commit."""
    async with AsyncSession(engine) as session:
        (await session.get_one(Hero, 1)).name = name
        await session.commit()


def counts() -> tuple[int, int, int, int]:
    """Return hits, misses, fills and lost."""
    stats = SQLModelCache.stats()
    return stats.hits, stats.misses, stats.fills, stats.lost


SYNC: list[Callable[[str], Any]] = [
    lambda url: "memory://",
    lambda url: url,
    lambda url: MemoryTransport(),
    lambda url: RedisSyncTransport(redis.Redis.from_url(url)),
    lambda url: DictTransport(),
]
ASYNC: list[Callable[[str], Any]] = [
    *SYNC,
    lambda url: RedisAsyncTransport(redis.asyncio.Redis.from_url(url)),
    lambda url: AsyncDictTransport(),
]
NAMES = ["memory url", "redis url", "memory", "redis sync", "dict", "redis async", "async dict"]


@pytest.mark.parametrize("make", SYNC, ids=NAMES[:5])
def test_sync_sessions(
    engine: Engine, make: Callable[[str], Any], redis_url: str, key_prefix: str
) -> None:
    """Miss, fill, hit, invalidation by a row's commit, through each of them."""
    SQLModelCache.configure(make(redis_url), key_prefix=key_prefix)
    assert [name_of(engine), name_of(engine)] == ["one", "one"]
    assert counts() == (1, 1, 1, 0)
    rename(engine, "new")
    assert name_of(engine) == "new"
    assert counts()[3] == 0
    with Session(engine) as session:
        assert [row and row.name for row in get_many(session, Hero, [2, 1])] == ["two", "new"]


@pytest.mark.parametrize("make", ASYNC, ids=NAMES)
async def test_async_sessions(
    async_engine: AsyncEngine,
    make: Callable[[str], Any],
    redis_url: str,
    key_prefix: str,
) -> None:
    """The same through each of them, from the event loop."""
    transport = make(redis_url)
    SQLModelCache.configure(transport, key_prefix=key_prefix)
    assert [await async_name_of(async_engine) for _ in range(2)] == ["one", "one"]
    assert counts() == (1, 1, 1, 0)
    await async_rename(async_engine, "new")
    assert await async_name_of(async_engine) == "new"
    assert counts()[3] == 0
    if isinstance(transport, RedisAsyncTransport):
        await transport._client.aclose()


def test_users_transport_is_asked_for_no_more_than_needed(engine: Engine) -> None:
    """A lookup is one get, a miss one set with whole seconds, a commit one delete after it."""
    store = DictTransport()
    SQLModelCache.configure(store, default_ttl=77)
    name_of(engine)
    assert store.calls == ["get", "set 77"]
    store.calls.clear()
    name_of(engine)
    assert store.calls == ["get"]
    rename(engine, "new")
    store.calls.clear()
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "newer"
        assert "delete 1" not in store.calls
        session.flush()
        assert "delete 1" not in store.calls
        session.commit()
    assert store.calls[-1] == "delete 1"
    (key,) = store.data or ["nothing left"]
    assert key == "nothing left"


def test_users_transport_cannot_forget_a_model(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Explicit calls say so; a statement nobody can name is lost, and never silent."""
    SQLModelCache.configure(DictTransport())
    name_of(engine)
    for call in (lambda: SQLModelCache.invalidate(Hero), SQLModelCache.clear):
        with pytest.raises(UnsupportedError, match="cannot forget a whole model"):
            call()
    SQLModelCache.invalidate(Hero, 1)
    caplog.clear()
    with engine.begin() as connection:
        connection.execute(text("UPDATE hero SET name = 'raw'"))
    assert SQLModelCache.stats().lost >= 1
    assert "invalidation lost" in caplog.text


def test_bulk_statement_through_users_transport_names_its_rows(engine: Engine) -> None:
    """The keys are selected before the statement and deleted after the commit."""
    SQLModelCache.configure(DictTransport())
    assert [name_of(engine, 1), name_of(engine, 2)] == ["one", "two"]
    with Session(engine) as session:
        session.execute(update(Hero).where(Hero.name == "one").values(name="bulk"))
        session.commit()
    assert [name_of(engine, 1), name_of(engine, 2)] == ["bulk", "two"]
    assert counts()[3] == 0


@pytest.mark.parametrize("kind", ["async dict", "redis async"])
def test_async_only_transport_under_a_plain_session(
    engine: Engine, kind: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads are bypassed with one warning, writes are lost and logged; nothing raises."""
    make = ASYNC[NAMES.index(kind)]
    SQLModelCache.configure(make(redis_url))
    for _ in range(3):
        assert name_of(engine) == "one"
    assert SQLModelCache.stats().bypasses == {"transport": 3}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Configure a URL" in caplog.text
    caplog.clear()
    rename(engine, "new")
    assert name_of(engine) == "new"
    assert SQLModelCache.stats().lost == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "invalidation lost for Hero" in caplog.text
    with pytest.raises(UnavailableError):
        SQLModelCache.invalidate(Hero, 1)


async def test_sync_only_transport_under_an_async_session(
    async_engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked in worker threads, never in the event loop's, with one advice in the log."""
    store = DictTransport()
    SQLModelCache.configure(store)
    for _ in range(2):
        assert await async_name_of(async_engine) == "one"
    await async_rename(async_engine, "new")
    assert await async_name_of(async_engine) == "new"
    assert counts()[:1] == (2,)
    assert threading.get_ident() not in store.threads
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "DictTransport" in caplog.text
    assert "URL or an async transport" in caplog.text


async def test_memory_needs_no_thread(async_engine: AsyncEngine) -> None:
    """Nothing in it waits: the event loop asks it directly."""
    SQLModelCache.configure(MemoryTransport())
    before = set(threading.enumerate())
    assert [await async_name_of(async_engine) for _ in range(2)] == ["one", "one"]
    added = [each.name for each in set(threading.enumerate()) - before]
    assert not any("asyncio" in name for name in added)
    assert len(added) <= 1  # aiosqlite's own


@pytest.mark.parametrize(
    "error", [OSError, TimeoutError, ValueError, redis.ConnectionError, redis.ResponseError]
)
def test_failing_transport_never_reaches_the_caller(
    engine: Engine, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Reads and writes go on; what happened is counted; its message is nowhere."""
    caplog.set_level(logging.DEBUG)
    SQLModelCache.configure(Failing(error))
    assert [name_of(engine), name_of(engine)] == ["one", "one"]
    rename(engine, "new")
    assert name_of(engine) == "new"
    with Session(engine) as session:
        assert [row and row.name for row in get_many(session, Hero, [1, 2])] == ["new", "two"]
    stats = SQLModelCache.stats()
    assert stats.errors >= 1
    assert stats.hits == stats.fills == 0
    assert "secret-of-the-store" not in caplog.text
    with pytest.raises(UnavailableError) as raised:
        SQLModelCache.invalidate(Hero, 1)
    assert "secret-of-the-store" not in str(raised.value)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_redis_that_dies_is_no_error_for_sessions(
    engine: Engine, async_engine: AsyncEngine, mode: str, key_prefix: str
) -> None:
    """Reads and commits succeed while it is away, and use it again when it is back."""
    with RedisServer() as server:
        SQLModelCache.configure(server.url, key_prefix=key_prefix)

        async def read() -> str:
            return name_of(engine) if mode == "sync" else await async_name_of(async_engine)

        assert [await read() for _ in range(2)] == ["one", "one"]
        assert counts()[0] == 1
        server.kill()
        assert [await read() for _ in range(3)] == ["one"] * 3
        if mode == "sync":
            rename(engine, "new")
        else:
            await async_rename(async_engine, "new")
        assert await read() == "new"
        stats = SQLModelCache.stats()
        assert stats.errors >= 1
        assert stats.breaker != "closed"
        assert stats.bypasses["breaker_open"] >= 2


async def test_one_url_serves_threads_and_loops_alike(
    engine: Engine, async_engine: AsyncEngine, redis_url: str, key_prefix: str
) -> None:
    """A sync and an async session of one process, one after the other, on the same entries."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    assert name_of(engine) == "one"
    assert await async_name_of(async_engine) == "one"
    assert counts()[0] == 1
    await async_rename(async_engine, "new")
    assert name_of(engine) == "new"
