"""The instance that a hit stands for, where the session may hold it already.

A SELECT leaves loaded attributes of an instance in the identity map alone and loads those that
are expired. So an instance that lacks nothing is the answer as it is; for any other the database
must be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.orm.attributes import instance_state

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.capture import unheard
from sqlmodel_cache.orm.model.reader import NO_ROW, Found
from sqlmodel_cache.orm.reads.decide import Scope
from sqlmodel_cache.orm.reads.places import Arrival, Place, arrive

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

K = TypeVar("K")
_Pk = tuple[Any, ...]

AGAIN: Final = object()  # the database must be asked all the same


def holds(session: Session, key: tuple[Any, ...]) -> bool:
    """Tell whether the session has an instance under this identity key, and it is not expired."""
    if not _sqlalchemy.knows(session, key):
        return False
    present: Any = session.identity_map.get(key)
    return present is not None and not instance_state(present).expired


def instance_of(scope: Scope, found: object, arrivals: list[Arrival]) -> Any:
    """Return the instance of a hit, None for "no such row", or AGAIN.

    What others are to be brought along with is added to `arrivals`, for `bring_along`.
    """
    if found is NO_ROW:
        return None
    assert type(found) is Found
    quiet = unheard(scope.session, found.hydrator.mapper)
    return _instance_of(scope.session, found, arrivals, quiet, bool(scope.reader.plan.steps), None)


def instances_of(
    scope: Scope, hits: Mapping[K, object], arrivals: list[Arrival], place: Place | None = None
) -> dict[K, Any]:
    """Return the instances of several hits, as `instance_of` does, but for those of AGAIN.

    `place`: where they arrive, if loader options say so.
    """
    instances: dict[K, Any] = {}
    session = scope.session
    along = bool(scope.reader.plan.steps if place is None else place.steps)
    hydrator = quiet = None
    for key, found in hits.items():
        if found is NO_ROW:
            instances[key] = None
            continue
        assert type(found) is Found
        if found.hydrator is not hydrator:  # nearly always all are of one class
            hydrator = found.hydrator
            quiet = unheard(session, hydrator.mapper)
        instance = _instance_of(session, found, arrivals, bool(quiet), along, place)
        if instance is not AGAIN:
            instances[key] = instance
    return instances


def lacking(scope: Scope, hits: Mapping[_Pk, object]) -> set[_Pk]:
    """Return the keys of those hits of which `instances_of` could make nothing now."""
    session, identity_map = scope.session, scope.session.identity_map
    known: Iterable[_Pk] = hits
    if len(identity_map) < len(hits):  # nearly always
        keys = identity_map.keys()
        known = {key[1] for key in keys if key[1] in hits}
    found: set[_Pk] = set()
    for pk in known:
        if type(hit := hits[pk]) is Found:
            key = (hit.hydrator.identity_class, hit.identity, None)
            if _sqlalchemy.knows(session, key):
                present = identity_map.get(key)
                if present is None or hit.hydrator.completes(present):
                    found.add(pk)
    if _sqlalchemy.in_greenlet():
        for pk, hit in hits.items():
            if type(hit) is Found and hit.partial_row:
                key = (hit.hydrator.identity_class, hit.identity, None)
                if not _sqlalchemy.knows(session, key):
                    found.add(pk)
    return found


def unloaded(scope: Scope, keys: Iterable[_Pk]) -> dict[_Pk, tuple[Any, set[str]]]:
    """Return which rows the session has instances of, and what these have not loaded."""
    identity_map, identity_class = scope.session.identity_map, scope.reader.plan.identity_class
    found: dict[_Pk, tuple[Any, set[str]]] = {}
    for key in keys:
        instance = identity_map.get((identity_class, key, None))
        if instance is not None:
            found[key] = instance, instance_state(instance).unloaded
    return found


def unload(
    scope: Scope, keys: Iterable[_Pk], before: Mapping[_Pk, tuple[Any, Collection[str]]]
) -> None:
    """Expire what was loaded of rows since `before`, which `unloaded` has told."""
    identity_map, identity_class = scope.session.identity_map, scope.reader.plan.identity_class
    for key in keys:
        instance = identity_map.get((identity_class, key, None))
        if instance is None:
            continue
        if key not in before:
            scope.session.expire(instance)
        elif names := instance_state(instance).dict.keys() & before[key][1]:
            scope.session.expire(instance, names)


def _instance_of(
    session: Session,
    found: Found,
    arrivals: list[Arrival],
    quiet: bool,
    along: bool,
    place: Place | None,
) -> Any:
    hydrator = found.hydrator
    key = (hydrator.identity_class, found.identity, None)
    if _sqlalchemy.knows(session, key):
        present = session.identity_map.get(key)
        if present is None or hydrator.completes(present):
            return AGAIN
        if along:
            arrivals.append(Arrival(present, None))
        return present
    if found.partial_row and _sqlalchemy.in_greenlet():
        return AGAIN  # an attribute that loads on access would raise MissingGreenlet
    instance = hydrator.make(
        session,
        key,
        found.values,
        partial_row=found.partial_row,
        announce=not (quiet or along),
    )
    if place is not None:
        arrive(instance, place)
    if along:
        arrivals.append(Arrival(instance, hydrator))
    return instance
