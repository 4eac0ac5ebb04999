"""The instance that a hit stands for, where the session may hold it already.

A SELECT leaves loaded attributes of an instance in the identity map alone and loads those that
are expired. So an instance that lacks nothing is the answer as it is; for any other the database
must be asked.
"""

from __future__ import annotations

from typing import Any, Final

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.capture import listens_alone
from sqlmodel_cache.orm.model.reader import NO_ROW, Found
from sqlmodel_cache.orm.reads.along import Arrival
from sqlmodel_cache.orm.reads.decide import Scope

AGAIN: Final = object()  # the database must be asked all the same


def instance_of(scope: Scope, found: object, arrivals: list[Arrival]) -> Any:
    """Return the instance of a hit, None for "no such row", or AGAIN.

    What others are to be brought along with is added to `arrivals`, for `bring_along`.
    """
    session = scope.session
    if found is NO_ROW:
        return None
    assert type(found) is Found
    hydrator = found.hydrator
    key = (hydrator.identity_class, found.identity, None)
    if _sqlalchemy.knows(session, key):
        present = session.identity_map.get(key)
        if present is None or hydrator.completes(present):
            return AGAIN
        if scope.reader.plan.steps:
            arrivals.append(Arrival(present, None))
        return present
    if found.partial_row and _sqlalchemy.in_greenlet():
        return AGAIN  # an attribute that loads on access would raise MissingGreenlet
    along = bool(scope.reader.plan.steps)
    instance = hydrator.make(
        session,
        key,
        found.values,
        partial_row=found.partial_row,
        quiet=listens_alone(hydrator.mapper),
        announce=not along,
    )
    if along:
        arrivals.append(Arrival(instance, hydrator))
    return instance
