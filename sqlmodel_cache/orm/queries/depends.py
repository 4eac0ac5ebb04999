"""What a query's result depends on, worked out once per statement's form.

A row that comes, goes or changes matters through the columns that the SQL uses, and by being
there. Of the latter a condition tells more: where every row of a table that takes part must have
`team_id = 3`, rows of other teams may come and go. That is read off the WHERE, for tables that
stand in the FROM once, plainly, with no outer join about; everywhere else a query depends on all
rows of the table that come and go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BindParameter, Column, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping, Null

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.orm import _compiling
from sqlmodel_cache.orm.model.conditions import Stamped, value_codecs
from sqlmodel_cache.orm.model.tables import Root, TableMap
from sqlmodel_cache.orm.queries import stamps
from sqlmodel_cache.orm.writes.named import tables_of

OPTION: Final = "cache_depends"
VALUES_AT_MOST: Final = 16  # of one query; beyond, it depends on all rows that come and go


class Choice(msgspec.Struct, frozen=True):
    """One condition: a column has the value, or one of the values, of a parameter; or is NULL."""

    column: str
    parameter: str | None
    several: bool = False


class Need(msgspec.Struct, frozen=True):
    """What a query needs of one table.

    `columns` are all that it uses. `choices` are conditions of which each row has one, or None;
    `besides` the columns that it uses otherwise.
    """

    root: Root
    where: Stamped
    columns: frozenset[str]
    choices: tuple[Choice, ...] | None = None
    besides: frozenset[str] = frozenset()

    def all(self) -> list[str]:
        """Return the stamps of whatever a transaction can touch that matters here."""
        name = self.where.table.name
        return [stamps.rows(name), *(stamps.column(name, each) for each in sorted(self.columns))]

    def stamps(self, values: Mapping[str, Any], codecs: Mapping[str, Any]) -> list[str]:
        """Return the stamps of this table under these parameters."""
        fine = None if self.choices is None else self._of_values(self.choices, values, codecs)
        return self.all() if fine is None else fine

    def words(self, values: Mapping[str, Any], codecs: Mapping[str, Any]) -> list[str]:
        """Return what `stamps` says, for people."""
        name = self.where.table.name
        columns, said = self.columns, [f"rows of {name} inserted or deleted"]
        if self.choices is not None and self._of_values(self.choices, values, codecs) is not None:
            columns, said = self.besides, []
            for choice in self.choices:
                given = (None,) if choice.parameter is None else values[choice.parameter]
                for value in given if choice.parameter is None or choice.several else (given,):
                    said.append(f"rows that come to or leave {name}.{choice.column} = {value!r}")
        return [*dict.fromkeys(said), *(f"updates of {name}.{each}" for each in sorted(columns))]

    def _of_values(
        self, choices: Sequence[Choice], values: Mapping[str, Any], codecs: Mapping[str, Any]
    ) -> list[str] | None:
        name = self.where.table.name
        found: dict[str, None] = {}
        for choice in choices:
            if choice.parameter is None:
                found[stamps.value(name, choice.column, stamps.NULL)] = None
                continue
            given = values[choice.parameter]
            for value in given if choice.several else (given,):
                text = codecs[choice.column].encode((value,))
                if text is None:
                    return None
                found[stamps.value(name, choice.column, text)] = None
        if len(found) > VALUES_AT_MOST:
            return None
        unknown = {stamps.unknown(name, choice.column): None for choice in choices}
        return [*found, *unknown, *(stamps.column(name, each) for each in sorted(self.besides))]


class Unstamped(Exception):
    """A table's writers send no stamps; the argument says which table."""


def needs_of(
    statement: Any, rendered: _compiling.Rendered, tables: TableMap, dialect: Any
) -> tuple[Need, ...]:
    """Return what a statement needs of each of its tables, in the order of its FROM.

    The columns of instances are none of it: their rows are looked up one by one. Raises Unstamped.
    """
    used = rendered.columns + rendered.listed
    needs = []
    for table in rendered.tables:
        root, where = stamped_root(table, tables)
        columns = frozenset(name for (other, name) in used if other is table)
        need = Need(root, where, columns)
        if rendered.tables[table] == 1 and table in rendered.single and not rendered.outer:
            need = _refined(need, statement, rendered, dialect, used)
        needs.append(need)
    return tuple(needs)


