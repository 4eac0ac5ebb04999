"""Whether a row is in the store, asked of the store: no session, no SQL, no count changed."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.writes import explicit
from sqlmodel_cache.protocol import read


class AssertCached(Protocol):
    """The type of `assert_cached` and `assert_not_cached`, for annotations of the fixtures."""

    def __call__(self, model: type, key: Any, *, bind: Any = None) -> None:
        """Assert on the row of `model` with the primary key `key`."""


def assert_cached(model: type, key: Any, *, bind: Any = None) -> None:
    """Raise AssertionError unless the store holds a usable entry for this row.

    Usable: of the current epoch, unexpired and readable. A remembered "no such row" counts. It
    says nothing of the session that asks next: inside a transaction that wrote the row, a get
    goes to the database all the same.

    Args:
        model: a cached class.
        key: a primary key, as `session.get()` takes it.
        bind: an engine, connection or session of the database meant; by default every database
            that this process has used.

    Raises ConfigurationError where the model is not cached, nothing is configured or no database
    is known, UnavailableError where the store cannot be asked. An async-only transport is asked
    by `await session.run_sync(lambda _: assert_cached(Hero, 1))`.
    """
    if not _is_cached(model, key, bind):
        raise AssertionError(f"{model.__name__} is not cached under this key; {_counts(model)}")


def assert_not_cached(model: type, key: Any, *, bind: Any = None) -> None:
    """Raise AssertionError if the store holds a usable entry for this row; see `assert_cached`."""
    if _is_cached(model, key, bind):
        raise AssertionError(f"{model.__name__} is cached under this key; {_counts(model)}")


def _is_cached(model: type, key: Any, bind: Any) -> bool:
    plan = plan_of(model)
    for cache, dialect, namespace, entry in explicit.places(model, key, bind):
        assert plan is not None, "what has entries has a plan"
        reader = cache.sites.of(dialect).reader(namespace, plan)
        errors = reader.counters.errors
        outcome = bridge.run(cache.stores, read.peek(entry, partial(reader.verify, entry)))
        reader.counters.errors = errors
        if isinstance(outcome, read.Hit):
            return True
    return False


def _counts(model: type) -> str:
    stats = explicit.active().stats().models[model.__name__]
    return (
        f"since configure(): hits={stats.hits} misses={stats.misses} fills={stats.fills}"
        f" invalidations={stats.invalidations} bypasses={dict(stats.bypasses)}"
    )
