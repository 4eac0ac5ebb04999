"""Which rows a statement can change, by the primary keys that it names.

In its WHERE or its VALUES, that pin them, or in its RETURNING, once it was executed. To pin is:
`id = :a`, `id IN (...)`, `(a, b) IN (...)`, and these joined by AND and OR. What else stands in an
AND only narrows it down; what else stands in an OR pins nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, product
from typing import Any, Final, cast

from sqlalchemy import BindParameter, Column, Tuple
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnElement, Grouping

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.model.conditions import changes_by_itself

# Rows and alternatives beyond which a statement is taken to change its whole table.
ROWS_AT_MOST: Final = 1000
_RETURNING: Final = ("postgresql", "sqlite", "mysql", "mariadb")  # where it was tried
_ALTERNATIVES_AT_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Each:
    """Any value of a list of parameters: `name_1`, `name_2`, ...

    Or of one place in a list of tuples: `name_1_2`, `name_2_2`, ... for the second.
    """

    name: str
    place: int | None = None

    def spelt(self, number: int) -> str:
        """Return the parameter that holds the value in the list's element of this number."""
        return f"{self.name}_{number}" + ("" if self.place is None else f"_{self.place}")


# Parameters, in the order of a root's primary key.
Row = tuple[str | Each, ...]
_Pins = dict[Column[Any], str | Each]


def pinned(
    clause: Any, pk: tuple[Column[Any], ...] | None, compiled: Any
) -> tuple[Row, ...] | None:
    """Return the rows that can satisfy a WHERE, None if they are not to be told."""
    if clause is None or not pk:
        return None
    found = []
    for pins in _alternatives(clause, compiled):
        row = tuple(pins[column] for column in pk if column in pins)
        if len(row) != len(pk):
            return None
        found.append(row)
    return tuple(found)


def inserted(
    insert: Any, pk: tuple[Column[Any], ...] | None, compiled: Any
) -> tuple[Row, ...] | None:
    """Return the rows of an INSERT, None if their keys do not come from parameters."""
    if pk is None or insert.select is not None:
        return None
    number = _sqlalchemy.rows_of_values(insert)
    if not number:
        row = tuple(parameter_of(insert, column, compiled) for column in pk)
        return None if None in row else (row,)  # type: ignore[return-value]
    if is_nested(insert, compiled):
        return None
    names = tuple(_key_in(insert.table, column) for column in pk)
    known = set(compiled.bind_names.values())
    first = tuple(f"{name}_m0" if f"{name}_m0" in known else name for name in names)
    return (first, *(tuple(f"{name}_m{n}" for name in names) for n in range(1, number)))


def returned(dml: Any, pk: tuple[Column[Any], ...] | None, compiled: Any) -> tuple[int, ...] | None:
    """Return where in the rows that a statement says the key of each row that it changes stands.

    What it says is its RETURNING, or the key that was generated for the one row of an INSERT. None
    if it says none, or not the key that the row had before. Whether a statement sets its key is for
    others to say.
    """
    if not pk or is_nested(dml, compiled) or compiled.dialect.name not in _RETURNING:
        return None
    if compiled.postfetch_lastrowid:
        return (0,) if _generates(dml, pk, compiled) else None
    if not dml.is_insert and _sqlalchemy.prefixes_of(dml):  # OR REPLACE deletes other rows
        return None
    if not dml.is_delete and any(map(changes_by_itself, pk)):
        return None
    places = {each: place for place, each in enumerate(compiled.effective_returning or ())}
    found = tuple(places[column] for column in pk if column in places)
    return found if len(found) == len(pk) else None


def _generates(insert: Any, pk: tuple[Column[Any], ...], compiled: Any) -> bool:
    """Tell whether the driver's `lastrowid` is the key of the row that an INSERT adds."""
    column = getattr(insert.table, "autoincrement_column", None)
    return (
        column is not None
        and [each.name for each in pk] == [column.name]
        and parameter_of(insert, column, compiled) is not None
        and not _sqlalchemy.conflict_clauses(insert)  # it may be the key of no row of this one
        and not _sqlalchemy.prefixes_of(insert)
    )


