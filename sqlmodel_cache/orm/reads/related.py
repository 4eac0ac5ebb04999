"""`hero.team` answered from the cache: lazy loads that are lookups by primary key, and collections.

Stands around the SELECT that SQLAlchemy's own lazy loader is about to send: attribute history,
pending parents, `lazy="raise"` and the identity map have been seen to by then, and on a hit no
statement is ever built. A `do_orm_execute` listener would be public, but it is asked after the
statement was built, slows down every other one, and makes of each hit a result to be unpacked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _strategies
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.queries.lists import look_up_list
from sqlmodel_cache.orm.reads.decide import Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.lookup import hydrated, is_none, look_up
from sqlmodel_cache.orm.reads.places import place_of


def watch() -> None:
    """Stand around lazy loads. Idempotent."""
    _strategies.wrap_lazy_loads(_load)


def unwatch() -> None:
    """Leave them alone again."""
    _strategies.unwrap_lazy_loads()


def _load(wrapped: Callable[..., Any], loader: Any, args: Any, kwargs: Any) -> Any:
    plan = plan_of(loader.mapper.class_)
    if plan is None:
        return wrapped(*args, **kwargs)
    load = partial(wrapped, *args, **kwargs)
    asked = _strategies.keyed_load(loader, args)
    if asked is not None:
        return _look_up(plan, asked, load)
    owner = plan_of(loader.parent.class_)
    if owner is not None and loader.key in owner.config.collections:
        wanted = _strategies.list_load(loader, args)
        if wanted is not None:
            return look_up_list(plan, wanted, load)
    return load()


def _look_up(plan: Plan, asked: _strategies.KeyedLoad, load: Callable[[], Any]) -> Any:
    session = asked.session
    binding = binding_of(session)
    cache = cache_of(binding)
    pk = primary_key(plan.mapper, asked.identity)
    if cache is None or pk is None:
        return load()
    counters = cache.tally.for_model(plan.name)
    place = place_of(plan, asked.path, asked.state, asked.execution_options)
    if isinstance(place, Bypass):
        counters.bypass(place)
        return load()
    scope = decide(cache, binding, session, plan, asked.execution_options, {}, snapshot_hits=True)
    if type(scope) is not Scope:
        assert isinstance(scope, Bypass)
        counters.bypass(scope)
        return load()
    entry = scope.asked(pk, asked.identity)
    if type(entry) is not Entry:
        assert isinstance(entry, Bypass)
        counters.bypass(entry)
        return load()
    return look_up(scope, entry, pk, load, partial(hydrated, place=place), is_none)
