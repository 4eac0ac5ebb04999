"""The primary key that `Session.get(entity, ident)` was given, in any of its spellings."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Uuid
from sqlalchemy.orm import Mapper

from sqlmodel_cache.orm import _sqlalchemy

_SCALARS = frozenset({int, str, UUID})


def primary_key(mapper: Mapper[Any], ident: Any) -> tuple[Any, ...] | None:
    """Return the identity that `ident` means; None where `values_of` does.

    A string for a UUID column becomes the UUID, so that one row has one identity.
    """
    if type(ident) is int and len(mapper.primary_key) == 1:  # most calls
        return (ident,)
    values = values_of(mapper, ident)
    return values if values is None else identity(mapper, values)


def identity(mapper: Mapper[Any], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the identity of a row of which these values were given as its primary key."""
    for position, value in enumerate(values):
        type_ = mapper.primary_key[position].type
        if type(value) is str and isinstance(type_, Uuid) and type_.as_uuid:
            values = (*values[:position], _uuid(value), *values[position + 1 :])
    return values


def values_of(mapper: Mapper[Any], ident: Any) -> tuple[Any, ...] | None:
    """Return `ident` as a tuple in the order of the mapper's primary key, as it was spelt.

    None where SQLAlchemy would complain, or where the identity map could not be asked: then the
    call is SQLAlchemy's alone.
    """
    columns = mapper.primary_key
    if type(ident) in _SCALARS:
        values: tuple[Any, ...] = (ident,)
    elif isinstance(ident, dict):
        if len(ident) != len(columns):
            return None
        synonyms = _sqlalchemy.synonyms_of_pk(mapper)
        named = {synonyms.get(name, name): value for name, value in ident.items()}
        try:
            values = tuple(named[mapper.get_property_by_column(c).key] for c in columns)
        except KeyError:
            return None
    elif isinstance(ident, tuple | list):
        values = tuple(ident)
    elif hasattr(ident, "__composite_values__"):
        values = tuple(ident.__composite_values__())
    else:
        values = (ident,)
    if len(values) != len(columns):
        return None
    try:
        hash(values)
    except TypeError:
        return None
    return values


def _uuid(value: str) -> UUID | str:
    try:
        return UUID(value)
    except ValueError:
        return value
