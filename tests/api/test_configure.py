"""configure, get_config, reset: what is there before, between and after."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapper, Session, sessionmaker
from sqlalchemy.pool import Pool

from sqlmodel_cache import ConfigurationError, SQLModelCache, cached_sessionmaker, get_many
from tests.api.models import Hero, Pair, Plain, fill, is_cached
from tests.recording import Commands

TARGETS = (Session, Mapper, Engine, Connection, Pool, DefaultDialect)


def listeners() -> dict[str, list[Any]]:
    """Return every listener on the classes that the library listens on, by target and event."""
    found: dict[str, list[Any]] = {}
    for target in TARGETS:
        for name in dir(target.dispatch):
            attribute = getattr(target.dispatch, name)
            if name.startswith("_") or not hasattr(attribute, "_clslevel"):
                continue
            mine = [
                listener
                for listener in attribute._clslevel.get(target, ())
                if "sqlmodel_cache" in getattr(_innermost(listener), "__module__", "")
            ]
            if mine:
                found[f"{target.__name__}.{name}"] = mine
    return found


def _innermost(listener: Any) -> Any:
    while hasattr(listener, "__wrapped__"):
        listener = listener.__wrapped__
    return listener


def attributes(*objects: Any) -> list[dict[str, Any]]:
    """Return copies of the objects' own attributes."""
    return [dict(vars(each)) for each in objects]


def test_get_config_before_and_after() -> None:
    """An error before, the values between, an error after."""
    with pytest.raises(ConfigurationError, match=r"not configured.*SQLModelCache\.configure"):
        SQLModelCache.get_config()
    SQLModelCache.configure("memory://", default_ttl=5, key_prefix="p")
    config = SQLModelCache.get_config()
    assert config.transport == "memory://"
    assert (config.default_ttl, config.key_prefix, config.enabled) == (5, "p", True)
    SQLModelCache.reset()
    with pytest.raises(ConfigurationError, match="not configured"):
        SQLModelCache.get_config()


def test_transport_by_position_or_keyword() -> None:
    """As the API reference says it."""
    SQLModelCache.configure(transport="memory://")
    assert SQLModelCache.get_config().transport == "memory://"


def test_stats_and_explicit_calls_before_configure() -> None:
    """They say what to call."""
    for call in (
        SQLModelCache.stats,
        SQLModelCache.clear,
        lambda: SQLModelCache.invalidate(Hero, 1),
    ):
        with pytest.raises(ConfigurationError, match="not configured"):
            call()


def test_read_before_configure_raises(engine: Engine) -> None:
    """Each way to read a cached model; the message names it and the remedy."""
    fill(engine, Hero(id=1))
    with Session(engine) as session:
        for read in (
            lambda: session.get(Hero, 1),
            lambda: session.get_one(Hero, 1),
            lambda: get_many(session, Hero, [1]),
        ):
            with pytest.raises(ConfigurationError, match=r"Hero.*SQLModelCache\.configure"):
                read()


async def test_async_read_before_configure_raises(
    engine: Engine, async_engine: AsyncEngine
) -> None:
    """The async forms come out at the same guard."""
    fill(engine, Hero(id=1))
    async with AsyncSession(async_engine) as session:
        with pytest.raises(ConfigurationError, match="Hero"):
            await session.get(Hero, 1)
        with pytest.raises(ConfigurationError, match="Hero"):
            await session.get_one(Hero, 1)


