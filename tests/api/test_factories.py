"""`cached_sessionmaker`: the factory itself to everybody, with defaults of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlmodel import Session as SQLModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from sqlmodel_cache import ConfigurationError, SQLModelCache, cached_sessionmaker
from sqlmodel_cache.transport import MemoryTransport
from tests.api.models import Hero, fill, is_cached
from tests.recording import stable_id


@pytest.fixture(autouse=True)
def configured(engine: Engine) -> None:
    """Configure memory, and store a row."""
    fill(engine, Hero(id=1))
    SQLModelCache.configure("memory://")


def test_is_the_factory_to_everybody(engine: Engine) -> None:
    """isinstance, attributes, events, begin() and a later configure()."""
    plain = sessionmaker(class_=SQLModelSession)
    factory = cached_sessionmaker(plain)
    assert isinstance(factory, sessionmaker)
    assert factory.kw is plain.kw
    seen: list[Any] = []
    event.listen(factory, "after_commit", seen.append)
    factory.configure(bind=engine)
    with factory.begin() as session:
        assert isinstance(session, SQLModelSession)
        session.get_one(Hero, 1).name = "new"
    assert len(seen) == 1
    for _ in range(2):
        with factory() as session:
            assert session.get_one(Hero, 1).name == "new"
    assert SQLModelCache.stats().hits == 1
    with factory(expire_on_commit=False) as session:
        assert not session.expire_on_commit


def test_only_its_own_sessions_are_affected(engine: Engine) -> None:
    """Another factory and plain sessions keep their own ways."""
    off = cached_sessionmaker(sessionmaker(engine), cache=False)
    other = sessionmaker(engine)
    for make in (off, other, lambda: Session(engine)):
        with make() as session:
            assert session.get(Hero, 1) is not None
    stats = SQLModelCache.stats()
    assert stats.bypasses == {"cache_false": 1}
    assert (stats.misses, stats.hits) == (1, 1)


def test_cache_false_factory_invalidates(engine: Engine) -> None:
    """Off stops lookups and fills, never invalidation; the call may switch on."""
    assert is_cached(engine, Hero)
    off = cached_sessionmaker(sessionmaker(engine), cache=False)
    with off.begin() as session:
        session.get_one(Hero, 1).name = "new"
    with Session(engine) as session:
        assert session.get_one(Hero, 1).name == "new"
    before = SQLModelCache.stats().hits
    with off() as session:
        session.get_one(Hero, 1, execution_options={"cache": True})
    assert SQLModelCache.stats().hits == before + 1


def test_ttl_of_the_factory(engine: Engine) -> None:
    """It stands between the call's and the model's."""
    factory = cached_sessionmaker(sessionmaker(engine), ttl=10)
    with freeze_time("2030-01-01") as clock:
        with factory() as session:
            session.get(Hero, 1)
        clock.tick(timedelta(seconds=9))
        with factory() as session:
            session.get(Hero, 1)
        assert SQLModelCache.stats().hits == 1
        clock.tick(timedelta(seconds=1))
        with factory() as session:
            session.get(Hero, 1)
        assert SQLModelCache.stats().hits == 1


def test_transport_of_its_own(engine: Engine) -> None:
    """Its rows lie there alone; commits of any session invalidate both stores."""
    own = MemoryTransport()
    factory = cached_sessionmaker(sessionmaker(engine), transport=own)
    with factory() as session:
        session.get(Hero, 1)
    assert len(own) == 1
    stats = SQLModelCache.stats()
    assert (stats.hits, stats.misses) == (0, 0)
    assert is_cached(engine, Hero)
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "by a plain session"
        session.commit()
    assert len(own) == 0
    for make in (factory, lambda: Session(engine)):
        with make() as session:
            assert session.get_one(Hero, 1).name == "by a plain session"
    with factory.begin() as session:
        session.get_one(Hero, 1).name = "by its own"
    for make in (factory, lambda: Session(engine)):
        with make() as session:
            assert session.get_one(Hero, 1).name == "by its own"


def test_stats_of_a_transport_of_its_own(engine: Engine) -> None:
    """`stats(factory)` shows the cache that a factory carries; without one, everybody's."""
    own = cached_sessionmaker(sessionmaker(engine), transport="memory://")
    shared = cached_sessionmaker(sessionmaker(engine))
    for make in (own, own, own, shared):
        with make() as session:
            session.get(Hero, 1)
    stats = SQLModelCache.stats(own)
    assert (stats.misses, stats.hits, stats.models["Hero"].fills) == (1, 2, 1)
    assert SQLModelCache.stats(shared).misses == SQLModelCache.stats().misses == 1
    assert SQLModelCache.stats().hits == 0
    SQLModelCache.reset()
    for factory in (own, shared):
        with pytest.raises(ConfigurationError, match="not configured"):
            SQLModelCache.stats(factory)


@pytest.mark.parametrize("thing", [sessionmaker(), Session, "factory"], ids=stable_id)
def test_stats_of_what_is_no_factory_of_ours(thing: Any) -> None:
    """The message says what it takes."""
    with pytest.raises(ConfigurationError, match="what cached_sessionmaker"):
        SQLModelCache.stats(thing)


