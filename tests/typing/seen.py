"""Checked by mypy and pyright, never run: what a type checker must still see.

Opting in hides nothing: fields of a model, what a session returns, and which factory was wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, assert_type

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlmodel import Field, SQLModel
from sqlmodel import Session as SQLModelSession

from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    Configuration,
    ModelStats,
    SQLModelCache,
    Stats,
    aget_by,
    aget_many,
    awarm,
    cached,
    cached_sessionmaker,
    get_by,
    get_many,
    warm,
)
from sqlmodel_cache.transport import (
    AsyncCacheTransport,
    CacheTransport,
    MemoryTransport,
    RedisAsyncTransport,
    RedisSyncTransport,
)


class Mixed(CachedModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str


class Attributed(SQLModel, table=True):
    __cache_config__ = CacheConfig(ttl=5, negative_ttl=1, jitter=0.1)
    id: int = Field(primary_key=True)


@cached
class Bare(SQLModel, table=True):
    id: int = Field(primary_key=True)


@cached(ttl=3)
class Decorated(SQLModel, table=True):
    id: int = Field(primary_key=True)
    names: list[str] = Field(default_factory=list)


def fields_are_seen() -> None:
    """Of the mixin's heir, and of decorated classes."""
    mixed = Mixed(name="x")
    assert_type(mixed.id, int | None)
    assert_type(mixed.name, str)
    assert_type(Bare(id=1), Bare)
    assert_type(Decorated(id=1).names, list[str])
    assert_type(Mixed.__cache_config__, CacheConfig)
    assert_type(Attributed.__cache_config__, CacheConfig)


def sessions_return_what_they_return(session: Session, other: SQLModelSession) -> None:
    """Try get and get_one of every spelling."""
    assert_type(session.get(Mixed, 1), Mixed | None)
    assert_type(session.get(Decorated, 1, execution_options={"cache": False}), Decorated | None)
    assert_type(session.get_one(Bare, 1), Bare)
    assert_type(other.get(Attributed, 1), Attributed | None)


async def async_sessions_return_what_they_return(session: AsyncSession) -> None:
    """Try the awaited forms."""
    assert_type(await session.get(Mixed, 1), Mixed | None)
    assert_type(await session.get_one(Decorated, 1), Decorated)
    assert_type(await aget_many(session, Mixed, [1, 2]), list[Mixed | None])
    assert_type(await aget_by(session, Mixed, id=1), Mixed | None)
    assert_type(await awarm(session, Mixed, [1, 2]), int)
    assert_type(await awarm(session, select(Mixed)), int)


def get_many_returns_a_list(session: Session) -> None:
    """Of instances or None, for any iterable of keys."""
    assert_type(get_many(session, Mixed, [3, 1]), list[Mixed | None])
    assert_type(get_many(session, Decorated, (key for key in (1, 2))), list[Decorated | None])


def by_unique_key(session: Session) -> None:
    """Try get_by and warm."""
    assert_type(get_by(session, Mixed, id=1), Mixed | None)
    assert_type(warm(session, Mixed, range(5)), int)
    assert_type(warm(session, select(Mixed)), int)
    CacheConfig(unique=("email", ("org_id", "slug")))


def factories_stay_what_they_are(
    plain: sessionmaker[Session],
    ours: sessionmaker[SQLModelSession],
    asynchronous: async_sessionmaker[AsyncSession],
) -> None:
    """With their session class, through calls and begin()."""
    assert_type(cached_sessionmaker(plain), sessionmaker[Session])
    factory = cached_sessionmaker(ours, ttl=5, cache=False, namespace=lambda session: "tenant")
    assert_type(factory, sessionmaker[SQLModelSession])
    assert_type(factory(), SQLModelSession)
    assert_type(factory.begin(), AbstractContextManager[SQLModelSession])
    wrapped = cached_sessionmaker(asynchronous, transport="memory://")
    assert_type(wrapped, async_sessionmaker[AsyncSession])
    assert_type(wrapped(), AsyncSession)


async def the_door() -> None:
    """Call everything of SQLModelCache."""
    assert_type(SQLModelCache.get_config(), Configuration)
    assert_type(SQLModelCache.get_config().default_ttl, int)
    stats = SQLModelCache.stats()
    assert_type(stats, Stats)
    assert_type(stats.hits, int)
    assert_type(stats.bypasses, Mapping[str, int])
    assert_type(stats.models, Mapping[str, ModelStats])
    assert_type(SQLModelCache.bypass(), AbstractContextManager[None])
    SQLModelCache.configure("memory://")
    SQLModelCache.configure(transport=MemoryTransport(), consistency="eventual")
    SQLModelCache.invalidate(Mixed, 1, (1, 2), {"id": 1})
    await SQLModelCache.ainvalidate(Mixed)
    SQLModelCache.clear()
    await SQLModelCache.aclear()
    SQLModelCache.reset()


class MyStore:
    """Three methods, no inheritance."""

    def get(self, key: str) -> bytes | None:
        """Return nothing."""
        return None

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store nothing."""

    def delete(self, *keys: str) -> None:
        """Remove nothing."""


def transports_are_structural(sync: RedisSyncTransport, asynchronous: RedisAsyncTransport) -> None:
    """Ours and a user's satisfy the protocols."""
    mine: CacheTransport = MyStore()
    plain: CacheTransport = sync
    memory: CacheTransport = MemoryTransport(max_entries=5)
    awaited: AsyncCacheTransport = asynchronous
    things: list[Any] = [mine, plain, memory, awaited]
    assert_type(things, list[Any])
