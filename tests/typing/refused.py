"""Checked by mypy, never run: mistakes that a type checker must find.

Each `type: ignore` names the error that it expects; one that is not needed is an error itself
(`warn_unused_ignores`, part of `--strict`), so a mistake that passes is found too.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel

from sqlmodel_cache import (
    CacheConfig,
    CachedModel,
    SQLModelCache,
    cached,
    cached_sessionmaker,
    get_by,
    get_many,
    warm,
)
from sqlmodel_cache.transport import AsyncCacheTransport, CacheTransport, MemoryTransport


class Row(CachedModel, table=True):
    id: int = Field(primary_key=True)


def wrong_policies() -> None:
    """Types, names and positions."""
    CacheConfig(ttl="5")  # type: ignore[arg-type]
    CacheConfig(tll=5)  # type: ignore[call-arg]
    CacheConfig(True, 5, 10)  # type: ignore[call-arg]
    CacheConfig().ttl = 5  # type: ignore[misc]
    cached(ttl="5")  # type: ignore[call-overload]
    cached(tll=5)  # type: ignore[call-overload]
    cached(5)  # type: ignore[call-overload]


def wrong_configurations() -> None:
    """Everything but the transport is by keyword, and of its type."""
    SQLModelCache.configure()  # type: ignore[call-arg]
    SQLModelCache.configure("memory://", 300)  # type: ignore[call-arg]
    SQLModelCache.configure("memory://", default_ttl="300")  # type: ignore[arg-type]
    SQLModelCache.configure("memory://", default_tll=300)  # type: ignore[call-arg]
    SQLModelCache.configure("memory://", consistency="weak")  # type: ignore[arg-type]
    SQLModelCache.configure("memory://", on_fence_failure="retry")  # type: ignore[arg-type]
    SQLModelCache.configure("memory://", namespace=5)  # type: ignore[arg-type]
    SQLModelCache.get_config().default_ttl = 5  # type: ignore[misc]
    SQLModelCache.stats().hits = 5  # type: ignore[misc]


def wrong_calls(session: Session) -> None:
    """Models, keys and factories of the wrong kind."""
    SQLModelCache.invalidate("Row", 1)  # type: ignore[arg-type]
    get_many(session, Row, 1)  # type: ignore[arg-type]
    get_many("session", Row, [1])  # type: ignore[arg-type]
    get_by("session", Row, id=1)  # type: ignore[arg-type]
    get_by(session, Row, 1)  # type: ignore[call-arg]
    warm(session, Row, 1)  # type: ignore[call-overload]
    warm(session, Row)  # type: ignore[call-overload]
    CacheConfig(unique="email")  # type: ignore[arg-type]
    cached_sessionmaker(Session)  # type: ignore[type-var]
    session.get_one(Row, 1).nonsense  # type: ignore[attr-defined]  # noqa: B018
    row: SQLModel = session.get(Row, 1)  # type: ignore[assignment]
    del row


class Half:
    """A delete is missing."""

    def get(self, key: str) -> bytes | None:
        """Return nothing."""
        return None

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store nothing."""


def wrong_transports() -> None:
    """Give what is no transport, or none of that kind."""
    half: CacheTransport = Half()  # type: ignore[assignment]
    plain: AsyncCacheTransport = MemoryTransport()  # type: ignore[assignment]
    del half, plain
