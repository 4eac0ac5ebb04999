"""What `assert_cached` calls cached, and that a test leaves the configuration as it found it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from sqlmodel_cache import ConfigurationError, SQLModelCache, _state, cached_sessionmaker
from sqlmodel_cache.testing import (
    assert_cached,
    assert_not_cached,
    count_sql,
    temporary_cache,
)
from sqlmodel_cache.transport import MemoryTransport
from tests.testing.models import Hero, Team, Villain

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


def get(engine: Engine, model: type = Hero, key: Any = 1) -> Any:
    """Read one row in a session of its own."""
    with Session(engine) as session:
        return session.get(model, key)


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_cached_is_what_the_next_get_would_hit(
    store: str, engine: Engine, request: pytest.FixtureRequest, key_prefix: str
) -> None:
    """After a read, until a commit; asking changes no count and sends no SQL."""
    url = "memory://" if store == "memory" else request.getfixturevalue("redis_url")
    SQLModelCache.configure(url, key_prefix=key_prefix)
    assert_not_cached(Hero, 1, bind=engine)
    get(engine)
    before = SQLModelCache.stats()
    with count_sql(engine, exactly=0):
        assert_cached(Hero, 1)
        assert_not_cached(Hero, 2)
        assert_cached(Hero, (1,), bind=engine)
    assert SQLModelCache.stats() == before
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "Spider-Boy"
        session.commit()
    assert_not_cached(Hero, 1)


def test_a_remembered_absence_is_cached(engine: Engine) -> None:
    """The next get would be answered without SQL."""
    SQLModelCache.configure("memory://")
    get(engine, Hero, 404)
    assert_cached(Hero, 404)


def test_a_subclass_has_an_entry_of_its_own_view(engine: Engine) -> None:
    """A row stored as the base's is no villain, and a get of a villain would say so."""
    SQLModelCache.configure("memory://")
    get(engine)
    assert_cached(Hero, 1)
    assert_cached(Villain, 1)  # known to be none: the answer is None, without SQL
    with count_sql(engine, exactly=0):
        assert get(engine, Villain) is None


def test_an_unreadable_entry_is_not_cached(engine: Engine) -> None:
    """Foreign bytes under the key are a miss, and looking at them is no error of the store."""
    transport = MemoryTransport()
    SQLModelCache.configure(transport)
    get(engine)
    (key,) = transport._values
    transport.set(key, transport.get(key)[:-1] + b"!", 100)  # type: ignore[index]
    assert_not_cached(Hero, 1)
    assert SQLModelCache.stats().errors == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assert_cached(Team, 1), "Team is not cached: it has no entries"),
        (lambda: assert_cached(Hero, 1), "no database is known yet"),
        (lambda: assert_cached(Hero, (1, 2)), "not a primary key|no database"),
        (lambda: assert_cached(int, 1), "no mapped class"),
        (lambda: count_sql("sqlite://").__enter__(), "no engine"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_asserted_says_why(call: Any, message: str) -> None:
    """An assertion on nothing must not pass."""
    SQLModelCache.configure("memory://")
    with pytest.raises(ConfigurationError, match=message):
        call()


def test_the_failure_tells_what_happened_instead(engine: Engine) -> None:
    """The counts of the model, and no key."""
    SQLModelCache.configure("memory://")
    with SQLModelCache.bypass():
        get(engine)
    with pytest.raises(AssertionError, match=r"bypasses=\{'bypass_block': 1\}"):
        assert_cached(Hero, 1, bind=engine)


async def test_async_engines_are_counted(async_engine: AsyncEngine) -> None:
    """Async sessions' statements, by the same function."""
    SQLModelCache.configure("memory://")
    for expected in (1, 0):
        with count_sql(async_engine) as sql:
            async with AsyncSession(async_engine) as session:
                await session.get(Hero, 1)
        assert len(sql.starting("SELECT")) == expected
    assert_cached(Hero, 1)


def test_temporary_leaves_nothing(engine: Engine) -> None:
    """Where nothing was configured, nothing is."""
    with temporary_cache(default_ttl=5) as cache:
        assert cache.get_config().default_ttl == 5
    with pytest.raises(ConfigurationError):
        SQLModelCache.get_config()


def test_temporary_puts_back_what_was(engine: Engine) -> None:
    """The same transport with its entries, the same settings; also when the test fails."""
    SQLModelCache.configure(MemoryTransport(), default_ttl=7)
    get(engine)
    with pytest.raises(AssertionError), temporary_cache():
        assert_cached(Hero, 1, bind=engine)
    assert SQLModelCache.get_config().default_ttl == 7
    assert_cached(Hero, 1, bind=engine)


def test_temporary_leaves_carried_caches_alive(engine: Engine) -> None:
    """A factory of the application keeps its own cache, and writes still reach it."""
    make = cached_sessionmaker(sessionmaker(engine), transport=MemoryTransport())
    with temporary_cache():
        pass
    for expected in (1, 0):
        with count_sql(engine) as sql, make() as session:
            session.get(Hero, 1)
        assert len(sql.starting("SELECT")) == expected
    with make.begin() as session:
        session.get_one(Hero, 1).name = "Spider-Boy"
    with make() as session:
        assert session.get_one(Hero, 1).name == "Spider-Boy"


def test_without_cache_leaves_no_debt(engine: Engine) -> None:
    """A test that ran with the cache off does not make the application renew every epoch."""
    with temporary_cache(enabled=False):
        get(engine)
    assert _state.wrote_unseen is False