def test_transport_of_its_own_needs_no_configure(engine: Engine) -> None:
    """The global cache may be missing."""
    SQLModelCache.reset()
    own = MemoryTransport()
    factory = cached_sessionmaker(sessionmaker(engine), transport=own)
    for _ in range(2):
        with factory() as session:
            assert session.get_one(Hero, 1).name == "nobody"
    assert len(own) == 1
    with factory.begin() as session:
        session.get_one(Hero, 1).name = "new"
    assert len(own) == 0
    with Session(engine) as session, pytest.raises(ConfigurationError):
        session.get(Hero, 1)


def test_configure_after_a_transport_of_its_own_keeps_it_alive(engine: Engine) -> None:
    """Which of the two comes first makes no difference to invalidation."""
    SQLModelCache.reset()
    own = MemoryTransport()
    factory = cached_sessionmaker(sessionmaker(engine), transport=own)
    SQLModelCache.configure("memory://")
    with factory() as session:
        session.get(Hero, 1)
    assert len(own) == 1
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "new"
        session.commit()
    with factory() as session:
        assert session.get_one(Hero, 1).name == "new"


def test_namespace_keeps_rows_apart(engine: Engine) -> None:
    """Two names never share an entry, and each hears of the commits of its own sessions."""
    left = cached_sessionmaker(sessionmaker(engine), namespace="left")
    right = cached_sessionmaker(sessionmaker(engine), namespace="right")
    for _ in range(2):
        for factory in (left, right):
            with factory() as session:
                session.get(Hero, 1)
    stats = SQLModelCache.stats()
    assert (stats.misses, stats.hits) == (2, 2)
    with left.begin() as session:
        session.get_one(Hero, 1).name = "new"
    with left() as session:
        assert session.get_one(Hero, 1).name == "new"


def test_namespace_from_a_callable(engine: Engine) -> None:
    """It is asked for each session; one that returns nothing is an error, never a default."""
    tenants = {"now": "blue"}
    factory = cached_sessionmaker(sessionmaker(engine), namespace=lambda session: tenants["now"])
    for tenant in ("blue", "green", "blue"):
        tenants["now"] = tenant
        with factory() as session:
            session.get(Hero, 1)
    stats = SQLModelCache.stats()
    assert (stats.misses, stats.hits) == (2, 1)
    tenants["now"] = ""
    with factory() as session, pytest.raises(ConfigurationError, match="namespace"):
        session.get(Hero, 1)


async def test_async_factory(async_engine: AsyncEngine, engine: Engine) -> None:
    """`async_sessionmaker`: isinstance, begin(), configure(), and only its own sessions."""
    plain = async_sessionmaker(class_=SQLModelAsyncSession)
    factory = cached_sessionmaker(plain, cache=False)
    assert isinstance(factory, async_sessionmaker)
    factory.configure(bind=async_engine)
    async with factory.begin() as session:
        assert isinstance(session, SQLModelAsyncSession)
        assert isinstance(session.sync_session, SQLModelSession)
        (await session.get_one(Hero, 1)).name = "new"
    assert SQLModelCache.stats().bypasses == {"cache_false": 1}
    other = async_sessionmaker(async_engine)
    for _ in range(2):
        async with other() as session:
            assert (await session.get_one(Hero, 1)).name == "new"
    assert SQLModelCache.stats().hits == 1
    assert SQLModelCache.stats().bypasses == {"cache_false": 1}


async def test_async_factory_with_a_session_class_of_the_users(async_engine: AsyncEngine) -> None:
    """A `sync_session_class` given by the user stays the base of what is used."""

    class Mine(Session):
        pass

    factory = cached_sessionmaker(
        async_sessionmaker(async_engine, sync_session_class=Mine), namespace="mine"
    )
    async with factory() as session:
        assert isinstance(session.sync_session, Mine)
        await session.get(Hero, 1)
    async with AsyncSession(async_engine) as session:
        await session.get(Hero, 1)
    assert SQLModelCache.stats().misses == 2
    assert not hasattr(Mine, "__sqlmodel_cache_binding__")


async def test_async_factory_with_a_transport_of_its_own(async_engine: AsyncEngine) -> None:
    """As the sync one has it."""
    own = MemoryTransport()
    factory = cached_sessionmaker(async_sessionmaker(async_engine), transport=own)
    async with factory() as session:
        await session.get(Hero, 1)
    assert len(own) == 1
    async with AsyncSession(async_engine) as session:
        (await session.get_one(Hero, 1)).name = "new"
        await session.commit()
    assert len(own) == 0


def test_hooks_off_and_proxied_factories_only(engine: Engine) -> None:
    """`hook_sessions=False` together with a factory's own defaults."""
    SQLModelCache.configure("memory://", hook_sessions=False)
    factory = cached_sessionmaker(sessionmaker(engine), ttl=3)
    for make in (factory, factory, lambda: Session(engine)):
        with make() as session:
            session.get(Hero, 1)
    stats = SQLModelCache.stats()
    assert (stats.misses, stats.hits, stats.bypasses) == (1, 1, {"hook_sessions_off": 1})
