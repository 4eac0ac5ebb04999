"""`select(Model).where(primary key)` answered like a get, and `IN` like a get_many.

A statement counts if it is exactly that: one entity, a WHERE that pins its key, nothing more. The
result is the one that a load returns: same class, same metadata, whole instances. As in a load, an
instance that the session holds already is returned as it is; one with expired columns is the
database's business. Rows of an IN, which SQL leaves unordered, come in the order of their keys;
if none was in the cache, in the database's own.

A miss runs the statement itself, its rows taken at once so that they can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Result, inspect
from sqlalchemy.orm import Session

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _results
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.plan import unions
from sqlmodel_cache.orm.owned import Owned
from sqlmodel_cache.orm.reads.along import bring_along
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope, decide
from sqlmodel_cache.orm.reads.identity import identity
from sqlmodel_cache.orm.reads.lookup import look_up
from sqlmodel_cache.orm.reads.options import HARMLESS, buffered, check_names
from sqlmodel_cache.orm.reads.pinned import Pins, Values, pinned
from sqlmodel_cache.orm.reads.places import Arrival
from sqlmodel_cache.orm.reads.pointers import Pointers, look_up_unique
from sqlmodel_cache.orm.reads.present import AGAIN, instance_of
from sqlmodel_cache.orm.reads.together import by_identity, from_cache, query

if TYPE_CHECKING:
    from sqlmodel_cache.orm.model.plan import Plan
    from sqlmodel_cache.orm.model.reader import Reader
    from sqlmodel_cache.orm.model.uniques import Unique

_metadata: Owned[Any] = Owned("metadata")


class Named(msgspec.Struct, frozen=True):
    """The rows that a statement names: by primary key, or by values of one unique key."""

    keys: list[Values] | None
    unique: Unique | None
    values: list[Values]
    rows: list[Values]  # as the statement has them


def named(plan: Plan, statement: Any, params: Any) -> Named | None:
    """Return what a select by key names, None for any other statement."""
    pins = pinned(statement, plan.mapper, params)
    if pins is None:
        return None
    keys = pins.by(plan.key)
    unique = _unique(plan, pins) if keys is None else None
    values = None if unique is None else pins.by(unique.attributes)
    if keys is None and values is None:
        return None
    return Named(keys, unique, values or [], pins.rows)


def answer(
    execute: Callable[..., Result[Any]],
    session: Session,
    plan: Plan,
    which: Named,
    statement: Any,
    params: Any,
    how: dict[str, Any],
) -> Result[Any] | None:
    """Return the answer to a select by key, None if the cache has no say in it.

    `execute` is SQLAlchemy's own, for misses; `params` and `how` are what `Session.execute` got.
    """
    if plan.joins_collections:
        return None  # its result insists on `unique()`, which one of ours would not
    options = _options(session, statement, how.get("execution_options"))
    if options is None:
        return None
    binding = binding_of(session)
    cache = cache_of(binding)
    if cache is None:
        return None
    keys = which.keys
    by_key = keys is not None
    scope = decide(cache, binding, session, plan, options, how, snapshot_hits=by_key)
    if type(scope) is not Scope:
        assert isinstance(scope, Bypass)
        for _ in keys or which.rows:
            cache.tally.for_model(plan.name).bypass(scope)
        return None
    load = partial(execute, session, statement, params, **buffered(how, options))
    if which.unique is not None:
        pointers = _pointers(scope.reader, which.unique)
        made_of = partial(_results.entity_result, metadata_of(scope))
        return look_up_unique(scope, pointers, which.values[0], load, made_of)
    assert keys is not None
    if len(keys) == 1:
        return _one(scope, keys[0], load)
    return _several(scope, keys, load)


def _unique(plan: Plan, pins: Pins) -> Unique | None:
    """Return the unique key of which a single value is pinned, None if it is another query."""
    if plan.uniques and len(pins.rows) == 1 and not unions(plan.mapper):
        for unique in plan.uniques:
            if set(unique.attributes) == set(pins.names):
                return unique
    return None


def _pointers(reader: Reader, unique: Unique) -> Pointers:
    made: Pointers | None = reader.pointers.get(unique.attributes)
    if made is None:
        made = reader.pointers[unique.attributes] = Pointers(reader, unique)
    return made


def _options(session: Session, statement: Any, given: Any) -> Mapping[str, Any] | None:
    """Return the options of statement and call, None if one of them makes this another query."""
    own = getattr(session, "execution_options", None)
    said = statement.get_execution_options()
    if not (own or said or given):
        return NO_OPTIONS
    options = {**said, **(given or NO_OPTIONS)}
    check_names(options)
    return options if {*options, *(own or ())} <= HARMLESS else None


def _one(scope: Scope, pk: Values, load: Callable[[], Result[Any]]) -> Result[Any] | None:
    entry = scope.at(pk)
    if type(entry) is not Entry:
        assert isinstance(entry, Bypass)
        scope.reader.counters.bypass(entry)
        return None
    metadata = metadata_of(scope)

    def result_of(session: Session, found: object, load: Callable[[], Any]) -> Any:
        arrivals: list[Arrival] = []
        instance = instance_of(scope, found, arrivals)
        if instance is AGAIN:
            return load()
        bring_along(scope, arrivals)
        return _results.entity_result(metadata, () if instance is None else (instance,))

    def is_empty(result: Any) -> bool:
        return _results.prebuffered_instances(scope.session, result) == []

    result: Result[Any] = look_up(
        scope, entry, identity(scope.reader.plan.mapper, pk), load, result_of, is_empty
    )
    return result


def _several(scope: Scope, keys: list[Values], load: Callable[[], Result[Any]]) -> Result[Any]:
    session, model = scope.session, scope.reader.plan.mapper.class_
    loaded: list[Result[Any]] = []

    def ask(missing: list[Values]) -> dict[Values, Any]:
        if len(missing) < len(keys):
            return query(session, model, missing, autoflush=False)  # `decide` has flushed
        loaded.append(load())
        instances = _results.prebuffered_instances(session, loaded[0])
        # Whether a row is there cannot be told of a result that must not be read.
        return dict.fromkeys(missing) if instances is None else by_identity(instances)

    found, _, arrivals = from_cache(scope, keys, ask)
    if loaded:
        return loaded[0]
    bring_along(scope, arrivals)
    instances = list({id(each): each for each in found.values() if each is not None}.values())
    try:
        instances.sort(key=lambda each: inspect(each).identity)
    except TypeError:
        pass  # keys without an order: as they were asked for
    return _results.entity_result(metadata_of(scope), instances)


def forget_metadata() -> None:
    """Take what was remembered of results from every class."""
    _metadata.clear()


def metadata_of(scope: Scope) -> Any:
    """Return what a result of instances of the scope's model knows of them."""
    mapper = scope.reader.plan.mapper
    try:
        return _metadata[mapper.class_]
    except KeyError:
        return _metadata.setdefault(mapper.class_, _results.entity_metadata(mapper))
