"""Where rows arrive in a load, and what the load leaves on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy.orm.attributes import instance_state

from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm import _sqlalchemy, _strategies
from sqlmodel_cache.orm.model.hydrate import Hydrator
from sqlmodel_cache.orm.model.plan import Plan
from sqlmodel_cache.orm.model.steps import NotTheSame, Step, steps_of
from sqlmodel_cache.orm.reads.asked import steps_asked
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState

_OF_ONE_STATEMENT = frozenset({"cache", "autoflush", "prebuffer_rows", "_sa_orm_load_options"})


class Place(msgspec.Struct, frozen=True):
    """Where in a load rows arrive: the path there, and what is loaded with them.

    `load_options` are the loader options that stay with them; `execution_options` are for what
    is loaded with them.
    """

    path: Any
    steps: tuple[Step, ...]
    execution_options: Mapping[str, Any] = NO_OPTIONS
    load_options: tuple[Any, ...] = ()


class Arrival(msgspec.Struct, frozen=True, eq=False):
    """An instance that a read found: `hydrator` made it and has yet to announce it.

    None: the session held it already.
    """

    instance: Any
    hydrator: Hydrator | None


def root_place(plan: Plan, options: Mapping[str, Any], load_options: Any = ()) -> Place:
    """Return the place of what a `get()` finds; `options` are its execution options.

    `load_options` are loader options that `steps_asked` has an answer to.
    """
    path = _sqlalchemy.mapper_path(plan.mapper)
    steps = steps_asked(plan, load_options) if load_options else plan.steps
    return Place(path, steps or (), handed_on(options), tuple(load_options or ()))


def related_place(
    plan: Plan, path: Any, options: Mapping[str, Any], load_options: Any = ()
) -> Place | None:
    """Return the place of what a lazy load finds; None if what comes along cannot be told."""
    if not plan.steps:
        return Place(path, (), load_options=load_options)
    steps = plan.remembered(path.path, partial(_steps_at, plan, path))
    return None if steps is None else Place(path, steps, handed_on(options), load_options)


def place_of(
    plan: Plan, path: Any, state: InstanceState[Any], options: Mapping[str, Any]
) -> Place | Bypass:
    """Return the place of what a lazy load of `state` finds, or why the cache cannot answer it."""
    if state.identity_token is not None:
        return Bypass.IDENTITY_TOKEN
    said = state.load_options
    if said:  # of the load that brought the parent; they go on to its lazy loads
        wishes = _strategies.wishes(tuple(said))
        if wishes is None or _strategies.concern(wishes, path):
            return Bypass.LOADER_OPTIONS
    return related_place(plan, path, options, said) or Bypass.EAGER


def leave_out(place: Place, props: Collection[Any]) -> Place:
    """Return `place` without the steps that load these relationships."""
    steps = tuple(step for step in place.steps if step.prop not in props)
    return place if len(steps) == len(place.steps) else msgspec.structs.replace(place, steps=steps)


def _steps_at(plan: Plan, path: Any) -> tuple[Step, ...] | None:
    try:
        return steps_of(plan.mapper, path)
    except NotTheSame:
        return None


def arrive(instance: Any, place: Place) -> None:
    """Leave on a new instance what a load leaves of the way that it came."""
    state = instance_state(instance)
    state.load_path = place.path
    state.load_options = place.load_options


def handed_on(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the execution options of a load that hold for what it brings along, too.

    SQLAlchemy hands on all of them; `cache` is ours, and True where we get here.
    """
    if not options:
        return NO_OPTIONS
    return {name: value for name, value in options.items() if name not in _OF_ONE_STATEMENT}
