"""The instance that a hit stands for, where the session may hold it already.

A SELECT leaves loaded attributes of an instance in the identity map alone and loads those that
are expired. So an instance that lacks nothing is the answer as it is; for any other the database
must be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.capture import listens_alone
from sqlmodel_cache.orm.model.reader import NO_ROW, Found
from sqlmodel_cache.orm.reads.along import Arrival, Place, arrive
from sqlmodel_cache.orm.reads.decide import Scope

K = TypeVar("K")

AGAIN: Final = object()  # the database must be asked all the same


def instance_of(scope: Scope, found: object, arrivals: list[Arrival]) -> Any:
    """Return the instance of a hit, None for "no such row", or AGAIN.

    What others are to be brought along with is added to `arrivals`, for `bring_along`.
    """
    if found is NO_ROW:
        return None
    assert type(found) is Found
    return _instance_of(scope, found, arrivals, listens_alone(found.hydrator.mapper), None)


def instances_of(
    scope: Scope, hits: Mapping[K, object], arrivals: list[Arrival], place: Place | None = None
) -> dict[K, Any]:
    """Return the instances of several hits, as `instance_of` does, but for those of AGAIN.

    `place`: where they arrive, if loader options say so.
    """
    instances: dict[K, Any] = {}
    hydrator = quiet = None
    for key, found in hits.items():
        if found is NO_ROW:
            instances[key] = None
            continue
        assert type(found) is Found
        if found.hydrator is not hydrator:  # nearly always all are of one class
            hydrator = found.hydrator
            quiet = listens_alone(hydrator.mapper)
        instance = _instance_of(scope, found, arrivals, bool(quiet), place)
        if instance is not AGAIN:
            instances[key] = instance
    return instances


def _instance_of(
    scope: Scope, found: Found, arrivals: list[Arrival], quiet: bool, place: Place | None
) -> Any:
    session, hydrator = scope.session, found.hydrator
    along = bool(scope.reader.plan.steps if place is None else place.steps)
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
        quiet=quiet,
        announce=not along,
    )
    if place is not None:
        arrive(instance, place)
    if along:
        arrivals.append(Arrival(instance, hydrator))
    return instance
