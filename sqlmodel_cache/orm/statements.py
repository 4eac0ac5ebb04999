"""What a compiled statement touches: rows where its WHERE pins their keys, tables otherwise.

Worked out from the statement's structure once per compiled form; a call only picks values out of
its parameters. The ORM's own UPDATE and DELETE pin keys like any other, so flushes, bulk
statements and Core all take this one way in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import BindParameter, Column, SelectBase, TableClause, TextualSelect
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql import operators
from sqlalchemy.sql.ddl import DDL, DropSchema, DropTable
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnElement
from sqlalchemy.sql.visitors import iterate

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.tables import TableMap, Target

# bind names, in the order of a root's primary key
_Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One root touched by one DML element."""

    target: Target
    dml: Any
    names: _Names | None  # parameters that pin the row; None: any row
    insert: bool = False  # rows appear
    upsert: bool = False  # and rows that exist may change
    rekeys: bool = False  # rows may get another key


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that one compiled statement can touch, but for its parameters' values."""

    writes: bool = False
    hits: tuple[Hit, ...] = ()
    tables: frozenset[str] = frozenset()  # roots' tables touched as a whole
    opaque: bool = False  # and whatever its text says


_NOTHING = Analysis()
_memo: WeakKeyDictionary[Any, tuple[TableMap, Analysis]] = WeakKeyDictionary()


def analyse(compiled: Any, tables: TableMap) -> Analysis:
    """Return what `compiled` can touch; remembered as long as the compiled form lives."""
    known = _memo.get(compiled)
    if known is not None and known[0] is tables:
        return known[1]
    found = _NOTHING
    for element in _elements(compiled):
        if getattr(element, "is_dml", False):
            part = _analyse_dml(element, compiled, tables)
            found = Analysis(True, found.hits + part.hits, found.tables | part.tables)
    if is_opaque(compiled):
        found = replace(found, opaque=True)
    _memo[compiled] = (tables, found)
    return found


def is_opaque(compiled: Any) -> bool:
    """Tell whether a part of the statement can be judged by its text only.

    That is text which was given columns, alone or as a WITH, and what users compile themselves.
    """
    return any(
        isinstance(element, TextualSelect)
        or not (isinstance(element, SelectBase) or getattr(element, "is_dml", False))
        for element in _elements(compiled)
    )


def _elements(compiled: Any) -> Iterator[Any]:
    statement = compiled.statement
    yield statement.element if isinstance(statement, FromStatement) else statement
    yield from _sqlalchemy.compiled_ctes(compiled)


def tables_dropped(element: Any, tables: TableMap) -> frozenset[str] | None:
    """Return the roots' tables that a DDL element of SQLAlchemy's drops; None: judge its text.

    What others than SQLAlchemy call DDL is judged by its text, whatever its class is called.
    """
    if isinstance(element, DropTable):
        dropped = {hit.root.table for hit in tables.targets(element.element)}
        return frozenset(dropped | tables.dependants(element.element, deleted=True))
    known = type(element).__module__ == DropTable.__module__
    return frozenset() if known and not isinstance(element, DDL | DropSchema) else None


def _analyse_dml(dml: Any, compiled: Any, tables: TableMap) -> Analysis:
    schema = compiled.dialect.default_schema_name
    if not isinstance(dml.table, TableClause):  # a join (MySQL) or alias: every table in it
        named = [each for each in iterate(dml.table) if isinstance(each, TableClause)]
        return Analysis(
            True,
            (),
            frozenset(hit.root.table for each in named for hit in tables.targets(each, schema)),
        )
    table = dml.table
    whole: set[str] = set()
    if dml.is_insert:
        upsert = _sqlalchemy.is_upsert(dml)
        hits = [
            Hit(target, dml, _insert_names(target, dml), insert=True, upsert=upsert)
            for target in tables.targets(table, schema)
        ]
        if _sqlalchemy.is_replace(dml):
            whole = set(tables.dependants(table, deleted=True))
        elif _sqlalchemy.upsert_columns(dml) & tables.referenced(table):
            whole = set(tables.dependants(table, deleted=False))
        return Analysis(True, tuple(hits), frozenset(whole))
    sets = _sqlalchemy.set_columns(dml, compiled) if dml.is_update else set()
    pins = _pins(dml, compiled)
    hits = [
        Hit(target, dml, _pinned(target, pins), rekeys=_changes_key(target, sets))
        for target in tables.targets(table, schema)
    ]
    if dml.is_delete:
        whole = set(tables.dependants(table, deleted=True))
    elif sets is None or sets & tables.referenced(table):
        whole = set(tables.dependants(table, deleted=False))
    if dml.is_update:
        for other in _sqlalchemy.other_tables_set(dml):
            whole.update(target.root.table for target in tables.targets(other, schema))
            whole |= tables.dependants(other, deleted=False)
    return Analysis(True, tuple(hits), frozenset(whole))


def _pinned(target: Target, pins: Mapping[Column[Any], str]) -> _Names | None:
    names = [pins.get(column) for column in target.pk or ()]
    found = tuple(name for name in names if name is not None)
    return found if found and len(found) == len(names) else None


def _changes_key(target: Target, sets: set[str] | None) -> bool:
    if sets is None or target.pk is None:
        return True
    return any(column.key in sets or column.name in sets for column in target.pk)


def _insert_names(target: Target, insert: Any) -> _Names | None:
    if target.pk is None or insert.select is not None:
        return None
    return tuple(column.key for column in target.pk)


def _pins(dml: Any, compiled: Any) -> dict[Column[Any], str]:
    """Return column -> bind name for each equality that every affected row must satisfy."""
    found: dict[Column[Any], str] = {}
    for part in () if dml.whereclause is None else _conjuncts(dml.whereclause):
        if isinstance(part, BinaryExpression) and part.operator is operators.eq:
            for column, bind in ((part.left, part.right), (part.right, part.left)):
                if isinstance(column, Column) and isinstance(bind, BindParameter):
                    name = compiled.bind_names.get(bind)
                    if name is not None:
                        found[column] = name
    return found


def _conjuncts(clause: ColumnElement[Any]) -> Iterator[ColumnElement[Any]]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _conjuncts(part)
    else:
        yield clause
