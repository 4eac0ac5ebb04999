"""What comes along with a hit and is in the session already: completed, as a load would do it.

The SELECT of an eager loader fills what an instance that it meets has not loaded: expired and left
out attributes, and the relationships below it. A lazy loader that finds its target in the identity
map looks no further, and its own SELECT does not go on below what the session holds. So where such
an instance lacks something, a SELECT like the eager loader's is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.collections import collection_adapter

from sqlmodel_cache.orm import _strategies
from sqlmodel_cache.orm.model.plan import view_of
from sqlmodel_cache.orm.model.steps import JOINED, SELECTED, steps_below
from sqlmodel_cache.orm.reads.options import OURS
from sqlmodel_cache.orm.reads.together import keyed

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session

    from sqlmodel_cache.orm.model.steps import Step
    from sqlmodel_cache.orm.reads.places import Place

_Wishes = Sequence[_strategies.Wish]


def held_by(session: Session, states: Sequence[InstanceState[Any]], step: Step) -> list[Any]:
    """Return what a step is known to lead to, as far as the session holds it."""
    if step.quiet or step.empty or step.lazy == "immediate":
        return []
    return [each for state in states for each in _targets(session, state, step.prop)]


def complete_held(
    session: Session, held: Sequence[Any], step: Step, place: Place, *, selected: bool = False
) -> None:
    """Complete instances that a step from `place` leads to.

    `selected`: they came by a SELECT just now, which has filled the columns of those that were
    there before, and told listeners of it.
    """
    path = _strategies.path_below(place.path, step.prop)
    said = _strategies.wishes(place.load_options) or ()
    states = {instance_state(each) for each in held}
    short = [
        state.key[1]  # type: ignore[index]  # none is pending
        for state in states
        if _lacks(state, path, said, heard=not selected)
    ]
    if short:
        statement = _strategies.statement_below(place.path, step.prop, place.load_options)
        statement = statement.where(keyed(step.prop.mapper, short))
        options = {**place.execution_options, **OURS, "autoflush": False}
        session.execute(statement, execution_options=options).unique().all()


def _targets(
    session: Session, state: InstanceState[Any], prop: RelationshipProperty[Any]
) -> Iterator[Any]:
    if prop.key in state.dict:
        yield from _members(state, prop)
    elif _strategies.is_by_key(prop):
        identity = _strategies.related_identity(prop, session, state)
        if identity is not None:
            key = prop.mapper.identity_key_from_primary_key(identity)
            found = session.identity_map.get(key)
            if found is not None and instance_state(found).mapper.isa(prop.mapper):
                yield found


def _members(state: InstanceState[Any], prop: RelationshipProperty[Any]) -> list[Any]:
    """Return the persistent instances in an attribute that is loaded; none where it is not."""
    found = state.dict.get(prop.key)
    if found is None:
        return []
    members = collection_adapter(found) if prop.uselist else [found]
    return [each for each in members if instance_state(each).persistent]


def _lacks(state: InstanceState[Any], path: Any, said: _Wishes, *, heard: bool) -> bool:
    """Tell whether a load that met this instance at `path` would change it, or what is below.

    `heard`: or would tell listeners to `refresh` of it.
    """
    mapper = path.path[-1]
    below = _loaded_below(path, said)
    if unloaded := state.unloaded:
        if heard and state.mapper.class_manager.dispatch.refresh:
            return True
        if not unloaded.isdisjoint(prop.key for prop in below):
            return True
        columns = unloaded.difference(state.mapper.relationships.keys())
        if columns and not columns.isdisjoint(_columns_loaded(mapper, state.mapper)):
            return True
    return any(
        _lacks(instance_state(each), _strategies.path_below(path, prop), said, heard=heard)
        for prop, lazy in below.items()
        if lazy != "immediate"
        for each in _members(state, prop)
    )


def _columns_loaded(asked: Mapper[Any], actual: Mapper[Any]) -> list[str]:
    return [prop.key for prop in view_of(asked, actual).columns]


def _loaded_below(path: Any, said: _Wishes) -> dict[RelationshipProperty[Any], Any]:
    """Return the relationships that are loaded with an entity at `path`, and how."""
    steps = steps_below(path.path[-1], path)
    found = {step.prop: step.lazy for step in steps if not (step.quiet or step.empty)}
    here = tuple(path.path)
    for wish in said:
        about, rest = wish.path[: len(here)], wish.path[len(here) :]
        # The way of a join goes on to its target.
        if about == here and len(rest) in (1, 2) and wish.lazy in JOINED | SELECTED:
            found[rest[0]] = wish.lazy
    return found
