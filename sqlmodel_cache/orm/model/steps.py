"""Which relationships a load of one mapper loads with it, worked out from the mapping alone.

Each becomes a `Step`, which has the attribute's own lazy loader do it, as `ImmediateLoader` does.
SQLAlchemy stops at cycles by the path that led to an entity: loaders with a SELECT of their own
look at the whole path, joins at the part of it that is in their own SELECT. Where a lazy load in
the place of a join would go on to other entities than the join, there are no steps at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty

from sqlmodel_cache.orm import _strategies

# Loaded on access, or never.
LATER: Final = frozenset({"select", True, "raise", "raise_on_sql", "dynamic", "write_only"})
EMPTY: Final = frozenset({"noload", None})
JOINED: Final = frozenset({"joined", False})
SELECTED: Final = frozenset({"selectin", "subquery", "immediate"})

# Of these a load's own events see nothing: they have a SELECT after it.
_AFTERWARDS: Final = frozenset({"selectin", "immediate"})

_OVERRIDING: Final = frozenset({"select", True}) | JOINED | SELECTED
_OVERRIDDEN: Final = _OVERRIDING | {"raise", "raise_on_sql"}

_Relationship: TypeAlias = RelationshipProperty[Any]
_Entities: TypeAlias = tuple[Mapper[Any], ...]


class Step(msgspec.Struct, frozen=True, eq=False):
    """One attribute to load.

    `quiet`: at a cycle; a lookup by key only if it needs no SQL. `empty`: with nothing.
    `mirrors`: attributes of what was found that lead back, and that this relationship's own
    eager loader would have set.
    """

    prop: _Relationship
    lazy: Any
    quiet: bool = False
    empty: bool = False
    mirrors: tuple[str, ...] = ()

    @property
    def afterwards(self) -> bool:
        """Whether a load loads it after the events of the instance that it belongs to."""
        return self.lazy in _AFTERWARDS


class NotTheSame(Exception):
    """Lazy loads would not bring the same objects as the eager loaders do."""


def steps_of(mapper: Mapper[Any], path: Any) -> tuple[Step, ...]:
    """Return what is loaded with an entity of `mapper` at `path`, the first one of its SELECT.

    Joins come first, and last what has a SELECT after it, as in a load. Raises NotTheSame.
    """
    steps = _steps(mapper, _strategies.path_entities(path), (mapper,))
    if steps:
        _check_tangle(mapper, path, steps)
    return steps


def steps_below(mapper: Mapper[Any], path: Any) -> tuple[Step, ...]:
    """Return the same for a part of what `steps_of` was asked for before."""
    return _steps(mapper, _strategies.path_entities(path), (mapper,))


def _steps(mapper: Mapper[Any], entities: _Entities, joined: _Entities) -> tuple[Step, ...]:
    found = (step_of(prop, prop.lazy, entities, joined) for prop in mapper.relationships)
    return _in_order(mapper, filter(None, found))


def _in_order(mapper: Mapper[Any], steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps in the order in which a load takes them. Raises NotTheSame."""
    ordered = tuple(sorted(steps, key=lambda step: (step.afterwards, step.lazy not in JOINED)))
    if len(mapper.self_and_descendants) > 1 and any(step.lazy == "immediate" for step in ordered):
        raise NotTheSame  # SQLAlchemy takes a row of a subclass for a cycle, now and then
    return ordered


def steps_with(
    mapper: Mapper[Any], path: Any, chosen: Mapping[_Relationship, Any]
) -> tuple[Step, ...]:
    """Return the same as `steps_of` where options chose loaders. Raises NotTheSame.

    An option is followed into a cycle, too.
    """
    entities = _strategies.path_entities(path)
    found = []
    for prop in mapper.relationships:
        if prop not in chosen:
            step = step_of(prop, prop.lazy, entities, (mapper,))
        else:
            step = _chosen_step(prop, chosen[prop], mapper)
        if step is not None:
            found.append(step)
    steps = _in_order(mapper, found)
    _check_tangle(mapper, path, steps)
    return steps


def _chosen_step(prop: _Relationship, lazy: Any, mapper: Mapper[Any]) -> Step | None:
    if prop.lazy not in _OVERRIDDEN or lazy not in _OVERRIDING:
        raise NotTheSame
    if lazy in LATER:
        if prop.lazy in ("raise", "raise_on_sql"):
            raise NotTheSame  # such an attribute gets a loader of its instance's own
        return None
    if _strategies.leads_to_alias(prop):
        raise NotTheSame
    if lazy == "subquery" and brings_along(prop.mapper):
        raise NotTheSame
    if lazy in JOINED:
        _check_join(prop, (mapper,))
    return Step(prop, lazy, mirrors=_mirrors(prop, lazy))


def brings_along(mapper: Mapper[Any]) -> bool:
    """Tell whether a mapper has relationships that may be loaded with its entities."""
    return any(prop.lazy not in LATER for prop in mapper.relationships)


def step_of(prop: _Relationship, lazy: Any, entities: _Entities, joined: _Entities) -> Step | None:
    """Return how a relationship is loaded with its parent, None if it is not. Raises NotTheSame."""
    if lazy in LATER:
        return None
    if lazy in EMPTY:
        return Step(prop, lazy, empty=True)
    if lazy not in JOINED | SELECTED or _strategies.leads_to_alias(prop):
        raise NotTheSame
    if lazy in SELECTED:
        if _runs(prop, entities):
            if lazy == "subquery" and any(
                rel.lazy not in LATER for rel in prop.mapper.relationships
            ):
                raise NotTheSame  # its SELECT keeps but a part of the path, now and then
            return Step(prop, lazy, mirrors=_mirrors(prop, lazy))
        return Step(prop, lazy, quiet=True) if lazy == "immediate" else None
    if not _runs(prop, joined):
        return None
    _check_join(prop, joined)
    return Step(prop, lazy, mirrors=_mirrors(prop, lazy))


