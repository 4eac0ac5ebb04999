"""From names of tables, in a text or in `cache_invalidates`, to the cached models behind them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm.model.tables import TableMap
from sqlmodel_cache.orm.writes.rawsql import Written

OPTION: Final = "cache_invalidates"

# Given to statements of our own: what a connection declares is not said of them.
NOTHING: Final[dict[str, Any]] = {OPTION: ()}


def tables_written(
    writes: Iterable[Written], tables: TableMap, default_schema: str | None
) -> frozenset[str] | None:
    """Return the roots' tables that a text changes, with what the database does by itself.

    None if it names a table that no mapped class's MetaData knows: that may be a view, a
    partition, or a table with triggers of somebody else's.
    """
    found: set[str] = set()
    for written in writes:
        known = tables.called(written.name, written.schema, default_schema)
        if not known:
            return None
        for table in known:
            found |= _touched(table, tables, default_schema)
            if written.deletes:
                found |= tables.dependants(table, deleted=True)
            columns = written.columns
            referenced = {name.casefold() for name in tables.referenced(table)}
            if columns is None or columns & referenced:
                found |= tables.dependants(table, deleted=False)
            if written.cascades:
                found |= tables.referrers(table)
    return frozenset(found)


def tables_declared(value: Any, tables: TableMap, default_schema: str | None) -> frozenset[str]:
    """Return the roots' tables that an execution option `cache_invalidates` names.

    With those that the database may change by itself. Raises ConfigurationError for what names
    no table.
    """
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(
            f"execution option {OPTION}={value!r} is not a list; use a list of mapped classes,"
            f" Tables or names of tables, such as {OPTION}=[Hero, 'team']; an empty one for a text"
            " that writes nothing cached"
        )
    found: set[str] = set()
    for each in value:
        for table in tables_of(each, tables, default_schema):
            found |= _touched(table, tables, default_schema)
            found |= tables.dependants(table, deleted=True)
            found |= tables.dependants(table, deleted=False)
    return frozenset(found)


def tables_of(
    named: Any, tables: TableMap, default_schema: str | None, option: str = OPTION
) -> Iterable[Table]:
    """Return the tables behind a mapped class, Table or name in an execution option.

    Raises ConfigurationError for anything else.
    """
    if isinstance(named, Table):
        return [named]
    if isinstance(named, str):
        schema, _, name = named.rpartition(".")
        found = tables.called(name, schema, default_schema)
        if not found:
            raise ConfigurationError(
                f"execution option {option}: no MetaData of a mapped class has a table"
                f" {named!r}; name a table that one has, or the mapped class itself"
            )
        return found
    mapper = inspect(named, raiseerr=False) if isinstance(named, type) else named
    if not isinstance(mapper, Mapper):
        raise ConfigurationError(
            f"execution option {option}: {named!r} is no mapped class, Table or name of a table;"
            " use one of these"
        )
    return [table for table in mapper.tables if isinstance(table, Table)]


def _touched(table: Table, tables: TableMap, default_schema: str | None) -> set[str]:
    return {target.root.table for target in tables.targets(table, default_schema)}
