"""Which rows a `select(entity)` names by the values of some attributes, and nothing else.

Read off the statement's structure on each call, in a few microseconds: equalities joined by AND,
or one IN. Whatever else stands in the statement makes it a query, which is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import BindParameter
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Tuple

from sqlmodel_cache.orm import _sqlalchemy

Values = tuple[Any, ...]


class Pins(msgspec.Struct, frozen=True):
    """Attributes, and the values that they may have together; `one`: of one row, by equality."""

    names: tuple[str, ...]
    rows: list[Values]
    one: bool

    def by(self, key: tuple[str, ...]) -> list[Values] | None:
        """Return the values in the order of `key`, None if these are not its attributes."""
        if self.names == key:
            return self.rows
        if len(self.names) != len(key) or set(self.names) != set(key):
            return None
        order = [self.names.index(name) for name in key]
        return [tuple(row[position] for position in order) for row in self.rows]


def pinned(statement: Any, mapper: Mapper[Any], params: Any) -> Pins | None:
    """Return what the WHERE of a `select(entity)` pins, None if it is any other query.

    `params` are those given to `Session.execute`.
    """
    criteria = _sqlalchemy.plain_criteria(statement, mapper)
    if not criteria:
        return None
    if not params:
        given: Mapping[str, Any] = {}
    elif isinstance(params, Mapping):
        given = params
    else:
        return None
    if len(criteria) == 1 and type(criteria[0]) is BinaryExpression:
        clause = criteria[0]
        if clause.operator is operators.in_op:
            return _in(clause, mapper, given)
    found: dict[str, Any] = {}
    for part in _conjuncts(criteria):
        if type(part) is not BinaryExpression or part.operator is not operators.eq:
            return None
        name = _attribute(part.left, mapper)
        value = _value(part.right, given, part.left)
        if name is None or name in found or value is None:
            return None  # `= NULL` finds nothing, whatever there is
        found[name] = value
    try:
        hash(values := tuple(found.values()))
    except TypeError:
        return None
    return Pins(tuple(found), [values], True)


def _in(
    clause: BinaryExpression[Any], mapper: Mapper[Any], given: Mapping[str, Any]
) -> Pins | None:
    left, right = clause.left, clause.right
    if type(right) is not BindParameter or not right.expanding:
        return None
    columns = list(left.clauses) if type(left) is Tuple else [left]
    names = tuple(_attribute(column, mapper) for column in columns)
    if None in names or len(set(names)) != len(names):
        return None
    pair: Any = right.type
    types = pair.types if type(left) is Tuple else [pair]
    if any(type_ is not column.type for type_, column in zip(types, columns, strict=True)):
        return None
    values = _given(right, given)
    try:
        rows = [tuple(v) for v in values] if type(left) is Tuple else [(v,) for v in values]
        unique = list(dict.fromkeys(rows))
    except TypeError:
        return None
    if not unique or any(len(row) != len(names) or None in row for row in unique):
        return None
    return Pins(names, unique, False)  # type: ignore[arg-type]


def _conjuncts(criteria: Any) -> Iterator[Any]:
    for clause in criteria:
        if type(clause) is BooleanClauseList and clause.operator is operators.and_:
            yield from _conjuncts(clause.clauses)
        else:
            yield clause


def _attribute(column: Any, mapper: Mapper[Any]) -> str | None:
    return _sqlalchemy.attribute_of(column, mapper)


def _value(bind: Any, given: Mapping[str, Any], column: Any) -> Any:
    """Return the value that goes to the database as `column`'s type, None if there is none."""
    if type(bind) is not BindParameter or bind.expanding or bind.type is not column.type:
        return None
    return _given(bind, given)


def is_computed(bind: BindParameter[Any]) -> bool:
    """Tell whether a function of somebody's is asked for the value, anew at each use.

    SQLAlchemy's own functions read an object that does not change in between.
    """
    function = bind.callable
    if function is None:
        return False
    return (getattr(function, "__module__", None) or "").partition(".")[0] != "sqlalchemy"


def _given(bind: BindParameter[Any], given: Mapping[str, Any]) -> Any:
    if bind.key in given:
        return given[bind.key]
    if is_computed(bind) or bind.required or (given and bind.unique):
        return None  # or it is meant by the name that compiling gives it, such as id_1
    return bind.effective_value