def joins_collections(mapper: Mapper[Any]) -> bool:
    """Tell whether a row of `mapper` may come several times, once for each of a collection.

    Then SQLAlchemy refuses to hand out a result without `unique()`.
    """
    seen = set()
    todo = [mapper]
    while todo:
        for prop in todo.pop().relationships:
            if prop.lazy in JOINED and prop not in seen:
                if prop.uselist:
                    return True
                seen.add(prop)
                todo.append(prop.mapper)
    return False


def has_own_eager(mapper: Mapper[Any], base: Mapper[Any]) -> bool:
    """Tell whether `mapper` has an eager relationship that its `base` has not."""
    known = set(base.relationships)
    return any(prop.lazy not in LATER and prop not in known for prop in mapper.relationships)


def _runs(prop: _Relationship, entities: _Entities) -> bool:
    """Tell whether SQLAlchemy loads on from here, or sees a cycle."""
    if prop.join_depth:
        return len(entities) <= prop.join_depth
    return prop.mapper not in entities


def _check_join(prop: _Relationship, joined: _Entities) -> None:
    """Raise NotTheSame if a SELECT of its own would join on otherwise than this join does."""
    target = prop.mapper
    if prop.innerjoin and not _always_there(prop):
        raise NotTheSame  # the join decides whether the parent itself is found
    back = () if _strategies.is_by_key(prop) else eager_reverses(prop)
    if _joins(target, (*joined, target)) != _joins(target, (target,), back):
        raise NotTheSame


def _joins(
    mapper: Mapper[Any], joined: _Entities, left_out: Iterable[_Relationship] = ()
) -> frozenset[Any]:
    """Return what is joined to an entity, and to that in turn."""
    return frozenset(
        (prop, _joins(prop.mapper, (*joined, prop.mapper)))
        for prop in mapper.relationships
        if prop.lazy in JOINED and prop not in left_out and _runs(prop, joined)
    )


def _always_there(prop: _Relationship) -> bool:
    return _strategies.is_by_key(prop) and not any(
        getattr(column, "nullable", True) for column in prop.local_columns
    )


def _mirrors(prop: _Relationship, lazy: Any) -> tuple[str, ...]:
    """Return the attributes that lead back and are loaded, where a lazy load leaves them out."""
    if _strategies.is_by_key(prop) or lazy == "immediate":
        return ()
    reverses = eager_reverses(prop)
    if any(rev.join_depth for rev in reverses):
        raise NotTheSame
    loaded = {"immediate"} if lazy in JOINED else {"immediate"} | JOINED
    return tuple(rev.key for rev in reverses if rev.lazy in loaded)


def eager_reverses(prop: _Relationship) -> list[_Relationship]:
    """Return the eager lookups by key that lead back: a lazy load of `prop` leaves them out."""
    return [
        rev
        for rev in _strategies.reverses(prop)
        if rev.direction is RelationshipDirection.MANYTOONE
        and _strategies.is_by_key(rev)
        and rev.lazy not in LATER
        and prop.mapper.isa(rev.parent)
    ]


class _Arrival(msgspec.Struct, frozen=True, eq=False):
    """That entities of `mapper` come in by way of `by`, None for the first ones."""

    mapper: Mapper[Any]
    by: _Relationship | None
    steps: tuple[Step, ...]


_MANY = 200  # arrivals in one load


def _check_tangle(mapper: Mapper[Any], path: Any, steps: tuple[Step, ...]) -> None:
    """Raise NotTheSame if it depends on an order of loading which attributes are loaded.

    That is so where one object can arrive in two ways and bring different things along.
    """
    first = _Arrival(mapper, None, steps)
    arrivals = [first]
    _follow(first, _strategies.path_entities(path), (mapper,), arrivals)
    shapes: dict[Mapper[Any], Any] = {}
    for arrival in arrivals:
        # Two classes of one hierarchy may be two ways to one object, too.
        shape = (arrival.mapper, frozenset((step.prop, step.quiet) for step in arrival.steps))
        if shapes.setdefault(arrival.mapper.base_mapper, shape) != shape:
            raise NotTheSame
    loaded = {arrival.mapper.base_mapper for arrival in arrivals if arrival is not first}
    for arrival in arrivals:
        for step in arrival.steps:
            if step.quiet and _strategies.is_by_key(step.prop):
                back = arrival.by is not None and step.prop in _strategies.reverses(arrival.by)
                if step.prop.mapper.base_mapper in loaded and not back:
                    raise NotTheSame  # it may be there at the time, or not yet


def _leads_back(prop: _Relationship, by: _Relationship) -> bool:
    return (
        by.lazy != "immediate"  # which goes on at cycles, by whatever way comes first
        and not _strategies.is_by_key(by)
        and _strategies.is_by_key(prop)
        and prop in _strategies.reverses(by)
    )


def _follow(
    arrival: _Arrival, entities: _Entities, joined: _Entities, arrivals: list[_Arrival]
) -> None:
    for step in arrival.steps:
        prop, target = step.prop, step.prop.mapper
        if step.empty or (step.quiet and _strategies.is_by_key(prop)):
            continue
        if arrival.by is not None and _leads_back(prop, arrival.by):
            continue  # to the one object that this came from, which is there
        below = (*entities, target)
        here = (*joined, target) if step.lazy in JOINED else (target,)
        found = _Arrival(target, prop, _steps(target, below, here))
        arrivals.append(found)
        if len(arrivals) > _MANY:
            raise NotTheSame
        _follow(found, below, here, arrivals)