def test_what_needs_no_cache_does_not_raise_before_configure(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes, `cache=False`, uncached models, and everything where the environment says off."""
    fill(engine, Hero(id=1), Plain(id=1))
    with Session(engine) as session:
        hero = session.get_one(Hero, 1, execution_options={"cache": False})
        hero.name = "new"
        session.commit()
        assert session.get_one(Plain, 1).id == 1
        session.delete(hero)
        session.commit()
        assert session.get(Hero, 1, execution_options={"cache": False}) is None
    monkeypatch.setenv("SQLMODEL_CACHE_ENABLED", "0")
    with Session(engine) as session:
        assert session.get(Hero, 1) is None


def test_merge_before_configure_does_not_raise(engine: Engine) -> None:
    """A merge reads in order to write; writes never raise."""
    fill(engine, Hero(id=1))
    with Session(engine) as session:
        session.merge(Hero(id=1, name="merged"))
        session.commit()
        assert session.get_one(Hero, 1, execution_options={"cache": False}).name == "merged"


def test_configure_twice_replaces_and_does_not_add(engine: Engine) -> None:
    """One listener of each kind, and the first store is not asked any more."""
    fill(engine, Hero(id=1))
    SQLModelCache.configure("memory://")
    once = listeners()
    assert once
    assert is_cached(engine, Hero)
    SQLModelCache.configure("memory://", default_ttl=7)
    assert listeners() == once
    assert SQLModelCache.get_config().default_ttl == 7
    stats = SQLModelCache.stats()
    assert (stats.hits, stats.misses) == (0, 0)
    with Session(engine) as session:
        session.get(Hero, 1)
    assert SQLModelCache.stats().misses == 1


def test_second_configuration_serves_engines_that_the_first_one_knew(engine: Engine) -> None:
    """Reads and invalidation go to the new store."""
    fill(engine, Hero(id=1))
    for _ in range(2):
        SQLModelCache.configure("memory://")
        assert is_cached(engine, Hero)
        with Session(engine) as session:
            session.get_one(Hero, 1).name += "!"
            session.commit()
        with Session(engine) as session:
            assert session.get_one(Hero, 1).name.endswith("!")
    with Session(engine) as session:
        assert session.get_one(Hero, 1).name == "nobody!!"


@pytest.mark.parametrize("url", ["memory", "redis"])
def test_reset_leaves_nothing(
    engine: Engine, url: str, request: pytest.FixtureRequest, key_prefix: str
) -> None:
    """No listener, wrapper, thread, task or connection of ours: all as it was before."""
    fill(engine, Hero(id=1))
    server = None if url == "memory" else request.getfixturevalue("redis_url")
    factory = sessionmaker(engine)
    watched = (
        *(Session, Mapper, Engine, Connection, type(engine.dialect), engine.dialect, engine),
        Hero,
    )
    before = attributes(*watched), listeners(), threading.active_count()
    clients = _clients(server)
    for _ in range(2):
        SQLModelCache.configure(server or "memory://", key_prefix=key_prefix)
        during = listeners()
        assert len(during) > len(before[1])
        assert is_cached(engine, Hero)
        cached_sessionmaker(factory, transport="memory://")
        with Session(engine) as session:
            session.get_one(Hero, 1).name = "new"
            with session.begin_nested():
                session.get_one(Hero, 1).name = "newer"
            session.commit()
        assert "do_commit" in vars(engine.dialect)
        SQLModelCache.reset()
        SQLModelCache.reset()
        after = attributes(*watched), listeners(), threading.active_count()
        assert after == before
    gc.collect()
    assert _clients(server) == clients


def _clients(server: str | None) -> int:
    if server is None:
        return 0
    with redis.Redis.from_url(server) as client:
        return sum(1 for each in client.client_list() if each["cmd"] != "client|list")


def test_reset_before_configure_is_nothing() -> None:
    """Idempotent, from the first call on."""
    SQLModelCache.reset()
    SQLModelCache.reset()


def test_writes_after_reset_touch_no_store(
    engine: Engine, redis_url: str, commandstats: Callable[[], AbstractContextManager[Commands]]
) -> None:
    """Not even over connections that were open during the configuration."""
    fill(engine, Hero(id=1))
    SQLModelCache.configure(redis_url, key_prefix="after-reset")
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "during"
        SQLModelCache.reset()
        with commandstats() as commands:
            session.commit()
    assert commands == {}


def test_users_listeners_survive_reset(engine: Engine) -> None:
    """Only ours are removed."""
    seen: list[str] = []

    def mine(*_: Any) -> None:
        seen.append("load")

    event.listen(Hero, "load", mine)
    try:
        fill(engine, Hero(id=1))
        SQLModelCache.configure("memory://")
        assert is_cached(engine, Hero)
        assert seen == ["load", "load"]
        SQLModelCache.reset()
        with Session(engine) as session:
            session.get(Hero, 1, execution_options={"cache": False})
        assert seen == ["load", "load", "load"]
    finally:
        event.remove(Hero, "load", mine)


def test_enabled_false_reads_and_invalidates_nothing(
    engine: Engine,
    redis_url: str,
    commandstats: Callable[[], AbstractContextManager[Commands]],
    caplog: pytest.LogCaptureFixture,
    key_prefix: str,
) -> None:
    """The seed's kill switch: it warns of the risk once and then asks the store for nothing."""
    fill(engine, Hero(id=1))
    with commandstats() as commands:
        SQLModelCache.configure(redis_url, key_prefix=key_prefix, enabled=False)
        assert not is_cached(engine, Hero)
        with Session(engine) as session:
            session.get_one(Hero, 1).name = "new"
            session.commit()
    assert commands == {}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "do not invalidate" in caplog.text
    assert SQLModelCache.stats().bypasses == {"disabled": 3}
    assert SQLModelCache.get_config().enabled is False


def test_enabled_again_forgets_what_was_not_invalidated(
    engine: Engine, redis_url: str, key_prefix: str
) -> None:
    """Configuring with enabled=True after enabled=False renews every epoch."""
    fill(engine, Hero(id=1), Pair(left=1, right="a"))
    SQLModelCache.configure(redis_url, key_prefix=key_prefix)
    assert is_cached(engine, Hero)
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, enabled=False)
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "unseen"
        session.commit()
    SQLModelCache.configure(redis_url, key_prefix=key_prefix, enabled=True)
    with Session(engine) as session:
        assert session.get_one(Hero, 1).name == "unseen"


def test_hook_sessions_false_leaves_plain_sessions_alone(engine: Engine) -> None:
    """Plain sessions do not read; they invalidate. Factories of ours read."""
    fill(engine, Hero(id=1))
    SQLModelCache.configure("memory://", hook_sessions=False)
    assert not is_cached(engine, Hero)
    assert SQLModelCache.stats().bypasses == {"hook_sessions_off": 2}
    factory = cached_sessionmaker(sessionmaker(engine))
    for _ in range(2):
        with factory() as session:
            assert session.get_one(Hero, 1).name == "nobody"
    assert SQLModelCache.stats().hits == 1
    with Session(engine) as session:
        session.get_one(Hero, 1).name = "new"
        session.commit()
    with factory() as session:
        assert session.get_one(Hero, 1).name == "new"
