"""What comes along with a hit: the relationships that a load would have loaded with the row.

Each is loaded by its own lazy loader. Before that, the targets of relationships by key are
fetched from the cache together, in one round trip, so that their loaders find them in the
identity map. What is not found there is left to the loader, which looks it up and fills it.

Whoever listens to `load` sees what it sees in a load: joins and subqueries are in place by then,
and what has a SELECT after the row's is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy.orm.attributes import init_state_collection, instance_state
from sqlalchemy.orm.collections import collection_adapter

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _sqlalchemy, _strategies, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.capture import listens_alone
from sqlmodel_cache.orm.model.hydrate import Hydrator
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.model.reader import Found
from sqlmodel_cache.orm.model.steps import NotTheSame, Step, steps_below, steps_of
from sqlmodel_cache.orm.reads.asked import steps_asked
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope, decide
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Reply

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session


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


class _Target(msgspec.Struct, frozen=True, eq=False):
    """An object that loaders will ask for: where to look for it, and where it will arrive.

    `afterwards`: they will ask only after the events of the instances that it comes along with.
    """

    scope: Scope
    entry: Entry
    key: tuple[Any, ...]
    place: Place
    afterwards: bool


class _Fetched(msgspec.Struct, frozen=True, eq=False):
    """What the cache answered of a target: one of `number` that were asked for at `begun`."""

    target: _Target
    reply: Reply
    begun: float
    number: int


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


def bring_along(scope: Scope, arrivals: Sequence[Arrival], place: Place | None = None) -> None:
    """Load what a `get()` or `select()` would have loaded with what it found, at `place`.

    None: where they arrive without options.
    """
    if arrivals:
        where = root_place(scope.reader.plan, NO_OPTIONS) if place is None else place
        complete(scope.session, arrivals, where)


def complete(session: Session, arrivals: Sequence[Arrival], place: Place) -> None:
    """Load what a load would have loaded with what just arrived at `place`; announce it."""
    if not place.steps:
        _announce(session, arrivals)
        return
    states = [instance_state(arrival.instance) for arrival in arrivals]
    ahead = _fetch_ahead(session, states, place)
    kept = []  # the identity map holds nothing
    for afterwards in (False, True):
        kept += _make_all(session, [one for one in ahead if one.target.afterwards is afterwards])
        for step in place.steps:
            if step.afterwards is afterwards:
                for state in states:
                    _take(step, state, place)
        if not afterwards:
            _announce(session, arrivals)
    del kept


def _announce(session: Session, arrivals: Sequence[Arrival]) -> None:
    for arrival in arrivals:
        if (hydrator := arrival.hydrator) is not None:
            quiet = listens_alone(hydrator.mapper)
            hydrator.announce(session, arrival.instance, quiet=quiet)


def _take(step: Step, state: InstanceState[Any], place: Place) -> None:
    prop = step.prop
    if step.empty:
        if prop.key in state.dict:
            pass
        elif prop.uselist:
            init_state_collection(state, state.dict, prop.key)
        else:
            state.dict[prop.key] = None
        return
    _strategies.load_related(prop, state, place.path, place.execution_options, quiet=step.quiet)
    if not step.mirrors or not (found := state.dict.get(prop.key)):
        return
    path = _strategies.path_below(place.path, prop)
    for related in list(collection_adapter(found)) if prop.uselist else [found]:
        related_state = instance_state(related)
        for name in step.mirrors:
            back = related_state.mapper.relationships[name]
            _strategies.load_related(back, related_state, path, NO_OPTIONS, quiet=True)


def _fetch_ahead(
    session: Session, states: Sequence[InstanceState[Any]], place: Place
) -> list[_Fetched]:
    """Ask the cache for what several loaders will ask for, in one round trip."""
    targets = _targets(session, states, place)
    if len(targets) < 2:
        return []  # the loader itself needs no more than one round trip
    stores = targets[0].scope.cache.stores
    begun = clock.real()
    try:
        replies = bridge.run(stores, _get_all(targets))
    except UnavailableError:
        return []  # counted where the loaders find the same
    return [
        _Fetched(target, reply, begun, len(targets))
        for target, reply in zip(targets, replies, strict=True)
    ]


def _make_all(session: Session, fetched: Sequence[_Fetched]) -> list[Any]:
    """Bring what was fetched into the identity map; return it to be held."""
    landed: dict[int, tuple[Place, list[Arrival]]] = {}
    for one in fetched:
        place, arrival = one.target.place, _hydrated(session, one)
        if arrival is not None:
            landed.setdefault(id(place), (place, []))[1].append(arrival)
    for below, arrivals in landed.values():
        complete(session, arrivals, below)
    return [arrival.instance for _, arrivals in landed.values() for arrival in arrivals]


def _targets(session: Session, states: Sequence[InstanceState[Any]], place: Place) -> list[_Target]:
    """Return what loaders by key will look up, each object once."""
    found: dict[Any, _Target] = {}
    said = _strategies.wishes(place.load_options)
    for step in place.steps:
        prop = step.prop
        if step.quiet or step.empty or not _strategies.is_by_key(prop):
            continue
        plan = plan_of(prop.mapper.class_)
        if plan is None or plan.blocked is not None:
            continue
        path = _strategies.path_below(place.path, prop)
        if said and _strategies.concern(said, path):
            continue
        pks = _missing(session, states, prop, plan)
        cache = cache_of(binding := binding_of(session))
        if not pks or cache is None:
            continue
        steps = steps_below(plan.mapper, path) if plan.steps else ()
        below = Place(path, steps, place.execution_options, place.load_options)
        options = {**place.execution_options, "autoflush": False}
        scope = decide(cache, binding, session, plan, options, {})
        if not isinstance(scope, Scope) or scope.watching is not None:
            continue
        for pk in pks:
            entry = scope.at(pk)
            if isinstance(entry, Entry):
                key = (plan.identity_class, pk, None)
                found.setdefault(key, _Target(scope, entry, key, below, step.afterwards))
    return list(found.values())


def _missing(
    session: Session, states: Sequence[InstanceState[Any]], prop: Any, plan: Plan
) -> dict[tuple[Any, ...], None]:
    """Return the primary keys that `prop` points to and that the session has no object for."""
    wanted: dict[tuple[Any, ...], None] = {}
    for state in states:
        if prop.key in state.dict:
            continue
        identity = _strategies.related_identity(prop, session, state)
        pk = None if identity is None else primary_key(plan.mapper, identity)
        if pk is not None and not _sqlalchemy.knows(session, (plan.identity_class, pk, None)):
            wanted[pk] = None
    return wanted


def _get_all(targets: Sequence[_Target]) -> read.Steps[list[Reply]]:
    replies: list[Reply] = yield GetMany(tuple(target.entry for target in targets))
    return replies


def _hydrated(session: Session, fetched: _Fetched) -> Arrival | None:
    """Return what was fetched as an instance, None if its loader must see to it."""
    target, reply = fetched.target, fetched.reply
    if reply.value is None or reply.epoch is None:
        return None
    reader = target.scope.reader
    found = reader.verify(target.entry, reply.value, reply.epoch)
    if type(found) is not Found or found.partial_row:
        return None
    key = (found.hydrator.identity_class, found.identity, None)
    if key != target.key or _sqlalchemy.knows(session, key):
        return None
    reader.counters.hit(fetched.begun, fetched.number)
    instance = found.hydrator.make(session, key, found.values, announce=False)
    arrive(instance, target.place)
    return Arrival(instance, found.hydrator)
