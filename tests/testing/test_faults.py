"""What an application sees of a cache that fails as scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sqlmodel_cache import ConfigurationError, FenceError, SQLModelCache, get_many
from sqlmodel_cache.testing import FaultyTransport, assert_cached, assert_not_cached
from sqlmodel_cache.transport import MemoryTransport
from tests.api.user_transports import AsyncDictTransport, DictTransport
from tests.testing.models import Hero

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

Name = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def name(request: pytest.FixtureRequest, engine: Engine, async_engine: AsyncEngine) -> Name:
    """Return what reads the name of hero 1, or writes it, in a session of its own."""

    async def sync(new: str | None = None) -> Any:
        with Session(engine) as session:
            hero = session.get_one(Hero, 1)
            found = hero.name
            if new is not None:
                hero.name = new
                session.commit()
            return found

    async def asynchronous(new: str | None = None) -> Any:
        async with AsyncSession(async_engine) as session:
            hero = await session.get_one(Hero, 1)
            found = hero.name
            if new is not None:
                hero.name = new
                await session.commit()
            return found

    return sync if request.param == "sync" else asynchronous


@pytest.fixture(params=["memory", "redis", "dict"])
def faulty(request: pytest.FixtureRequest, engine: Engine, key_prefix: str) -> Any:
    """Yield a configured FaultyTransport before each kind of transport."""
    inner: Any = {
        "memory": MemoryTransport,
        "redis": lambda: request.getfixturevalue("redis_url"),
        "dict": DictTransport,
    }[request.param]()
    transport = FaultyTransport(inner)
    SQLModelCache.configure(transport, key_prefix=key_prefix)
    yield transport
    transport.close()


async def test_without_a_script_nothing_fails(faulty: FaultyTransport, name: Name) -> None:
    """Operations are noted by their kind, and carried out."""
    assert [await name(), await name()] == ["Deadpond"] * 2
    assert SQLModelCache.stats().hits == 1
    assert faulty.asked == ["get", "lease", "fill", "get"]


async def test_failed_reads_are_answered_by_the_database(
    faulty: FaultyTransport, name: Name
) -> None:
    """The next one too, as the breaker is open, until healed."""
    await name()
    faulty.fail("get")
    assert [await name(), await name()] == ["Deadpond"] * 2
    stats = SQLModelCache.stats()
    assert (stats.hits, stats.errors, stats.breaker) == (0, 1, "open")
    assert stats.bypasses == {"breaker_open": 1}
    faulty.heal()
    assert await name() == "Deadpond"
    assert (SQLModelCache.stats().hits, SQLModelCache.stats().breaker) == (1, "closed")


async def test_a_fault_is_for_its_kind_and_its_number(faulty: FaultyTransport, name: Name) -> None:
    """Two of three leases fail, and what was scripted next is met after them."""
    faulty.fail("lease", times=2, error=TimeoutError("gone"))
    faulty.lose("fill")
    for _ in range(4):
        await name()
        _close_breaker(faulty)
    assert (SQLModelCache.stats().errors, SQLModelCache.stats().fills) == (2, 2)
    await name()
    assert SQLModelCache.stats().hits == 1


def _close_breaker(faulty: FaultyTransport) -> None:
    with faulty.partition():  # its end closes the breaker, and keeps the rest of the script
        pass


async def test_a_partition_ends_with_its_block(faulty: FaultyTransport, name: Name) -> None:
    """A commit meanwhile goes through, and is published afterwards."""
    await name()
    with faulty.partition():
        await name("Spider-Boy")
        assert await name() == "Spider-Boy"
    assert await name() == "Spider-Boy"


async def test_a_lost_reply_was_carried_out(faulty: FaultyTransport, name: Name) -> None:
    """The row was stored, though its reader heard of a failure."""
    faulty.drop_reply("fill")
    await name()
    stats = SQLModelCache.stats()
    assert (stats.fills, stats.errors) == (0, 1)
    faulty.heal()
    await name()
    assert SQLModelCache.stats().hits == 1


async def test_a_lost_fill_is_a_miss(faulty: FaultyTransport, name: Name) -> None:
    """The store said that it has the row, and evicted it at once."""
    faulty.lose("fill")
    await name()
    await name()
    stats = SQLModelCache.stats()
    assert (stats.hits, stats.errors, stats.misses, stats.fills) == (0, 0, 2, 2)


def test_a_lost_release_leaves_the_fence(engine: Engine) -> None:
    """As a writer that died: the row comes from the database, and is not stored."""
    faulty = FaultyTransport()
    SQLModelCache.configure(faulty)
    faulty.lose("release")
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Spider-Boy"
        session.commit()
    for _ in range(2):
        with Session(engine) as session:
            assert session.get_one(Hero, 1).name == "Spider-Boy"
    assert SQLModelCache.stats().hits == 0


async def test_a_slow_store_delays_and_succeeds(faulty: FaultyTransport, name: Name) -> None:
    """It is a hit all the same, and an event loop runs on meanwhile."""
    await name()
    faulty.delay("get", seconds=0.001)
    assert await name() == "Deadpond"
    assert SQLModelCache.stats().hits == 1


async def test_a_delay_blocks_no_event_loop(engine: Engine, async_engine: AsyncEngine) -> None:
    """Another task comes to its turn while an async session waits."""
    faulty = FaultyTransport()
    SQLModelCache.configure(faulty)
    turns: list[str] = []

    async def read() -> None:
        async with AsyncSession(async_engine) as session:
            await session.get(Hero, 1)
            turns.append("read")

    async def other() -> None:
        while "get" not in faulty.asked:
            await asyncio.sleep(0)
        turns.append("other")

    faulty.delay("get", seconds=0.05)
    await asyncio.gather(read(), other())
    assert turns == ["other", "read"]


def test_many_are_gets_too(engine: Engine) -> None:
    """`get_many` meets what is scripted for `get`."""
    faulty = FaultyTransport()
    SQLModelCache.configure(faulty)
    faulty.fail("get")
    with Session(engine) as session:
        assert [one and one.id for one in get_many(session, Hero, [1, 2])] == [1, None]
    assert SQLModelCache.stats().errors == 2


def test_a_fence_that_fails_rolls_back_where_asked(engine: Engine) -> None:
    """What an application does with a FenceError can be tested."""
    faulty = FaultyTransport("memory://")
    SQLModelCache.configure(faulty, on_fence_failure="abort")
    faulty.fail("fence")
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Spider-Boy"
        with pytest.raises(FenceError):
            session.commit()
    with Session(engine) as session:
        assert session.get_one(Hero, 1).name == "Deadpond"


def test_a_lost_fence_lets_a_fill_in_and_the_release_drops_it(engine: Engine) -> None:
    """Evicted fences are outlived: the value that came in goes with the release."""
    faulty = FaultyTransport(MemoryTransport())
    SQLModelCache.configure(faulty)
    faulty.lose("fence")
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Spider-Boy"
        session.commit()
    assert faulty.asked[-2:] == ["fence", "release"]
    assert_not_cached(Hero, 1)


def test_it_stands_before_an_async_only_transport(engine: Engine) -> None:
    """A plain session bypasses it, as it would without."""
    SQLModelCache.configure(FaultyTransport(AsyncDictTransport()))
    with Session(engine) as session:
        session.get(Hero, 1)
    assert SQLModelCache.stats().bypasses == {"transport": 1}


async def test_an_async_only_transport_fails_for_async_sessions(
    async_engine: AsyncEngine,
) -> None:
    """And its contents can be asserted from inside a session."""
    faulty = FaultyTransport(AsyncDictTransport())
    SQLModelCache.configure(faulty)
    async with AsyncSession(async_engine) as session:
        await session.get(Hero, 1)
        await session.run_sync(lambda _: assert_cached(Hero, 1))
    faulty.fail()
    async with AsyncSession(async_engine) as session:
        assert await session.get(Hero, 1) is not None
    assert SQLModelCache.stats().errors == 1


@pytest.mark.parametrize(
    "script",
    [
        lambda faulty: faulty.fail("read"),
        lambda faulty: faulty.fail(times=0),
        lambda faulty: faulty.lose("get"),
        lambda faulty: faulty.delay(seconds=-1),
        lambda faulty: FaultyTransport(object()),
    ],
)
def test_a_script_that_cannot_work_is_refused(script: Callable[[FaultyTransport], None]) -> None:
    """At once, not at the operation it will never meet."""
    with pytest.raises(ConfigurationError):
        script(FaultyTransport())
