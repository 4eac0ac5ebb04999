"""invalidate, clear, stats: explicit calls, which do raise where nothing else would tell."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, sessionmaker
from sqlmodel import Field

from sqlmodel_cache import (
    CacheConfig,
    ConfigurationError,
    SQLModelCache,
    Stats,
    UnavailableError,
    cached_sessionmaker,
)
from sqlmodel_cache.transport import MemoryTransport, RedisAsyncTransport
from tests.api.models import Base, Hero, Pair, Plain, fill, is_cached
from tests.recording import stable_id
from tests.servers.redis_server import RedisServer


class Keyed(Base, table=True):
    __cache_config__ = CacheConfig()

    id: UUID = Field(primary_key=True)


@pytest.fixture(autouse=True)
def rows(engine: Engine) -> None:
    """Store rows; configure memory."""
    fill(engine, Hero(id=1), Hero(id=2), Pair(left=1, right="a"), Plain(id=1))
    SQLModelCache.configure("memory://")


def behind_our_back(engine: Engine, name: str = "unseen") -> None:
    """Change both heroes through the driver itself."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("UPDATE hero SET name = ?", (name,))
        driver.commit()


def name_of(engine: Engine, key: int = 1) -> str:
    """Return a hero's name as a new session reads it."""
    with Session(engine) as session:
        return session.get_one(Hero, key).name


def test_invalidate_forgets_named_rows(engine: Engine) -> None:
    """And only these; the count says how many."""
    assert [name_of(engine, key) for key in (1, 2)] == ["nobody", "nobody"]
    behind_our_back(engine)
    assert name_of(engine, 1) == "nobody"
    SQLModelCache.invalidate(Hero, 1)
    assert name_of(engine, 1) == "unseen"
    assert name_of(engine, 2) == "nobody"
    assert SQLModelCache.stats().invalidations == 1
    SQLModelCache.invalidate(Hero, 1, 2)
    assert name_of(engine, 2) == "unseen"
    assert SQLModelCache.stats().invalidations == 3


def test_invalidate_forgets_a_model(engine: Engine) -> None:
    """All its rows, and no other model's."""
    assert is_cached(engine, Pair, (1, "a"))
    assert [name_of(engine, key) for key in (1, 2)] == ["nobody", "nobody"]
    behind_our_back(engine)
    SQLModelCache.invalidate(Hero)
    assert [name_of(engine, key) for key in (1, 2)] == ["unseen", "unseen"]
    before = SQLModelCache.stats().models["Pair"].hits
    assert is_cached(engine, Pair, (1, "a"))
    assert SQLModelCache.stats().models["Pair"].hits == before + 2


def test_clear_forgets_everything(engine: Engine) -> None:
    """Every model of every database used."""
    assert is_cached(engine, Hero)
    assert is_cached(engine, Pair, (1, "a"))
    SQLModelCache.clear()
    misses = SQLModelCache.stats().misses
    assert is_cached(engine, Hero)
    assert is_cached(engine, Pair, (1, "a"))
    assert SQLModelCache.stats().misses == misses + 2


@pytest.mark.parametrize("key", [(1, "a"), [1, "a"], {"right": "a", "left": 1}], ids=stable_id)
def test_keys_are_spelt_as_get_takes_them(engine: Engine, key: Any) -> None:
    """Composite keys as tuple, list or dict."""
    assert is_cached(engine, Pair, (1, "a"))
    misses = SQLModelCache.stats().misses
    SQLModelCache.invalidate(Pair, key)
    assert is_cached(engine, Pair, (1, "a"))
    assert SQLModelCache.stats().misses == misses + 1


def test_uuid_key_may_be_text(engine: Engine) -> None:
    """The text and the UUID are one row."""
    key = UUID("8c1d1f0a-0000-4000-8000-000000000001")
    fill(engine, Keyed(id=key))
    assert is_cached(engine, Keyed, key)
    misses = SQLModelCache.stats().misses
    SQLModelCache.invalidate(Keyed, str(key))
    with Session(engine) as session:
        session.get(Keyed, key)
    assert SQLModelCache.stats().misses == misses + 1