def checked_depends(value: Any) -> tuple[Any, ...]:
    """Return what `cache_depends` names; raises ConfigurationError if it is no list, or empty."""
    if not isinstance(value, list | tuple) or not value:
        raise ConfigurationError(
            f"execution option {OPTION}={value!r} is not valid; use a list of mapped classes,"
            f" Tables or names of tables, such as {OPTION}=[Hero, 'team']"
        )
    return tuple(value)


def declared_needs(named: Sequence[Any], tables: TableMap, dialect: Any) -> tuple[Need, ...]:
    """Return the needs of a statement of which somebody says what it depends on: all columns.

    Raises Unstamped, and ConfigurationError for what names no table.
    """
    schema = dialect.default_schema_name
    found = [table for each in named for table in tables_of(each, tables, schema, OPTION)]
    needs = []
    for table in dict.fromkeys(found):
        root, where = stamped_root(table, tables)
        needs.append(Need(root, where, frozenset(column.name for column in table.columns)))
    return tuple(needs)


def stamped_root(table: Table, tables: TableMap) -> tuple[Root, Stamped]:
    """Return a root whose stamps tell of a table. Raises Unstamped if none does."""
    targets = sorted(tables.targets(table), key=lambda target: target.root.table)
    for target in targets:
        for where in target.root.stamped:
            if where.table is table and where.sure is not None:
                return target.root, where
    raise Unstamped(table.fullname)


def _refined(
    need: Need,
    statement: Any,
    rendered: _compiling.Rendered,
    dialect: Any,
    used: Counter[_compiling.Place],
) -> Need:
    table = need.where.table
    told = (need.where.sure or frozenset()).intersection(value_codecs(need.where, dialect))
    finder = _Finder(table, told, rendered)
    where = getattr(statement, "whereclause", None)  # a union has none
    choices = None if where is None else finder.choices(where)
    if choices is None:
        return need
    mine = Counter(choice.column for choice in choices)
    besides = frozenset(name for name in need.columns if used[table, name] > mine[name])
    return Need(need.root, need.where, need.columns, choices, besides)


class _Finder:
    """Conditions on one table's columns in a WHERE."""

    def __init__(
        self, table: Table, columns: frozenset[str], rendered: _compiling.Rendered
    ) -> None:
        self._table = table
        self._columns = columns
        self._rendered = rendered

    def choices(self, clause: Any) -> tuple[Choice, ...] | None:
        """Return conditions of which each row that satisfies `clause` has one, None for none."""
        if isinstance(clause, Grouping):
            return self.choices(clause.element)
        if isinstance(clause, BooleanClauseList):
            parts = [self.choices(part) for part in clause.clauses]
            if clause.operator is operators.and_:
                return min((part for part in parts if part is not None), key=_width, default=None)
            if clause.operator is operators.or_ and None not in parts:
                return tuple(choice for part in parts for choice in part or ())
            return None
        return self._of_one(clause) if isinstance(clause, BinaryExpression) else None

    def _of_one(self, clause: BinaryExpression[Any]) -> tuple[Choice, ...] | None:
        if clause.operator is operators.eq:
            sides = ((clause.left, clause.right), (clause.right, clause.left))
        else:
            sides = ((clause.left, clause.right),)  # type: ignore[assignment]
        for left, right in sides:
            name = self._column(left)
            if name is None:
                continue
            if clause.operator is operators.is_ and isinstance(right, Null):
                return (Choice(name, None),)
            if not isinstance(right, BindParameter) or right.type is not left.type:
                continue
            several = clause.operator is operators.in_op
            if clause.operator is not operators.eq and not several:
                continue
            parameter = self._rendered.name_of(right)
            if parameter is not None and bool(right.expanding) is several:
                return (Choice(name, parameter, several),)
        return None

    def _column(self, column: Any) -> str | None:
        place = _compiling.plain(column) if isinstance(column, Column) else None
        if place is None or place[0] is not self._table or place[1] not in self._columns:
            return None
        return place[1]


def _width(choices: Sequence[Choice]) -> tuple[int, int]:
    """Order conditions: one value before NULL before a list of them, few before many."""
    return (sum(2 if c.several else 1 for c in choices), sum(c.parameter is None for c in choices))
