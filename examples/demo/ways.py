"""Two ways to read and write a `Counter`: with this library, and with the cache most people write.

The naive one does what recipes do: read Redis, else the database and store; delete after the
commit. It has a hole: whoever read the old row before the commit may store it after the delete.
"""

from __future__ import annotations

from typing import Any

import redis
from sqlalchemy import Engine
from sqlmodel import Session

from examples.demo.counter import Counter
from sqlmodel_cache import SQLModelCache

TTL = 120  # seconds: what a demo leaves in somebody's Redis goes soon
_NO_CACHE: Any = {"cache": False}


class Library:
    """`session.get()` and `session.commit()`. There is nothing else to do."""

    def __init__(self, engine: Engine, redis_url: str, prefix: str) -> None:
        self._engine = engine
        SQLModelCache.configure(redis_url, key_prefix=prefix, default_ttl=TTL)

    def read(self, row: int) -> int:
        """Return the version of a row, from the cache if it is there."""
        with Session(self._engine) as session:
            return session.get_one(Counter, row).version

    def write(self, row: int) -> int:
        """Raise a row's version, commit, and return it."""
        return _raise_version(self._engine, row)

    def hits(self) -> int:
        """Return how many reads the cache has answered."""
        return SQLModelCache.stats().hits

    def close(self) -> None:
        """Disconnect."""
        SQLModelCache.reset()


class Naive:
    """Get or load and set; delete after the commit."""

    def __init__(self, engine: Engine, redis_url: str, prefix: str) -> None:
        self._engine = engine
        self._redis = redis.Redis.from_url(redis_url)
        self._prefix = prefix
        self._hits = 0

    def read(self, row: int) -> int:
        """Return the version of a row, from Redis if it is there."""
        found = self._redis.get(f"{self._prefix}:{row}")
        if isinstance(found, bytes):
            self._hits += 1
            return int(found)
        with Session(self._engine) as session:
            version = session.get_one(Counter, row, execution_options=_NO_CACHE).version
        self._redis.set(f"{self._prefix}:{row}", version, ex=TTL)
        return version

    def write(self, row: int) -> int:
        """Raise a row's version, commit, delete the row from Redis, and return it."""
        version = _raise_version(self._engine, row)
        self._redis.delete(f"{self._prefix}:{row}")
        return version

    def hits(self) -> int:
        """Return how many reads Redis has answered."""
        return self._hits

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()


def _raise_version(engine: Engine, row: int) -> int:
    with Session(engine) as session:
        counter = session.get_one(Counter, row, execution_options=_NO_CACHE)
        counter.version += 1
        version = counter.version
        session.commit()
    return version


WAYS: dict[str, type[Library | Naive]] = {"library": Library, "naive": Naive}