@pytest.mark.parametrize("key", [(1, 2), "one", "1", [1, 2], None, object()], ids=stable_id)
def test_what_is_no_key_is_refused(engine: Engine, key: Any) -> None:
    """Silence would leave the row where it is."""
    assert is_cached(engine, Hero)
    with pytest.raises(ConfigurationError, match=r"Hero.*primary key.*invalidate\(Hero, 1, 2\)"):
        SQLModelCache.invalidate(Hero, key)


def test_uncached_model_is_refused(engine: Engine) -> None:
    """There is nothing to forget."""
    with pytest.raises(ConfigurationError, match="Plain is not cached"):
        SQLModelCache.invalidate(Plain, 1)
    with pytest.raises(ConfigurationError, match="int"):
        SQLModelCache.invalidate(int, 1)


def test_no_database_known_is_refused(engine: Engine) -> None:
    """A process that has used none must name one."""
    SQLModelCache.configure("memory://")
    for call in (lambda: SQLModelCache.invalidate(Hero, 1), SQLModelCache.clear):
        with pytest.raises(ConfigurationError, match="bind=engine"):
            call()
    SQLModelCache.invalidate(Hero, 1, bind=engine)


def test_bind_names_the_database(engine: Engine, tmp_path: Any, redis_url: str) -> None:
    """An engine, a connection or a session; the other database keeps its rows."""
    other = create_engine(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    fill(other, Hero(id=1))
    for bind in ("engine", "connection", "session"):
        assert name_of(engine) == name_of(other)
        misses = SQLModelCache.stats().misses
        if bind == "engine":
            SQLModelCache.invalidate(Hero, 1, bind=engine)
        elif bind == "connection":
            with engine.connect() as connection:
                SQLModelCache.invalidate(Hero, 1, bind=connection)
                assert not connection.closed
        else:
            with Session(engine) as session:
                SQLModelCache.clear(bind=session)
        name_of(other)
        assert SQLModelCache.stats().misses == misses
        name_of(engine)
        assert SQLModelCache.stats().misses == misses + 1
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    other.dispose()


def test_process_that_only_invalidates_reaches_the_others(
    engine: Engine, redis_url: str, key_prefix: str
) -> None:
    """It needs an engine and no session."""
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    assert name_of(engine) == "nobody"
    behind_our_back(engine)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    SQLModelCache.invalidate(Hero, bind=create_engine(engine.url))
    assert name_of(engine) == "unseen"


def test_every_namespace_of_a_factory_is_reached(engine: Engine) -> None:
    """Also rows that a factory stored under a name or in a cache of its own."""
    own = MemoryTransport()
    for factory in (
        cached_sessionmaker(sessionmaker(engine), namespace="tenant"),
        cached_sessionmaker(sessionmaker(engine), transport=own),
    ):
        with factory() as session:
            assert session.get_one(Hero, 1).name == "nobody"
        behind_our_back(engine)
        SQLModelCache.invalidate(Hero, 1)
        with factory() as session:
            assert session.get_one(Hero, 1).name == "unseen"
        behind_our_back(engine, "nobody")


async def test_async_forms(
    async_engine: AsyncEngine, redis_url: str, key_prefix: str, engine: Engine
) -> None:
    """The async calls, through an async transport and through memory."""
    from redis.asyncio import Redis

    client = Redis.from_url(redis_url)
    for transport in ("memory://", RedisAsyncTransport(client)):
        SQLModelCache.configure(transport, key_prefix=key_prefix)
        for forget in (
            lambda: SQLModelCache.ainvalidate(Hero, 1),
            lambda: SQLModelCache.ainvalidate(Hero),
            SQLModelCache.aclear,
            lambda: SQLModelCache.aclear(bind=async_engine.sync_engine),
        ):
            async with AsyncSession(async_engine) as session:
                before = (await session.get_one(Hero, 1)).name
            behind_our_back(engine, before + "!")
            async with AsyncSession(async_engine) as session:
                assert (await session.get_one(Hero, 1)).name == before
            await forget()
            async with AsyncSession(async_engine) as session:
                assert (await session.get_one(Hero, 1)).name == before + "!"
    await client.aclose()


async def test_async_bind(async_engine: AsyncEngine) -> None:
    """An async engine or session may name the database, from a coroutine."""
    await SQLModelCache.ainvalidate(Hero, 1, bind=async_engine)
    async with AsyncSession(async_engine) as session:
        await SQLModelCache.aclear(bind=session)


def test_store_that_is_away_raises(engine: Engine, key_prefix: str) -> None:
    """An explicit call is the only thing that tells."""
    with RedisServer() as server:
        SQLModelCache.configure(server.url, key_prefix=key_prefix)
        assert is_cached(engine, Hero)
        server.kill()
        with pytest.raises(UnavailableError) as raised:
            SQLModelCache.invalidate(Hero, 1)
        assert not isinstance(raised.value, redis.RedisError)
        with pytest.raises(UnavailableError):
            SQLModelCache.clear()


def test_invalidate_inside_a_transaction_acts_at_once(engine: Engine) -> None:
    """It is no part of the transaction; a rollback does not undo it."""
    assert is_cached(engine, Hero)
    misses = SQLModelCache.stats().misses
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        SQLModelCache.invalidate(Hero, 1)
        session.rollback()
    name_of(engine)
    assert SQLModelCache.stats().misses == misses + 1


def test_stats_is_a_frozen_record_of_the_moment(engine: Engine) -> None:
    """Later lookups do not change it, nobody can, and its parts add up."""
    SQLModelCache.invalidate(Hero, 1, bind=engine)
    is_cached(engine, Hero)
    is_cached(engine, Pair, (1, "a"))
    with Session(engine) as session:
        session.get(Hero, 2, execution_options={"cache": False})
    stats = SQLModelCache.stats()
    assert isinstance(stats, Stats)
    shown = (stats.hits, stats.misses, stats.fills, stats.invalidations, stats.errors, stats.lost)
    assert shown == (2, 2, 2, 1, 0, 0)
    assert stats.bypasses == {"cache_false": 1}
    assert (stats.breaker, stats.queue) == ("closed", 0)
    assert sorted(stats.models) == ["Hero", "Pair"]
    assert sum(each.hits for each in stats.models.values()) == stats.hits
    assert stats.models["Hero"].bypasses == {"cache_false": 1}
    with pytest.raises(FrozenInstanceError):
        stats.hits = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        stats.bypasses["cache_false"] = 5  # type: ignore[index]
    name_of(engine)
    assert stats.hits == 2
    assert SQLModelCache.stats().hits == 3


def test_every_lookup_is_one_event(engine: Engine) -> None:
    """Hit, miss or bypass: whatever the reads were, their counts add up to the reads."""
    reads = 0
    for options in ({}, {"cache": False}, {}, {"cache_ttl": 0}):
        for key in (1, 2, 404):
            with Session(engine) as session:
                session.get(Hero, key, execution_options=options)
            reads += 1
    stats = SQLModelCache.stats()
    assert stats.hits + stats.misses + sum(stats.bypasses.values()) + stats.errors == reads


def test_namespaces_from_a_callable_are_reached_through_a_session(engine: Engine) -> None:
    """The session says whose rows are meant; without one the call is refused, never ignored."""
    tenant = {"now": "blue"}
    SQLModelCache.configure("memory://", namespace=lambda session: tenant["now"])
    for name in ("blue", "green"):
        tenant["now"] = name
        assert name_of(engine) == "nobody"
    behind_our_back(engine)
    assert name_of(engine) == "nobody"
    for bind in (None, engine):
        with pytest.raises(ConfigurationError, match="session"):
            SQLModelCache.invalidate(Hero, 1, bind=bind)
    with Session(engine) as session:
        SQLModelCache.invalidate(Hero, 1, bind=session)
    assert name_of(engine) == "unseen"
    tenant["now"] = "blue"
    assert name_of(engine) == "nobody"


def test_engine_may_name_its_database(engine: Engine, tmp_path: Any) -> None:
    """The engine option `cache_namespace`: two engines under one name share their rows."""
    other = create_engine(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    fill(other, Hero(id=1, name="other"))
    left, right = (each.execution_options(cache_namespace="both") for each in (engine, other))
    assert name_of(left) == "nobody"
    assert name_of(right) == "nobody"
    assert name_of(create_engine(other.url)) == "other"
    other.dispose()


@pytest.mark.parametrize("bind", ["sqlite://", 5, Hero], ids=stable_id)
def test_bind_that_names_no_database(engine: Engine, bind: Any) -> None:
    """Anything but an engine, a connection or a session is refused."""
    with pytest.raises(ConfigurationError, match="no engine, connection or session"):
        SQLModelCache.clear(bind=bind)
