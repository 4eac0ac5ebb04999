"""Which rows an INSERT can change that exist already: none, those of its own keys, or any.

ON CONFLICT on the primary key finds the row of the key that was given. ON DUPLICATE KEY, and ON
CONFLICT without or with another target, find a row by any unique index, whose key nobody knows:
of ON CONFLICT, unless RETURNING says it afterwards.
"""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import Column, Table, UniqueConstraint

from sqlmodel_cache.orm import _sqlalchemy


class Existing(enum.Enum):
    """Rows that exist and that an INSERT may change or delete."""

    NONE = "none"
    ITS_OWN = "its own"  # those whose keys it gives
    FOUND = "found"  # any, which keep their keys
    ANY = "any"


_WORST_FIRST = (Existing.ANY, Existing.FOUND, Existing.ITS_OWN)
_HARMLESS_PREFIXES = {"OR IGNORE", "IGNORE", "OR ABORT", "OR FAIL", "OR ROLLBACK"}


def existing_rows(insert: Any, pk: tuple[Column[Any], ...] | None) -> Existing:
    """Judge an INSERT whose table holds a root's primary key in the columns `pk`."""
    if not _HARMLESS_PREFIXES.issuperset(_sqlalchemy.prefixes_of(insert)):
        return Existing.ANY
    kinds = {
        _of_clause(clause, insert.table, pk) for clause in _sqlalchemy.conflict_clauses(insert)
    }
    return next((each for each in _WORST_FIRST if each in kinds), Existing.NONE)


def _of_clause(clause: Any, table: Any, pk: tuple[Column[Any], ...] | None) -> Existing:
    sets = _sqlalchemy.upserted(clause, table)
    if not sets:
        return Existing.NONE if hasattr(clause, "inferred_target_elements") else Existing.ANY
    if pk is None or not isinstance(table, Table):
        return Existing.ANY
    names = frozenset(column.name for column in pk)
    if any(name in names and not _is_excluded(name, value) for name, value in sets):
        return Existing.ANY  # the row gets another key
    if not hasattr(clause, "inferred_target_elements"):  # of MySQL
        only = {column.name for column in table.primary_key} == names and not _has_unique(table)
        return Existing.ITS_OWN if only else Existing.ANY
    columns, constraint = _sqlalchemy.conflict_target(clause) or (frozenset(), None)
    if constraint is not None and constraint == table.primary_key.name:
        columns = frozenset(column.name for column in table.primary_key)
    if columns == names:
        return Existing.ITS_OWN
    return Existing.ANY if any(name in names for name, _ in sets) else Existing.FOUND


def _is_excluded(name: str, value: Any) -> bool:
    """Tell whether a key is set to `excluded.key`: the key that was given, and so its own."""
    selectable = getattr(value, "table", None)
    return getattr(selectable, "name", None) == "excluded" and getattr(value, "name", "") == name


def _has_unique(table: Table) -> bool:
    return any(isinstance(each, UniqueConstraint) for each in table.constraints) or any(
        index.unique for index in table.indexes
    )