def parameter_of(dml: Any, column: Column[Any], compiled: Any) -> str | None:
    """Return the name of the parameter that an INSERT or UPDATE puts into a column.

    None where it puts an expression there, or the name is not to be told: in the DML of a WITH,
    a column's name is that of a parameter of the statement around it.
    """
    given = _sqlalchemy.values_given(dml)
    if column.name in given:
        value = given[column.name]
        if not isinstance(value, BindParameter):
            return None
        # By key: a value without a type is compiled as a copy that has the column's.
        named = (spelt for bind, spelt in compiled.bind_names.items() if bind.key == value.key)
        return next(named, None)
    return None if is_nested(dml, compiled) else _key_in(dml.table, column)


def _key_in(table: Any, column: Column[Any]) -> str:
    """Return what parameters call a column: its `key` in the statement's own Table object."""
    return next((each.key for each in table.columns if each.name == column.name), column.key)


def is_nested(dml: Any, compiled: Any) -> bool:
    """Tell whether a part of a statement is not the statement itself: it stands in a WITH."""
    statement = compiled.statement
    return dml is not statement and dml is not getattr(statement, "element", None)


def keys_of(
    rows: tuple[Row, ...] | None, values: Mapping[str, Any]
) -> list[tuple[Any, ...]] | None:
    """Return the primary keys that `rows` have under these parameters; None: not to be told."""
    if rows is None:
        return None
    found: list[tuple[Any, ...]] = []
    for row in rows:
        here = _keys_of_one(row, values)
        if here is None or len(found) + len(here) > ROWS_AT_MOST:
            return None
        found += here
    return found


def _keys_of_one(row: Row, values: Mapping[str, Any]) -> list[tuple[Any, ...]] | None:
    if Each not in map(type, row):  # no list: one row
        try:
            return [tuple([values[name] for name in cast("tuple[str, ...]", row)])]
        except KeyError:
            return None
    lists = {pin.name: pin for pin in row if isinstance(pin, Each)}
    lengths = [next(n for n in count() if pin.spelt(n + 1) not in values) for pin in lists.values()]
    total = 1
    for length in lengths:
        total *= length
    if not 0 < total <= ROWS_AT_MOST:  # nothing found may also be a name that we do not know
        return None
    found = []
    for numbers in product(*(range(1, length + 1) for length in lengths)):
        at = dict(zip(lists, numbers, strict=True))
        names = [pin.spelt(at[pin.name]) if isinstance(pin, Each) else pin for pin in row]
        if any(name not in values for name in names):
            return None
        found.append(tuple(values[name] for name in names))
    return found


def _alternatives(clause: Any, compiled: Any) -> list[_Pins]:
    """Return pins of which each row that satisfies `clause` satisfies one."""
    if isinstance(clause, Grouping):
        return _alternatives(clause.element, compiled)
    if isinstance(clause, BooleanClauseList):
        parts = [_alternatives(part, compiled) for part in clause.clauses]
        if clause.operator is operators.or_:
            found = [pins for part in parts for pins in part]
            return found if len(found) <= _ALTERNATIVES_AT_MOST else [{}]
        if clause.operator is operators.and_:
            return _joined(parts)
    if isinstance(clause, BinaryExpression):
        if clause.operator is operators.eq:
            return [_equals(clause, compiled)]
        if clause.operator is operators.in_op:
            return [_among(clause, compiled)]
    return [{}]


def _joined(parts: list[list[_Pins]]) -> list[_Pins]:
    found: list[_Pins] = [{}]
    for part in parts:
        if len(found) * len(part) <= _ALTERNATIVES_AT_MOST:  # to leave one out pins less
            found = [mine | theirs for mine in found for theirs in part]
    return found


def _equals(clause: BinaryExpression[Any], compiled: Any) -> _Pins:
    for column, bind in ((clause.left, clause.right), (clause.right, clause.left)):
        name = _name_of(bind, compiled)
        if isinstance(column, Column) and name is not None:
            return {column: name}
    return {}


def _among(clause: BinaryExpression[Any], compiled: Any) -> _Pins:
    name = _name_of(clause.right, compiled)
    if name is None or not getattr(clause.right, "expanding", False):
        return {}
    left: ColumnElement[Any] = clause.left
    if isinstance(left, Column):
        return {left: Each(name)}
    if isinstance(left, Tuple):
        places = enumerate(left.clauses, start=1)
        return {one: Each(name, place) for place, one in places if isinstance(one, Column)}
    return {}


def _name_of(bind: Any, compiled: Any) -> str | None:
    return compiled.bind_names.get(bind) if isinstance(bind, BindParameter) else None
