"""The tables whose writers send stamps, and the columns of which they tell the values.

What a result of a query depends on is told by stamps (`orm/queries/stamps.py`). Those of a value
are only for columns where equality in SQL is equality of the text that stands in keys: no text
under a collation, no float, nothing that the database rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Table, UniqueConstraint
from sqlalchemy import types as sqltypes
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ColumnProperty, Mapper

from sqlmodel_cache.codec.columns import overrides
from sqlmodel_cache.codec.pk import PkCodec
from sqlmodel_cache.config import CacheConfig
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm.owned import Owned

_EXACT = (sqltypes.Integer, sqltypes.Boolean, sqltypes.Uuid, sqltypes.Date)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Stamped:
    """One table. `implicit` names columns that an UPDATE may change without saying so.

    `sure` names the conditions that writers of every process tell of; None: not even of rows.
    """

    table: Table
    conditions: tuple[Column[Any], ...]
    implicit: frozenset[str]
    sure: frozenset[str] | None


def stamped(
    table: Table,
    named: Collection[Column[Any]] | None,
    also: Collection[Column[Any]] = (),
    *,
    sure: bool = True,
    known: bool = True,
) -> Stamped:
    """Return a table as its writers see it.

    `named`: the columns that were chosen, if any were; `also`: those that are needed anyway.
    `sure`: other processes' writers tell of it as well. Unless `known`, they may tell of any
    column: so do ours, but nobody relies on it.
    """
    chosen = [
        column
        for column in table.columns
        if column in also or (_is_likely(column) if named is None else column in named)
    ]
    return Stamped(
        table,
        tuple(chosen if known else table.columns),
        frozenset(c.name for c in table.columns if changes_by_itself(c)),
        frozenset(c.name for c in chosen) if sure else None,
    )


def named_columns(mapper: Mapper[Any], names: Iterable[str]) -> Iterator[Column[Any]]:
    """Yield the columns behind attributes; what is none is left out, see `check`."""
    for name in names:
        column = _column(mapper, name)
        if isinstance(column, Column):
            yield column


def check(mapper: Mapper[Any], config: CacheConfig) -> None:
    """Raise ConfigurationError, naming model, attribute and remedy, for what is no column."""
    for name in config.query_columns or ():
        if not isinstance(_column(mapper, name), Column):
            raise ConfigurationError(
                f"{mapper.class_.__name__}.__cache_config__: query_columns names {name!r}, which"
                " is no column of it; name attributes that are columns"
            )


_codecs: Owned[WeakKeyDictionary[Stamped, dict[str, PkCodec]]] = Owned("condition codecs")


def value_codecs(where: Stamped, dialect: Any) -> dict[str, PkCodec]:
    """Return the codecs of a table's condition columns by name, where equality is exact."""
    try:
        return _codecs[dialect][where]
    except KeyError:
        by_table = _codecs.setdefault(dialect, WeakKeyDictionary())
        made = {c.name: PkCodec([c.type], dialect) for c in where.conditions if _exact(c, dialect)}
        return by_table.setdefault(where, made)


def forget_value_codecs() -> None:
    """Take every codec from its dialect."""
    _codecs.clear()


def _column(mapper: Mapper[Any], name: str) -> object:
    try:
        prop = mapper.get_property(name)
    except InvalidRequestError:
        return None
    return prop.columns[0] if isinstance(prop, ColumnProperty) else None


def _is_likely(column: Column[Any]) -> bool:
    """Tell whether queries are likely to ask for single values of a column."""
    if column.foreign_keys:
        return True
    if column.primary_key:
        return False  # a row is asked for, not a list
    table = column.table
    return any(column in index.columns.values() for index in table.indexes) or any(
        isinstance(each, UniqueConstraint) and column in each.columns.values()
        for each in table.constraints
    )


def changes_by_itself(column: Column[Any]) -> bool:
    """Tell whether the database, or SQLAlchemy, may change a column in an UPDATE of others."""
    return (
        column.onupdate is not None
        or column.server_onupdate is not None
        or column.computed is not None
        or isinstance(column.type, sqltypes.TIMESTAMP)  # the first one of a MariaDB table
    )


def _exact(column: Column[Any], dialect: Any) -> bool:
    impl = column.type.dialect_impl(dialect)
    if isinstance(impl, sqltypes.TypeDecorator) and any(
        overrides(type(impl), name) for name in ("process_bind_param", "process_result_value")
    ):
        return False  # it may make of None a value, or of a value None
    while isinstance(impl, sqltypes.TypeDecorator) and not overrides(type(impl), "bind_processor"):
        impl = impl.impl_instance.dialect_impl(dialect)
    if isinstance(impl, sqltypes.Enum):
        exact = all(name.isascii() for name in impl.enums)
    else:
        exact = isinstance(impl, _EXACT)
    return exact and PkCodec([column.type], dialect).safe_in_sql
