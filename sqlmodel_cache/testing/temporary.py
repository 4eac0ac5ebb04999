"""A cache for the length of a test, and then everything as it was before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.orm import activation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel_cache.config import Configuration


@contextmanager
def temporary_cache(transport: Any = "memory://", **settings: Any) -> Iterator[type[SQLModelCache]]:
    """Configure with `transport` and `settings` while the block runs; yield `SQLModelCache`.

    Afterwards the former configuration is made again (`memory://` begins empty, a transport that
    was given as an object has its entries), or there is none as before. Caches that a
    `cached_sessionmaker` carries go on. Takes what `SQLModelCache.configure()` takes, and raises
    what it raises.
    """
    former: Configuration | None = None if _state.active is None else _state.active.config
    unseen = _state.wrote_unseen
    SQLModelCache.configure(transport, **settings)
    try:
        yield SQLModelCache
    finally:
        activation.reinstate(former)
        _state.wrote_unseen = unseen  # a store that lived for one test has nothing to renew
