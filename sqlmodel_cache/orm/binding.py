"""What a session's factory said about caching, found on its private session class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import Session as SessionOfSQLModel

from sqlmodel_cache import _state
from sqlmodel_cache.orm.shards import is_its_own

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

    from sqlmodel_cache.config import Namespace
    from sqlmodel_cache.orm.cache import Cache

ATTRIBUTE: Final = "__sqlmodel_cache_binding__"


@dataclass(frozen=True, slots=True)
class Binding:
    """The defaults of one cached_sessionmaker. `cache` None: the global one."""

    cache: Cache | None = None
    namespace: Namespace | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def binding_of(session: Session) -> Binding | None:
    """Return the binding of a session that a cached_sessionmaker made, else None."""
    return getattr(session, ATTRIBUTE, None)


def cache_of(binding: Binding | None) -> Cache | None:
    """Return the cache that a session uses, None if none is configured."""
    if binding is not None and binding.cache is not None and not binding.cache.closed:
        return binding.cache
    active: Cache | None = _state.active
    return active


def routes(session: Session) -> bool:
    """Tell whether a session class chooses an engine by rules of its own.

    It may choose another one at each question: for reads one of several replicas, at random.
    """
    return type(session).get_bind is not Session.get_bind


def bind_for(session: Session, mapper: Mapper[Any], shard: Any = None) -> Any:
    """Return the engine or connection from which a load of `mapper` would read."""
    if shard is not None:
        return session.get_bind(mapper, shard_id=shard)
    if routes(session):
        return session.get_bind(mapper=mapper, clause=select(mapper))
    return session.get_bind(mapper)


def foreign_orm_hooks(session: Session) -> bool:
    """Tell whether somebody's listener, or the session's own class, may change what a load returns.

    `do_orm_execute` may change the statement, and so may an `execute()` of the class, by which
    each load goes; `after_begin`, where ours is one, the connection: `SET LOCAL app.tenant` for
    row-level security runs there, after a hit would have been given.
    """
    dispatch = session.dispatch
    execute = type(session).execute
    if execute is not SessionOfSQLModel.execute and execute is not Session.execute:
        return True
    if len(dispatch.after_begin) > 1:
        return True
    return bool(dispatch.do_orm_execute) and not all(map(is_its_own, dispatch.do_orm_execute))
