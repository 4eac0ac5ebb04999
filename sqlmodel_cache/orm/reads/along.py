"""What comes along with a hit: the relationships that a load would have loaded with the row.

Each is loaded by its own lazy loader. Before that, the targets of relationships by key are
fetched from the cache together, in one round trip, so that their loaders find them in the
identity map. What is missing of one relationship comes by one SELECT, and is filled. Where that
would bring other things along, it is left to the loader, which looks it up and fills it.

Whoever listens to `load` sees what it sees in a load: joins and subqueries are in place by then,
and what has a SELECT after the row's is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from sqlalchemy.orm.attributes import init_state_collection, instance_state
from sqlalchemy.orm.collections import collection_adapter

from sqlmodel_cache import clock
from sqlmodel_cache.errors import UnavailableError
from sqlmodel_cache.keys import Entry
from sqlmodel_cache.orm import _strategies, bridge
from sqlmodel_cache.orm.binding import binding_of, cache_of
from sqlmodel_cache.orm.model.plan import Plan, plan_of
from sqlmodel_cache.orm.model.steps import Step, steps_below
from sqlmodel_cache.orm.reads.decide import NO_OPTIONS, Scope, decide
from sqlmodel_cache.orm.reads.held import complete_held, held_by
from sqlmodel_cache.orm.reads.identity import primary_key
from sqlmodel_cache.orm.reads.places import Arrival, Place, root_place
from sqlmodel_cache.orm.reads.present import holds
from sqlmodel_cache.orm.reads.together import Ask, Looked, Outdated, Pk, from_cache, query_below
from sqlmodel_cache.protocol import read
from sqlmodel_cache.protocol.ops import GetMany, Reply

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session


class _Group(msgspec.Struct, frozen=True, eq=False):
    """Objects that the loaders of one relationship will ask for, and where they will arrive.

    A load has them all by one SELECT. `afterwards`: they are asked for only after the events of
    the instances that they come along with.
    """

    scope: Scope
    wanted: list[Pk]
    entries: dict[Pk, Entry]
    place: Place
    afterwards: bool


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
    alone = len(session.identity_map) == len(states)  # nearly always
    kept = []  # the identity map holds nothing
    for afterwards in (False, True):
        held = None if alone else _held(session, states, place, afterwards)
        for group, looked in ahead:
            if group.afterwards is afterwards:
                kept += _make(group, looked)
        for step in place.steps:
            if step.afterwards is afterwards:
                if held:
                    complete_held(session, held[step], step, place)
                for state in states:
                    _take(step, state, place)
                if held and step.prop.uselist:
                    found = held_by(session, states, step)
                    complete_held(session, found, step, place, selected=True)
        if not afterwards:
            _announce(session, arrivals)
    del kept


def _held(
    session: Session, states: Sequence[InstanceState[Any]], place: Place, afterwards: bool
) -> dict[Step, list[Any]]:
    """Return what each step leads to that the session holds before anything is loaded."""
    steps = (step for step in place.steps if step.afterwards is afterwards)
    return {step: held_by(session, states, step) for step in steps}


def _announce(session: Session, arrivals: Sequence[Arrival]) -> None:
    for arrival in arrivals:
        if (hydrator := arrival.hydrator) is not None:
            hydrator.announce(session, arrival.instance)


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
) -> list[tuple[_Group, Looked]]:
    """Ask the cache for what several loaders will ask for, in one round trip."""
    groups = _groups(session, states, place)
    if sum(len(group.wanted) for group in groups) < 2:
        return []  # the loader itself needs no more than one round trip
    entries = tuple(entry for group in groups for entry in group.entries.values())
    begun = clock.real()
    try:
        replies = iter(bridge.run(groups[0].scope.cache.stores, _get_all(entries)))
    except UnavailableError:
        return []  # counted where the loaders find the same
    return [
        (group, Looked(begun, group.entries, list(islice(replies, len(group.entries)))))
        for group in groups
    ]


def _make(group: _Group, looked: Looked) -> list[Any]:
    """Bring a group into the identity map, all of it of one moment; return it to be held."""
    scope, place, wanted = group.scope, group.place, group.wanted
    if len(wanted) == 1 and not all(reply.value for reply in looked.replies):
        return []
    if place.execution_options:
        ask: Ask = _leave
    else:
        ask = partial(query_below, scope.session, scope.reader.plan, place)
    try:
        found, _, arrivals = from_cache(scope, wanted, ask, place=place, looked=looked)
    except Outdated:
        return []
    complete(scope.session, arrivals, place)
    return list(found.values())


def _leave(missing: list[Pk]) -> NoReturn:
    raise Outdated  # to the loaders


def _groups(session: Session, states: Sequence[InstanceState[Any]], place: Place) -> list[_Group]:
    """Return what loaders by key will look up, each object once."""
    found: list[_Group] = []
    known: set[Any] = set()
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
        wanted = [pk for pk in pks if (plan.identity_class, pk) not in known]
        known.update((plan.identity_class, pk) for pk in wanted)
        at = {pk: scope.at(pk) for pk in wanted}
        entries = {pk: entry for pk, entry in at.items() if isinstance(entry, Entry)}
        if wanted:
            found.append(_Group(scope, wanted, entries, below, step.afterwards))
    return found


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
        if pk is not None and not holds(session, (plan.identity_class, pk, None)):
            wanted[pk] = None
    return wanted


def _get_all(entries: tuple[Entry, ...]) -> read.Steps[list[Reply]]:
    replies: list[Reply] = yield GetMany(entries, together=True)
    return replies
