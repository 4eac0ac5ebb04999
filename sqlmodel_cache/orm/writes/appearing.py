"""Values of unique keys that a statement makes appear: their absence must be forgotten.

What is remembered of a value that has a row needs no fence: it is the row's primary key, and the
row is judged when it is read. So only an insert, or an update that sets the columns, is of
concern, and only where values are compared exactly: of others no absence is ever remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel_cache.orm import _compiling
from sqlmodel_cache.orm.connections.ledger import Ledger
from sqlmodel_cache.orm.model.keying import unique_codec
from sqlmodel_cache.orm.model.tables import Root
from sqlmodel_cache.orm.model.uniques import Unique
from sqlmodel_cache.orm.writes.rows import parameter_of

_UNKNOWN: Final = object()


@dataclass(frozen=True, slots=True)
class Appearing:
    """A unique key of which a statement brings values, and the parameters that hold them.

    A name is None where a value is in no parameter: a SQL expression, a column that is not set.
    """

    unique: Unique
    names: tuple[str | None, ...]


def appearing(root: Root, dml: Any, compiled: Any, sets: set[str] | None) -> tuple[Appearing, ...]:
    """Return the unique keys of `root` of which this INSERT or UPDATE brings values.

    `sets`: the columns that an UPDATE sets, None if that cannot be told; or that the conflict
    clause of an INSERT does.
    """
    if dml.is_delete:
        return ()
    return tuple(
        Appearing(unique, tuple(_name(column, dml, compiled, sets) for column in unique.columns))
        for unique in root.uniques
        if _concerns(unique, dml, sets)
    )


def touch_appearing(
    root: Root,
    found: Sequence[Appearing],
    parameters: Sequence[Mapping[str, Any]],
    ledger: Ledger,
    dialect: Any,
    schema: str,
) -> None:
    """Touch each value of these keys that a statement with these parameters brings.

    Where a value cannot be known (a SQL expression, a server's default, some columns of several),
    the whole table is touched, if any class of it remembers absent rows at all.
    """
    for one in found:
        codec = unique_codec(root, one.unique, dialect)
        if not codec.safe_in_sql:
            continue
        for given in parameters:
            values = [_UNKNOWN if name is None else given.get(name, _UNKNOWN) for name in one.names]
            if any(value is None for value in values):
                continue  # NULL equals nothing
            known = all(value is not _UNKNOWN for value in values)
            text = codec.encode(values) if known else None
            if text is not None:
                ledger.frames.touch_row((root.table, f"{schema}{one.unique.prefix}{text}"))
            elif root.negative:
                ledger.frames.touch_table(root.table)
                return


def _concerns(unique: Unique, dml: Any, sets: set[str] | None) -> bool:
    table: Any = unique.columns[0].table
    if table.name != _compiling.table_of(dml).name:
        return False  # another table of the hierarchy
    if dml.is_insert or sets is None:
        return True
    return any(column.name in sets for column in unique.columns)


def _name(column: Any, dml: Any, compiled: Any, sets: set[str] | None) -> str | None:
    here = sets is None or column.name in sets
    if dml.is_insert:
        here = not here  # a conflict clause may put another value there
    return parameter_of(dml, column, compiled) if here else None
