"""`hero.team` answered from the cache: lazy loads that are lookups by primary key.

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
from sqlmodel_cache.orm.reads.along import related_place
from sqlmodel_cache.orm.reads.decide import Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.lookup import hydrated, is_none, look_up


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
    asked = _strategies.keyed_load(loader, args)
    if asked is None:
        return wrapped(*args, **kwargs)
    return _look_up(plan, asked, partial(wrapped, *args, **kwargs))


def _look_up(plan: Plan, asked: _strategies.KeyedLoad, load: Callable[[], Any]) -> Any:
    session = asked.session
    binding = binding_of(session)
    cache = cache_of(binding)
    pk = primary_key(plan.mapper, asked.identity)
    if cache is None or pk is None:
        return load()
    counters = cache.tally.for_model(plan.name)
    options = asked.state.load_options
    place = related_place(plan, asked.path, asked.execution_options, options)
    reason = Bypass.EAGER if place is None else None
    if options:  # of the load that brought the parent; they go on to its lazy loads
        said = _strategies.wishes(tuple(options))
        if said is None or _strategies.concern(said, asked.path):
            reason = Bypass.LOADER_OPTIONS
    if asked.state.identity_token is not None:
        reason = Bypass.IDENTITY_TOKEN
    if reason is not None:
        counters.bypass(reason)
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
