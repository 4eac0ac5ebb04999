"""The private names of SQLAlchemy's relationship loaders that this library touches.

As in `_sqlalchemy`: checked on 2.0.58 and 2.1.9. What loads relationships has moved between modules
more than within them; this calls just `_load_for_state` and stands around just `_emit_lazyload`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import wrapt
from sqlalchemy import select
from sqlalchemy.orm import (
    InstanceState,
    Load,
    Mapper,
    RelationshipProperty,
    Session,
    attributes,
    context,
    lazyload,
    strategies,
)
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag
from sqlalchemy.orm.strategy_options import _AttributeStrategyLoad, _TokenStrategyLoad

# 2.1 has the underscore.
LazyLoader: Any = vars(strategies).get("_LazyLoader") or vars(strategies)["LazyLoader"]
_CompileState: Any = vars(context).get("_ORMCompileState") or vars(context)["ORMCompileState"]

_NOT_LOADED = (LoaderCallableStatus.ATTR_WAS_SET, LoaderCallableStatus.PASSIVE_NO_RESULT)
_LOUD = PassiveFlag.PASSIVE_OFF | PassiveFlag.NO_RAISE
_QUIET = PassiveFlag.PASSIVE_NO_FETCH_RELATED | PassiveFlag.NO_RAISE


def path_entities(path: Any) -> tuple[Mapper[Any], ...]:
    """Return the mappers that a load path leads through, its last one included."""
    return tuple(path.path[::2])


def path_below(path: Any, prop: RelationshipProperty[Any]) -> Any:
    """Return the load path of what `prop` finds from the entity at `path`."""
    return path[prop][prop.entity]


def is_by_key(prop: RelationshipProperty[Any]) -> bool:
    """Tell whether loading this relationship is looking up a primary key, and nothing else."""
    by_key: bool = prop._use_get
    return by_key


def reverses(prop: RelationshipProperty[Any]) -> set[RelationshipProperty[Any]]:
    """Return the relationships that lead back, by `back_populates` or `backref`."""
    found: set[RelationshipProperty[Any]] = prop._reverse_property
    return found


def leads_to_alias(prop: RelationshipProperty[Any]) -> bool:
    """Tell whether the target is an aliased class."""
    return bool(prop.entity.is_aliased_class)


def _lazy_loader(prop: RelationshipProperty[Any]) -> Any:
    """Return the loader that every relationship has for access, however else it is loaded."""
    return prop._get_strategy((("lazy", "select"),))


def related_identity(
    prop: RelationshipProperty[Any], session: Session, state: InstanceState[Any]
) -> tuple[Any, ...] | None:
    """Return the primary key that a relationship by key points to, None if it points nowhere.

    Reads nothing but what is loaded already.
    """
    found = _lazy_loader(prop)._get_ident_for_use_get(session, state, PassiveFlag.PASSIVE_NO_FETCH)
    if any(value is None or isinstance(value, LoaderCallableStatus) for value in found):
        return None
    return tuple(found)


def load_related(
    prop: RelationshipProperty[Any],
    state: InstanceState[Any],
    path: Any,
    execution_options: Mapping[str, Any],
    *,
    quiet: bool = False,
) -> None:
    """Have an attribute's own lazy loader load it, as `ImmediateLoader` does.

    `path` is that of the parent. `quiet`: as it does at a cycle, where a lookup by key takes
    what the identity map has (and anything else is loaded all the same).
    """
    if prop.key in state.dict:
        return
    value = _lazy_loader(prop)._load_for_state(
        state,
        _QUIET if quiet else _LOUD,
        alternate_effective_path=path,
        execution_options=execution_options,
    )
    if not any(value is nothing for nothing in _NOT_LOADED):
        attributes.set_committed_value(state.obj(), prop.key, value)


class KeyedLoad(NamedTuple):
    """A lazy load that is a lookup by primary key, as its loader is about to send it.

    `path` is that of the target.
    """

    session: Session
    state: InstanceState[Any]
    target: Mapper[Any]
    identity: Sequence[Any]
    path: Any
    execution_options: dict[str, Any]


def keyed_load(loader: Any, arguments: tuple[Any, ...]) -> KeyedLoad | None:
    """Read the arguments of `_emit_lazyload`; None for what only the database can answer.

    That is: a condition of any other kind, one that an option added to, a refresh, and
    `lazy="raise_on_sql"`, which must not depend on what is cached.
    """
    session, state, identity, *_ = arguments
    about = _about(loader, arguments) if loader.use_get else None
    return None if about is None else KeyedLoad(session, state, loader.mapper, identity, *about)


def _about(loader: Any, arguments: tuple[Any, ...]) -> tuple[Any, dict[str, Any]] | None:
    """Return (load path of the target, execution options) of a lazy load."""
    _, state, _, passive, loadopt, _, extra, path, given = arguments
    if loader._raise_on_sql or extra:
        return None
    if loadopt is not None and loadopt._extra_criteria:
        return None
    options = dict(given)
    outer = options.pop("sa_top_level_orm_context", None)
    if outer is not None:
        if outer.refresh_state is not None:
            return None
        options = {**outer.query._execution_options, **outer.execution_options, **options}
    if not state.key or passive & PassiveFlag.NO_AUTOFLUSH:
        options["autoflush"] = False
    if path is None:
        path = state.load_path if state.load_options else state.mapper._path_registry
    return path_below(path, loader.parent_property), options


class ListLoad(NamedTuple):
    """A lazy load by a condition on other columns than a primary key, about to be sent.

    `parameters` are those of the SELECT that `list_statement` returns; `path` as in `KeyedLoad`.
    """

    session: Session
    state: InstanceState[Any]
    prop: RelationshipProperty[Any]
    parameters: dict[str, Any]
    path: Any
    execution_options: dict[str, Any]


def list_load(loader: Any, arguments: tuple[Any, ...]) -> ListLoad | None:
    """Read the arguments of `_emit_lazyload`; None for what only the database can answer."""
    session, state, _, passive, *_ = arguments
    about = None if loader.use_get or not state.key else _about(loader, arguments)
    if about is None or loader.key in state.dict:
        return None
    _, parameters = loader._generate_lazy_clause(state, passive)
    if any(isinstance(value, LoaderCallableStatus) for value in parameters.values()):
        return None
    return ListLoad(session, state, loader.parent_property, parameters, *about)


def list_statement(
    prop: RelationshipProperty[Any], left_out: Iterable[RelationshipProperty[Any]]
) -> Any:
    """Return the SELECT of a relationship's lazy load, as a statement of its own.

    `left_out` are relationships of the target that it does not load eagerly.
    """
    loader = _lazy_loader(prop)
    statement = select(prop.entity).where(loader._simple_lazy_clause[0])
    if prop.secondary is not None:
        statement = statement.select_from(prop.mapper, prop.secondary)
    statement = statement.options(*(lazyload(each.class_attribute) for each in left_out))
    return statement.order_by(*loader._order_by) if loader._order_by else statement


def statement_below(path: Any, prop: RelationshipProperty[Any], load_options: Any) -> Any:
    """Return the SELECT of what `prop` leads to from `path`, with the options of the whole load."""
    statement = select(prop.entity).options(*load_options)
    statement._compile_options = _CompileState.default_compile_options + {
        "_current_path": path[prop]
    }
    return statement


class Wish(NamedTuple):
    """What a loader option says of one attribute: the way to it, and how it is to be loaded.

    `lazy` is None for what says nothing about that: `defaultload()`, options of columns.
    """

    path: tuple[Any, ...]
    lazy: Any


def wishes(options: Any) -> list[Wish] | None:
    """Return what loader options say, None if one of them does more than choose a loader.

    That is: criteria, `of_type`, inner joins, recursion, wildcards, anything that is no `Load`.
    """
    if not isinstance(options, list | tuple):
        return None
    found = []
    for option in options:
        if type(option) is not Load or not option.propagate_to_loaders:
            return None
        for element in option.context:
            known = type(element) in (_AttributeStrategyLoad, _TokenStrategyLoad)
            if not known or element._extra_criteria or any(element.local_opts.values()):
                return None
            if getattr(element, "_of_type", None) is not None:
                return None
            lazy = dict(element.strategy or ()).get("lazy")
            found.append(Wish(tuple(element.path.path), lazy))
    return found


def concern(said: list[Wish], path: Any) -> bool:
    """Tell whether a wish is about what is loaded with the entity at `path`, or after it."""
    there = tuple(path.path)
    return any(len(each.path) > len(there) and each.path[: len(there)] == there for each in said)


def wrap_lazy_loads(wrapper: Callable[..., Any]) -> None:
    """Stand around each SELECT that a lazy load is about to send. Idempotent."""
    if not isinstance(LazyLoader.__dict__["_emit_lazyload"], wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(LazyLoader, "_emit_lazyload", wrapper)


def unwrap_lazy_loads() -> None:
    """Stand there no longer."""
    found = LazyLoader.__dict__["_emit_lazyload"]
    if isinstance(found, wrapt.FunctionWrapper):
        LazyLoader._emit_lazyload = found.__wrapped__
