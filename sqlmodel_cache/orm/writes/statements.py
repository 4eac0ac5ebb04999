"""What a compiled statement touches: rows where its WHERE pins their keys, tables otherwise.

Worked out from the statement's structure once per compiled form; a call only picks values out of
its parameters. The ORM's own UPDATE and DELETE pin keys like any other, so flushes, bulk
statements and Core all take this one way in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import SelectBase, TableClause, TextualSelect
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql.ddl import DDL, CreateTable, DropSchema, DropTable
from sqlalchemy.sql.visitors import iterate

from sqlmodel_cache.orm import _compiling, _sqlalchemy
from sqlmodel_cache.orm.model.tables import TableMap, Target
from sqlmodel_cache.orm.writes.appearing import Appearing, appearing
from sqlmodel_cache.orm.writes.rows import Row, inserted, pinned, returned
from sqlmodel_cache.orm.writes.upserts import Existing, existing_rows


@dataclass(frozen=True, slots=True)
class Hit:
    """One root touched by one DML element."""

    target: Target
    dml: Any
    rows: tuple[Row, ...] | None  # None: any row
    insert: bool = False  # rows appear
    existing: Existing = Existing.NONE  # and these may change
    rekeys: bool = False  # rows may get another key, or make way for those that change
    appearing: tuple[Appearing, ...] = ()  # values of unique keys
    returned: tuple[int, ...] | None = None  # where its own rows have the key of each row


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
    yield from _compiling.ctes_of(compiled)


def tables_emptied(element: Any, tables: TableMap) -> frozenset[str] | None:
    """Return the roots' tables that a DDL element of SQLAlchemy's empties; None: judge its text.

    A table that is created is empty, whoever dropped the one before. What others than SQLAlchemy
    call DDL is judged by its text, whatever its class is called.
    """
    if isinstance(element, CreateTable):
        return frozenset(hit.root.table for hit in tables.targets(element.element))
    if isinstance(element, DropTable):
        dropped = {hit.root.table for hit in tables.targets(element.element)}
        return frozenset(dropped | tables.dependants(element.element, deleted=True))
    known = type(element).__module__ == DropTable.__module__
    return frozenset() if known and not isinstance(element, DDL | DropSchema) else None


def _analyse_dml(dml: Any, compiled: Any, tables: TableMap) -> Analysis:
    schema = compiled.dialect.default_schema_name
    table = _compiling.table_of(dml)
    if not isinstance(table, TableClause):
        # A join (MySQL; a class that loads subclasses by one) or alias: every table in it.
        named = [each for each in iterate(table) if isinstance(each, TableClause)]
        own = {hit.root.table for each in named for hit in tables.targets(each, schema)}
        more = (tables.dependants(each, deleted=dml.is_delete) for each in named)
        return Analysis(True, (), frozenset(own.union(*more)))
    whole: set[str] = set()
    if dml.is_insert:
        clauses = _sqlalchemy.conflict_clauses(dml)
        sets = {name for clause in clauses for name, _ in _sqlalchemy.upserted(clause, table)}
        hits = [
            Hit(
                target,
                dml,
                inserted(dml, target.pk, compiled),
                insert=True,
                existing=existing_rows(dml, target.pk),
                appearing=appearing(target.root, dml, compiled, sets),
                returned=returned(dml, target.pk, compiled),
            )
            for target in tables.targets(table, schema)
        ]
        if any("REPLACE" in prefix for prefix in _sqlalchemy.prefixes_of(dml)):
            whole = set(tables.dependants(table, deleted=True))
        elif sets & tables.referenced(table):
            whole = set(tables.dependants(table, deleted=False))
        return Analysis(True, tuple(hits), frozenset(whole))
    changed = _sqlalchemy.set_columns(dml, compiled) if dml.is_update else set()
    replaces = any("REPLACE" in prefix for prefix in _sqlalchemy.prefixes_of(dml))
    hits = [
        Hit(
            target,
            dml,
            pinned(dml.whereclause, target.pk, compiled),
            rekeys=replaces or _changes_key(target, changed),
            appearing=appearing(target.root, dml, compiled, changed),
            returned=returned(dml, target.pk, compiled),
        )
        for target in tables.targets(table, schema)
    ]
    if dml.is_delete or replaces:
        whole = set(tables.dependants(table, deleted=True))
    elif changed is None or changed & tables.referenced(table):
        whole = set(tables.dependants(table, deleted=False))
    if dml.is_update:
        for other in _sqlalchemy.other_tables_set(dml, table):
            whole.update(target.root.table for target in tables.targets(other, schema))
            whole |= tables.dependants(other, deleted=False)
    return Analysis(True, tuple(hits), frozenset(whole))


def _changes_key(target: Target, sets: set[str] | None) -> bool:
    if sets is None or target.pk is None:
        return True
    return any(column.name in sets for column in target.pk)
