"""`get_many`: one round trip for all hits, one `IN` query for all misses."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Uuid, inspect
from sqlalchemy.orm import Session

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.plan import plan_of
from sqlmodel_cache.orm.reads.along import bring_along
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, check_configured, decide
from sqlmodel_cache.orm.reads.identity import primary_key, values_of
from sqlmodel_cache.orm.reads.present import holds
from sqlmodel_cache.orm.reads.together import Pk, from_cache, query

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


def get_many(session: Session, model: type[T], keys: Iterable[Any]) -> list[T | None]:
    """Return the instances with these primary keys, in the order asked, None where no row is.

    Each key is spelt as `session.get()` takes it. Raises ConfigurationError before `configure()`
    and for what is not a primary key of `model`.
    """
    check_sync("get_many", session)
    return fetch(session, model, keys)[0]


def fetch(session: Session, model: type[T], keys: Iterable[Any]) -> tuple[list[T | None], int]:
    """Return what `get_many` returns, and how many rows were stored on the way."""
    mapper = inspect(model)
    given = listed(model, keys)
    asked = [primary_key(mapper, key) for key in given]
    if None in asked:
        raise ConfigurationError(
            f"{model.__name__}: a key does not have the form that session.get() takes"
        )
    wanted: list[Pk] = [pk for pk in asked if pk is not None]
    respelt: dict[Pk, Any] = {}  # text for a UUID: whether a load takes it is the driver's affair
    if any(isinstance(column.type, Uuid) for column in mapper.primary_key):
        respelt = {
            pk: key for pk, key in zip(wanted, given, strict=True) if values_of(mapper, key) != pk
        }
    plan = plan_of(model)
    found: dict[Pk, Any] = {}
    filled = 0
    missing = dict.fromkeys(wanted)
    identity_class = mapper.identity_key_from_primary_key((None,) * len(mapper.primary_key))[0]
    for pk in wanted if len(session.identity_map) else ():  # mostly it has nothing yet
        if holds(session, (identity_class, pk, None)):
            found[pk] = session.get(model, respelt.pop(pk, pk))
            missing.pop(pk, None)
    if missing and plan is not None:
        binding = binding_of(session)
        cache = cache_of(binding)
        if cache is None:
            check_configured(plan, NO_OPTIONS)
        else:
            scope = decide(cache, binding, session, plan, NO_OPTIONS, {}, snapshot_hits=True)
            if isinstance(scope, Bypass):
                for _ in missing:
                    cache.tally.for_model(plan.name).bypass(scope)
            else:
                for pk, spelt in list(respelt.items()):
                    if type(scope.asked(pk, spelt)) is Entry:
                        del respelt[pk]
                for pk in respelt:
                    del missing[pk]
                ask = partial(query, session, model, autoflush=False)  # `decide` has flushed
                loaded, filled, arrivals = from_cache(scope, list(missing), ask)
                bring_along(scope, arrivals)
                found |= loaded
                missing = {}
    for pk, spelt in respelt.items():
        missing.pop(pk, None)
        found[pk] = session.get(model, spelt)
    if missing:
        found |= query(session, model, list(missing))
    return [found.get(pk) for pk in wanted], filled


async def aget_many(session: AsyncSession, model: type[T], keys: Iterable[Any]) -> list[T | None]:
    """Like `get_many`, for an `AsyncSession`."""
    check_async("aget_many", session)
    return await session.run_sync(get_many, model, listed(model, keys))


def listed(model: type[Any], keys: Iterable[Any]) -> list[Any]:
    """Return the keys as a list; a lone one, of which a string would be many, is refused."""
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ConfigurationError(
            f"{model.__name__}: {type(keys).__name__} is no list of primary keys; put a single one"
            " into a list"
        )
    return list(keys)


def check_sync(name: str, session: object) -> None:
    """Raise ConfigurationError unless the function `name` was given a Session."""
    if hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"{name}() takes a Session; with an AsyncSession write `await a{name}(...)`"
        )
    if not hasattr(session, "identity_map"):
        raise ConfigurationError(f"{name}() takes a Session first, not {type(session).__name__}")


def check_async(name: str, session: object) -> None:
    """Raise ConfigurationError unless the function `name` was given an AsyncSession."""
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"{name}() takes an AsyncSession, not {type(session).__name__}; with a Session"
            f" write {name[1:]}(...)"
        )
