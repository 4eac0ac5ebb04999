"""The instance that a hit stands for, where the session may hold it already.

A SELECT leaves loaded attributes of an instance in the identity map alone and loads those that
are expired. So an instance that lacks nothing is the answer as it is; for any other the database
must be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.capture import listens_alone
from sqlmodel_cache.orm.model.reader import NO_ROW, Found

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

AGAIN: Final = object()  # the database must be asked all the same


def instance_of(session: Session, found: object) -> Any:
    """Return the instance of a hit, None for "no such row", or AGAIN."""
    if found is NO_ROW:
        return None
    assert type(found) is Found
    hydrator = found.hydrator
    key = (hydrator.identity_class, found.identity, None)
    if _sqlalchemy.knows(session, key):
        present = session.identity_map.get(key)
        return AGAIN if present is None or hydrator.completes(present) else present
    if found.partial_row and _sqlalchemy.in_greenlet():
        return AGAIN  # an attribute that loads on access would raise MissingGreenlet
    quiet = listens_alone(hydrator.mapper)
    return hydrator.make(session, key, found.values, partial_row=found.partial_row, quiet=quiet)
