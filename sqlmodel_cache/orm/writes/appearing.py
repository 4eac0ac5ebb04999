"""Values of unique keys that a statement makes appear: their absence must be forgotten.

What is remembered of a value that has a row needs no fence: it is the row's primary key, and the
row is judged when it is read. So only an insert, or an update that sets the columns, is of
concern, and only where values are compared exactly: of others no absence is ever remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.connections.ledger import Ledger
from sqlmodel_cache.orm.model.keying import unique_codec
from sqlmodel_cache.orm.model.tables import Root
from sqlmodel_cache.orm.model.uniques import Unique
from sqlmodel_cache.orm.writes.rows import parameter_of

_UNKNOWN: Final = object()


def touch_appearing(
    root: Root,
    dml: Any,
    compiled: Any,
    parameters: Sequence[Mapping[str, Any]],
    ledger: Ledger,
    dialect: Any,
    schema: str,
) -> None:
    """Touch each value of a unique key that this INSERT or UPDATE of a root's row brings.

    Where a value cannot be known (a SQL expression, a server's default, some columns of several),
    the whole table is touched, if any class of it remembers absent rows at all.
    """
    if dml.is_delete:
        return
    sets = None if dml.is_insert else _sqlalchemy.set_columns(dml, compiled)
    clauses = _sqlalchemy.conflict_clauses(dml) if dml.is_insert else []
    again = {name for clause in clauses for name, _ in _sqlalchemy.upserted(clause)}
    for unique in root.uniques:
        codec = unique_codec(root, unique, dialect)
        if not codec.safe_in_sql or not _concerns(unique, dml, sets):
            continue
        names = [
            _parameter(column, dml, compiled, sets) if not _is_in(column, again) else None
            for column in unique.columns
        ]
        for values in parameters:
            found = [_UNKNOWN if name is None else values.get(name, _UNKNOWN) for name in names]
            if any(value is None for value in found):
                continue  # NULL equals nothing
            known = all(value is not _UNKNOWN for value in found)
            text = codec.encode(found) if known else None
            if text is not None:
                ledger.frames.touch_row((root.table, f"{schema}{unique.prefix}{text}"))
            elif root.negative:
                ledger.frames.touch_table(root.table)
                return


def _concerns(unique: Unique, dml: Any, sets: set[str] | None) -> bool:
    table: Any = unique.columns[0].table
    if table.name != dml.table.name:
        return False  # another table of the hierarchy
    if dml.is_insert or sets is None:
        return True
    return any(_is_in(column, sets) for column in unique.columns)


def _parameter(column: Any, dml: Any, compiled: Any, sets: set[str] | None) -> str | None:
    if sets is not None and not _is_in(column, sets):
        return None
    return parameter_of(dml, column, compiled)


def _is_in(column: Any, names: set[str]) -> bool:
    return column.key in names or column.name in names
